"""The picture of the cut that can be dragged: a cell drawn by lot is computed anew, its ghost by hand."""

import json
import secrets

import pytest
import torch
from compactvision import data, dragged_cut, models, surgery


@pytest.fixture(scope="module")
def graph():
    return surgery.channel_graph(models.pretrained(dragged_cut.NETWORK), (3, 32, 32))


@pytest.fixture(scope="module")
def stored(repo):
    path = repo / "book" / "_static" / "dragged-cut-data.js"
    if not path.is_file():
        pytest.skip("the data of the picture were not made: python -m compactvision.dragged_cut")
    text = path.read_text()
    return json.loads(text.removeprefix("window.cvDraggedCut = ").rstrip().removesuffix(";"))


def test_the_ghost_is_the_network_with_zeros_in_front_of_batchnorm(graph):
    """By hooks on each layer's output, which know nothing of weights."""
    plan = surgery.make_plan(graph, surgery.criteria.l1(), keep_macs=0.6)
    model, handles = graph.model, []
    for name, layer in graph.layers.items():
        if layer.kind in ("conv", "map"):
            keep = plan.kept[layer.writes].float().view(1, -1, 1, 1)
            handles.append(model.get_submodule(name).register_forward_hook(lambda m, a, out, keep=keep: out * keep))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        for handle in handles:
            handle.remove()
        assert torch.allclose(dragged_cut.ghost(model, plan)(images), expected, atol=1e-5)
        assert not torch.allclose(surgery.prune(model, plan)(images), expected, atol=1e-2)


def test_a_cell_drawn_by_lot_is_computed_anew(graph, stored):
    rule = secrets.choice(["l1", "scale", "reverse"])
    place, state = secrets.randbelow(len(stored["budgets"])), secrets.choice(dragged_cut.STATES)
    criteria = surgery.criteria
    score = {"l1": criteria.l1(), "scale": criteria.batch_norm_scale(), "reverse": criteria.reverse(criteria.l1())}
    plan = surgery.make_plan(graph, score[rule], keep_macs=stored["budgets"][place] / 100)
    cell = stored["cells"][rule][place]
    groups = graph.groups.values()
    assert cell["kept"] == ["".join(str(int(k)) for k in plan.kept[g.units]) for g in groups], (rule, place)
    found = "".join(map(str, dragged_cut.answers(graph.model, plan, state).tolist()))
    differ = sum(a != b for a, b in zip(found, cell[state], strict=True))
    assert differ <= 1, (rule, place, state)  # a tie may fall the other way on another processor


def test_the_characters_are_those_of_the_test_set(stored):
    test = data.load("glyphs", train=False, n=dragged_cut.TEST)
    assert stored["targets"] == "".join(map(str, test.targets.tolist()))
    assert stored["classes"] == list(test.classes)
