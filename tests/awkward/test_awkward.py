"""Ready-made networks are cut, and the page's table is that of the stored run."""

import json

import pytest
import torch
from compactvision import awkward
from compactvision.awkward import __main__ as command
from compactvision.awkward import table, trial
from torch import nn

FAST = ("shufflenet_v2_x1_0", "squeezenet1_1", "mnasnet0_5", "mobilenet_v3_small")
FAST_OF_TIMM = ("ghostnet_100", "eca_resnet33ts", "skresnet18")
BY_NAME = {(network.source, network.name): network for network in awkward.NETWORKS}
ROWS = {(row["source"], row["name"]): row for row in awkward.read()["rows"]}


@pytest.mark.parametrize("name", FAST)
def test_fast_ones_come_out_as_stored(name):
    found, stored = awkward.attempt(BY_NAME["torchvision", name]), ROWS["torchvision", name]
    assert found["cut"] is stored["cut"] is True
    assert {**found, "difference": 0, "seconds": 0} == {**stored, "difference": 0, "seconds": 0}
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
    assert set(record["versions"]) == {"torch", "torchvision", "timm"}
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


def test_a_network_that_takes_too_long_or_dies_is_a_row(monkeypatch):
    monkeypatch.setattr(table, "attempt", lambda network: torch.zeros(2).view(network.size))
    (row,) = table.make([awkward.Network("torchvision", "resnet18", 3)])["rows"]
    assert row["reason"].startswith("RuntimeError: shape '[3]' is invalid")
    (row,) = table.make([awkward.Network("torchvision", "resnet18", 3)], limit=0.0)["rows"]
    assert row["reason"] == "not done within 0 seconds"


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
