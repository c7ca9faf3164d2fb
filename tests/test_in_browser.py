"""What the page "Try it" is given: small enough for a page, and what the package itself would say."""

import base64
import json
import re

import pytest
import torch
from compactvision import data, in_browser, measure, models, surgery
from compactvision.models import shipped


@pytest.fixture(scope="module")
def payload():
    return in_browser.payload()


@pytest.fixture(scope="module")
def model():
    return models.pretrained(in_browser.NETWORK)


def test_the_network_is_small_enough_for_a_page(payload, model):
    assert len(payload["network"]["weights"]) <= 300_000
    assert payload["macs"] == measure.macs(model, (3, 32, 32)) <= 2_000_000
    assert payload["parameters"] == measure.parameters(model)


def test_it_knows_its_characters(model):
    test = data.load("glyphs", train=False, n=in_browser.TEST)
    assert measure.accuracy(model, test.batches(100)) > 0.9


def test_the_weights_are_the_shipped_file(payload):
    sent = base64.b64decode(payload["network"]["weights"])
    assert sent == (shipped.WEIGHTS / f"{in_browser.NETWORK}.safetensors").read_bytes()


def test_the_layers_are_named_in_the_order_of_the_forward_pass(payload, model):
    modules = dict(model.named_modules())
    order = list(modules.values())
    places = []
    for block in payload["network"]["blocks"]:
        conv, norm = modules[block["conv"]], modules[block["norm"]]
        assert isinstance(conv, torch.nn.Conv2d)
        assert norm.num_features == conv.out_channels
        assert isinstance(order[order.index(norm) + 2], torch.nn.MaxPool2d) == block["pool"]
        places.append(order.index(conv))
    assert places == sorted(places)
    assert len(places) == sum(isinstance(module, torch.nn.Conv2d) for module in order)
    assert modules[payload["network"]["head"]] is model.classifier


def test_the_characters_are_the_test_set_and_the_first_of_the_training_set(payload):
    test, known = data.load("glyphs", train=False, n=200), data.load("glyphs", n=50)
    assert base64.b64decode(payload["test"]["images"]) == test.images.numpy().tobytes()
    assert payload["test"]["targets"] == test.targets.tolist()
    assert base64.b64decode(payload["renewal"]["images"]) == known.images.numpy().tobytes()
    assert payload["classes"] == list(test.classes)
    assert (payload["mean"], payload["std"]) == (list(test.mean), list(test.std))


def test_scores_are_those_of_the_importance(model, payload):
    graph = surgery.channel_graph(model, (3, 32, 32))
    taylor = surgery.criteria.taylor(data.load("glyphs", n=200).batches(100))(model)
    l1 = surgery.criteria.l1()(model)
    for place, block in enumerate(payload["network"]["blocks"]):
        assert payload["scores"]["l1"][place] == pytest.approx(l1[block["conv"]].tolist(), rel=1e-6)
        assert payload["scores"]["taylor"][place] == pytest.approx(taylor[block["norm"]].tolist(), rel=1e-6)
        assert len(payload["scores"]["l1"][place]) == graph.group_of(block["conv"]).size


@pytest.mark.parametrize(
    "other",
    [models.small_cnn(norm=False), models.small_cnn(head="fc"), models.resnet20(), "small_cnn"],
    ids=["no norm", "no average", "another family", "no network"],
)
def test_networks_that_the_page_cannot_run_are_refused(other):
    with pytest.raises(ValueError, match="model"):
        in_browser.description(other)


def test_an_importance_that_is_none_is_refused(model):
    with pytest.raises(ValueError, match="importance"):
        in_browser.scores(model, "l1")


def test_too_large_a_network_is_refused(monkeypatch):
    monkeypatch.setattr(in_browser, "LARGEST_MACS", 1_000_000)
    with pytest.raises(ValueError, match="MACs"):
        in_browser.payload()


def test_the_command_writes_a_script_that_nobody_runs_once(tmp_path, capsys, monkeypatch):
    path = tmp_path / "generated" / "try-it.html"
    monkeypatch.setattr(in_browser, "payload", lambda: {"classes": ["</script>"]})
    in_browser.main([str(path)])
    written = path.stat().st_mtime_ns
    in_browser.main([str(path)])
    assert path.stat().st_mtime_ns == written
    assert capsys.readouterr().out == f"{path}\n" * 2
    (content,) = re.findall(r'<script type="application/json" id="cv-try-it-data">(.*?)</script>\n', path.read_text())
    assert json.loads(content) == {"classes": ["</script>"]}


def test_the_lines_of_the_page_run_and_its_fifty_are_the_code_s(repo, capsys):
    text = (repo / "book" / "try-it.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "fifty training" in " ".join(text.split())
    assert f"n={in_browser.RENEWAL})" in lines
    exec(lines, {})
    assert float(capsys.readouterr().out) > 0.8


def test_the_page_teaches_in_few_words(repo):
    prose = re.sub(r"```.*?```", "", (repo / "book" / "try-it.md").read_text(), flags=re.DOTALL)
    assert len(prose.split()) < 300
