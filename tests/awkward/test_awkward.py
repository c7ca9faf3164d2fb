"""Ready-made networks are cut, and the page's table is that of the stored run."""

import json
import os
import time

import pytest
import torch
from compactvision import awkward
from compactvision.awkward import __main__ as command
from compactvision.awkward import table, together, trial
from compactvision.shrinking import onnx_file
from torch import nn

FAST = ("shufflenet_v2_x1_0", "squeezenet1_1", "mnasnet0_5", "mobilenet_v3_small")
FAST_OF_TIMM = ("ghostnet_100", "eca_resnet33ts", "skresnet18")
BY_NAME = {(network.source, network.name): network for network in awkward.NETWORKS}
ROWS = {(row["source"], row["name"]): row for row in awkward.read()["rows"]}


@pytest.mark.parametrize("name", FAST)
def test_fast_ones_come_out_as_stored(name):
    found, stored = awkward.attempt(BY_NAME["torchvision", name]), ROWS["torchvision", name]
    assert found["cut"] is stored["cut"] is True
    assert found == {
        **{key: value for key, value in stored.items() if key != "onnx"},
        "difference": found["difference"],
    }
    assert found["difference"] < 1e-9


@pytest.mark.parametrize("name", FAST_OF_TIMM)
def test_those_of_timm_come_out_as_stored_where_it_is_installed(name):
    pytest.importorskip("timm")
    found, stored = awkward.attempt(BY_NAME["timm", name]), ROWS["timm", name]
    assert found["cut"] == stored["cut"]


def test_the_record_is_of_known_networks_and_few_of_timm_are_refused():
    record = awkward.read()
    assert list(ROWS) == list(BY_NAME)  # all of them, in the catalogue's order
    assert not record["dirty"]
    assert set(record["versions"]) >= {"torch", "torchvision", "timm"}
    assert all(record["versions"].values())
    assert all(row["cut"] for row in record["rows"] if row["source"] == "torchvision")
    assert sum(not row["cut"] for row in record["rows"] if row["source"] == "timm") <= 2
    for row in record["rows"]:
        assert row["cut"] or row["reason"]
        if row["cut"]:
            assert row["macs_left"] <= 0.7
            assert row["difference"] <= trial.BOUND
            assert row["trained"] and row["loaded"] and row["exported"]  # noqa: PT018


def _of_page(row):
    """Torchvision's before timm's, and those that are cut first."""
    return row["source"] != "torchvision", not row["cut"]  # a stable sort keeps the rest


def test_the_page_shows_the_record(tmp_path):
    record = awkward.read()
    command.main(["--page", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(lines) == len(record["rows"])
    for row, line in zip(sorted(record["rows"], key=_of_page), lines, strict=True):
        assert line.startswith(f"| `{row['name']}`, {row['size']} px | ")
        assert not row["cut"] or f"{row['macs_left']:.1%} | {row['parameters_left']:.1%} | {row['groups']} " in line
    assert record["commit"][:10] in page


def test_a_record_is_written_as_it_is_read(tmp_path):
    record = awkward.read()
    table.write(record, tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text()) == record
    assert (tmp_path / "table.json").read_bytes() == awkward.FILE.read_bytes()


SMALL = [awkward.Network("torchvision", name, 16) for name in ("one", "two", "three")]
NO_TIME = together.Limits(cut=0.0, onnx=1.0)


def _tiny(self):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()


def _row(network, then=None):
    if then is not None:
        then(network.name, None)
    return {"source": network.source, "name": network.name, "cut": True}


def test_a_network_that_takes_too_long_or_dies_is_a_row(monkeypatch):
    monkeypatch.setattr(together, "attempt", lambda network, then: torch.zeros(2).view(network.size))
    (row,) = table.make([awkward.Network("torchvision", "resnet18", 3)])["rows"]
    assert row["reason"].startswith("RuntimeError: shape '[3]' is invalid")
    monkeypatch.setattr(together, "attempt", lambda network, then: time.sleep(30))
    (row,) = table.make(SMALL[:1], limits=NO_TIME)["rows"]
    assert row["reason"] == "not done within 0 seconds"
    monkeypatch.setattr(together, "attempt", lambda network, then: os._exit(3))
    (row,) = table.make(SMALL[:1])["rows"]
    assert row["reason"] == "its process ended without an answer"


def test_an_onnx_file_that_takes_too_long_or_ends_its_process_is_said_and_decides_nothing(monkeypatch):
    ends = {"one": lambda: 1e-7, "two": lambda: os._exit(3), "three": lambda: time.sleep(30)}
    monkeypatch.setattr(together, "attempt", _row)
    monkeypatch.setattr(together, "by_onnx", lambda name, images: ends[name]())
    rows = table.make(SMALL, limits=together.Limits(cut=20.0, onnx=2.0))["rows"]
    assert all(row["cut"] for row in rows)
    assert [row["onnx"] for row in rows] == [1e-7, "its process ended without an answer", "not done within 2 seconds"]
    assert "onnx" not in table.make(SMALL[:1], limits=together.Limits(cut=20.0, onnx=0.0))["rows"][0]


def test_several_at_once_stand_in_the_order_that_was_asked_for(monkeypatch):
    def attempt(network, then):
        time.sleep({"one": 1.0, "two": 0.0, "three": 30.0}[network.name])
        return _row(network)

    monkeypatch.setattr(together, "attempt", attempt)
    said = []
    limits = together.Limits(cut=5.0, onnx=0.0)
    rows = table.make(SMALL, processes=2, limits=limits, say=said.append)["rows"]
    assert [row["name"] for row in rows] == ["one", "two", "three"]
    assert [row["cut"] for row in rows] == [True, True, False]
    assert [line.split()[1] for line in said] == ["two:", "one:", "three:"]


def test_a_run_goes_on_where_it_was_unless_the_code_is_another(monkeypatch, tmp_path):
    tried = []
    monkeypatch.setattr(table.records, "commit", lambda: ("a" * 40, False))
    monkeypatch.setattr(table, "each_alone", lambda networks, limits, processes, done: [
        (tried.append(network.name), done(network, {"name": network.name, "cut": True})) for network in networks
    ])  # fmt: skip
    table.make(SMALL[:2], work=tmp_path)
    record = table.make(SMALL, work=tmp_path)
    assert tried == ["one", "two", "three"]
    assert [row["name"] for row in record["rows"]] == ["one", "two", "three"]
    monkeypatch.setattr(table.records, "commit", lambda: ("b" * 40, False))
    table.make(SMALL[:1], work=tmp_path)
    monkeypatch.setattr(table.records, "commit", lambda: ("b" * 40, True))
    table.make(SMALL[:1], work=tmp_path)
    assert tried == ["one", "two", "three", "one", "one"]


def test_an_onnx_file_is_tried_and_compared(monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(awkward.Network, "build", _tiny)
    found = []
    assert awkward.attempt(SMALL[0], lambda *small: found.append(trial.by_onnx(*small)))["cut"]
    assert 0 <= found[0] < 1e-5


def test_what_has_no_onnx_form_says_why(monkeypatch):
    def fail(*given, **options):
        try:
            raise KeyError("aten.nothing")
        except KeyError as error:
            raise RuntimeError("Failed to convert\nmuch more") from error

    monkeypatch.setattr(torch.onnx, "export", fail)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert trial.by_onnx(_tiny(None).double(), images) == "KeyError: 'aten.nothing'"
    monkeypatch.setattr(onnx_file, "missing", lambda: "onnxscript")
    assert trial.by_onnx(_tiny(None).double(), images) == "onnxscript is not installed"


@pytest.mark.parametrize(
    ("found", "shown"), [(None, "not tried"), (2.6e-7, "3e-07"), ("Oops: a | b", "none: Oops: a \\| b")]
)
def test_the_column_says_what_came_of_the_onnx_file(found, shown):
    record = awkward.read()
    bare = {key: value for key, value in record["rows"][0].items() if key != "onnx"}
    rows = [bare if found is None else {**bare, "onnx": found}, {**bare, "onnx": 1e-6}]
    text = table.markdown({**record, "rows": rows})
    assert f" | {shown} |\n" in text
    assert "| difference | ONNX |" in text
    assert "ONNX" not in table.markdown({**record, "rows": [bare]})


def test_a_network_of_which_little_can_go_is_refused(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 3), nn.Conv2d(2, 4, 1))
    monkeypatch.setattr(awkward.Network, "build", lambda self: model)
    row = awkward.attempt(awkward.Network("torchvision", "small", 16))
    assert not row["cut"]
    assert row["kept"] == {"group_norm": 1}
    assert row["reason"].startswith("only ")
    assert row["reason"].endswith("of the MACs can go at half the widths")


def test_a_name_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["resnet1"])
    assert "NAME must be one of resnet18" in capsys.readouterr().err
