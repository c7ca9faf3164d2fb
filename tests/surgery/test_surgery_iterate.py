import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.surgery import criteria


@pytest.fixture(scope="module")
def model():
    return models.resnet.ResNet(1, generator=torch.Generator().manual_seed(0), width=8)


SHAPE = (3, 16, 16)


def test_one_round_is_one_plan(model):
    small, rows = surgery.iterate(model, SHAPE, criteria.l1(), keep_macs=0.5)
    plan = surgery.make_plan(surgery.channel_graph(model, SHAPE), criteria.l1()(model), keep_macs=0.5)
    assert len(rows) == 1
    assert torch.equal(rows[0].plan.kept, plan.kept)
    assert (rows[0].parameters, rows[0].macs) == (measure.parameters(small), measure.macs(small, SHAPE))
    assert torch.equal(small.conv1.weight, surgery.prune(model, plan).conv1.weight)


@pytest.mark.parametrize("budget", ["keep_macs", "keep_parameters"])
def test_rounds_go_in_equal_steps_and_end_within_the_budget(model, budget):
    dense = measure.macs(model, SHAPE) if budget == "keep_macs" else measure.parameters(model)
    small, rows = surgery.iterate(model, SHAPE, criteria.l2(), **{budget: 0.4}, rounds=3)
    for row, share in zip(rows, (0.8, 0.6, 0.4), strict=True):
        assert 0.93 * share * dense < getattr(row, budget.removeprefix("keep_")) <= share * dense
    assert [row.number for row in rows] == [1, 2, 3]
    assert rows[-1].macs == measure.macs(small, SHAPE)


def test_widths_do_not_depend_on_the_number_of_rounds(model):
    widths = []
    for rounds in (1, 4):
        _, rows = surgery.iterate(model, SHAPE, criteria.constant(), keep=0.4, rounds=rounds)
        widths.append(rows[-1].plan.widths)
    assert widths[0] == widths[1] == {name: int(size * 0.4) for name, size in _sizes(model).items()}


def test_shares_may_name_groups(model):
    _, rows = surgery.iterate(model, SHAPE, criteria.l1(), keep={"layer1.0.conv2": 0.5}, rounds=2)
    assert [row.plan.widths["conv1"] for row in rows] == [6, 4]
    assert rows[-1].plan.widths["layer2.0.conv1"] == 16


def _sizes(model):
    return {name: group.size for name, group in surgery.channel_graph(model, SHAPE).groups.items()}


def test_global_pruning_removes_equal_counts_over_the_whole_network(model):
    total = sum(_sizes(model).values())
    _, rows = surgery.iterate(model, SHAPE, criteria.l1(), keep=0.5, global_pruning=True, rounds=5, normalise="mean")
    left = [sum(row.plan.widths.values()) for row in rows]
    assert left == [total - round(0.1 * number * total) for number in range(1, 6)]


def test_scores_are_computed_anew_and_tuning_follows_each_cut(model):
    calls = []

    def importance(network):
        calls.append(("score", measure.parameters(network)))
        return criteria.l1()(network)

    def tune(network):
        calls.append(("tune", measure.parameters(network)))
        with torch.no_grad():
            network.fc.bias.add_(1)

    before = model.fc.bias.clone()
    small, rows = surgery.iterate(model, SHAPE, importance, keep=0.5, rounds=2, tune=tune)
    sizes = [measure.parameters(model), *(row.parameters for row in rows)]
    assert calls == [("score", sizes[0]), ("tune", sizes[1]), ("score", sizes[1]), ("tune", sizes[2])]
    torch.testing.assert_close(small.fc.bias, before + 2)
    assert torch.equal(model.fc.bias, before)


@pytest.mark.parametrize("residual", ["scatter", "gather"])
def test_forms_that_keep_the_stream_can_be_iterated(model, residual):
    importance = criteria.l1() if residual == "scatter" else _input_norms
    select = lambda graph: graph.only(kinds=residual)  # noqa: E731
    small, rows = surgery.iterate(model, SHAPE, importance, keep=0.25, rounds=3, residual=residual, select=select)
    assert {group.kind for group in rows[-1].plan.graph.groups.values()} == {residual}
    kept = rows[-1].plan.widths
    assert kept == {name: int(group.size * 0.25) for name, group in _first(model, residual, select).items()}
    assert measure.macs(small, SHAPE) == rows[-1].macs


def _first(model, residual, select):
    return select(surgery.channel_graph(model, SHAPE, residual=residual)).groups


def _input_norms(model):
    """Scores of what each layer reads, under the names of the selections; some layers read no stream."""
    graph = surgery.channel_graph(model, SHAPE, residual="gather")
    layers = {name: module for name, _, module in surgery.named_layers(model)}
    return {
        name: layers[name.removesuffix(":in")].weight.detach().transpose(0, 1).flatten(1).norm(dim=1)
        for name, group in graph.groups.items()
        if group.kind == "gather"
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0, "keep": 0.5}, "rounds must be at least 1, got 0"),
        ({}, "exactly one budget of keep, keep_macs, keep_parameters is needed, got none"),
        ({"keep": 0.5, "keep_macs": 0.5}, "got keep, keep_macs"),
        ({"keep": {"conv1": -1}}, r"keep must be in \(0, 1\], the share that stays, got -1"),
        ({"keep": 0.0}, r"keep must be in \(0, 1\], the share that stays, got 0.0"),
        ({"keep_macs": 1.5}, r"keep_macs must be in \(0, 1\], .*, got 1.5"),
        ({"keep": True}, r"keep must be in \(0, 1\], .*, got True"),
    ],
)
def test_bad_options_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        surgery.iterate(model, SHAPE, criteria.l1(), **options)
