"""The authors' toy as an arm: what the chapter's cells train, on points it draws, and never called more than it is."""

import json
from types import SimpleNamespace

import pytest
import torch
from compactvision import records
from compactvision.queue import arms, state, worker
from compactvision.queue.arms import lrp_pruning
from compactvision.queue.entries import find
from compactvision.queue.recipes import Scale


@pytest.fixture(scope="module")
def cell(repo):
    """What the chapter's cell defines."""
    cells = json.loads((repo / "notebooks" / "lrp_pruning.ipynb").read_text(encoding="utf-8"))["cells"]
    source = next("".join(one["source"]) for one in cells if one["id"] == "relevance-34a")
    run = SimpleNamespace(seed=0, device="cpu")
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "run": run}
    exec(source, names)
    return names


def test_the_rule_is_the_chapters(cell):
    a, weight, relevance = torch.randn(3, 4), torch.randn(5, 4), torch.randn(3, 5)
    pair = [f(torch.nn.functional.linear, a, weight, None, relevance) for f in (lrp_pruning.rule, cell["authors_rule"])]
    assert torch.equal(*pair)
    assert pair[0].abs().sum() > 0


def test_the_network_is_the_chapters(cell):
    theirs = cell["authors_network"](torch.zeros(4, 2), torch.tensor([0, 1, 2, 3]), steps=0)
    assert str(lrp_pruning.network(4).eval()) == str(theirs)


def test_points_are_drawn_and_a_shortened_training_is_scaled(tmp_path, monkeypatch):
    monkeypatch.setattr(lrp_pruning, "UNITS", 20)
    monkeypatch.setattr(lrp_pruning, "DRAWS", 2)
    entry, scale = find("lrp_pruning/moons"), Scale(epochs=40, batch_size=100)
    places = state.Places(tmp_path / "work", tmp_path / "out", scale.kind)
    assert worker.work(entry, 0, scale, places, torch.device("cpu")) == worker.FINISHED
    record = records.read(next(tmp_path.rglob(state.RECORD)))
    assert (record.profile, record.data, record.values("run.steps")) == ("scaled", [], [40])
    assert set(record.names) >= {f"moons.{rule}" for rule in ("whole", "lrp", "taylor", "gradient", "l1", "random")}


def test_a_training_with_fewer_steps_is_not_called_trained(tmp_path, monkeypatch):
    arm = arms.find(find("lrp_pruning/moons"))
    monkeypatch.setattr(lrp_pruning, "UNITS", 20)
    monkeypatch.setattr(lrp_pruning, "_fit", lambda job, model, points: setattr(job, "steps_taken", 9_999))
    monkeypatch.setattr(lrp_pruning, "DRAWS", 1)
    places = state.Places(tmp_path / "work", tmp_path / "out", "trained")
    assert worker.work(find("lrp_pruning/moons"), 0, Scale(), places, torch.device("cpu")) == worker.FAILED
    told = state.progress(places.folder(find("lrp_pruning/moons"), 0))["error"]
    assert "9999 steps on drawn points are not those of the paper's training" in told
    assert arm.recipe.epochs == 10_000
