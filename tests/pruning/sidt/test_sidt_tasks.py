"""The two tasks of the chapter, their whole networks, and how these were trained."""

import dataclasses
import json

import pytest
import torch
from compactvision import measure, surgery, whole_networks
from compactvision.pruning import sidt

tasks, whole = sidt.tasks, sidt.whole


@pytest.mark.parametrize(("name", "parameters"), [("naming", 303_532), ("boxes", 357_488)])
def test_networks_are_the_same_for_a_generator(name, parameters):
    first, second, other = (tasks.build(name, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert measure.parameters(first) == parameters
    a, b, c = (torch.cat([p.flatten() for p in network.parameters()]) for network in (first, second, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_shipped_networks_do_what_their_records_say():
    naming, boxes = tasks.TASKS["naming"], tasks.TASKS["boxes"]
    named = naming.score(tasks.dense("naming"), naming.load(False, whole.SEED, 300))
    assert abs(named - tasks.dense_record("naming")["test_accuracy"]) < 0.03
    found = boxes.score(tasks.dense("boxes"), boxes.load(False, whole.SEED, 100))
    assert abs(found - tasks.dense_record("boxes")["test_ap"]) < 0.06


@pytest.mark.parametrize("name", tasks.TASKS)
def test_records_tell_the_recipe(name):
    record = tasks.dense_record(name)
    assert record["dirty"] is False
    recipe = {key: value for key, value in record["recipe"].items() if key != "started_from"}
    assert recipe == dataclasses.asdict(whole.RECIPES[name])


def test_the_detector_has_the_blocks_of_the_network_that_names():
    naming, boxes = (surgery.find_blocks(tasks.dense(name)) for name in tasks.TASKS)
    assert [f"backbone.{name}" for name in naming] == list(boxes)
    assert [block.sites["qk"].shape for block in naming.values()] == [
        block.sites["qk"].shape for block in boxes.values()
    ]


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    for suffix in ("json", "safetensors"):
        content = (tasks.WEIGHTS / f"naming.{suffix}").read_bytes()
        (tmp_path / f"naming.{suffix}").write_bytes(content[:-1] + b"\x00" if suffix == "safetensors" else content)
    monkeypatch.setattr(tasks, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        tasks.dense("naming")


@pytest.mark.parametrize("function", [tasks.build, tasks.dense, tasks.dense_record])
@pytest.mark.parametrize("name", ["nameing", None, 3])
def test_unknown_names_are_refused(function, name):
    with pytest.raises(ValueError, match="name"):
        function(name)


def test_pictures_of_a_part_and_seed():
    task = tasks.TASKS["boxes"]
    assert len(task.load(True, 0, 7)) == 7
    assert torch.equal(task.load(False, 1, 3).images, task.load(False, 1, 3).images)
    assert not torch.equal(task.load(False, 1, 3).images, task.load(False, 2, 3).images)


def test_a_network_is_trained_and_stored_and_loads(tmp_path, monkeypatch):
    small = {name: dataclasses.replace(task, judged=20) for name, task in tasks.TASKS.items()}
    recipes = {name: whole.Recipe(32, 1) for name in whole.RECIPES}
    for module in (tasks, whole_networks):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    for module in (whole, whole_networks):
        monkeypatch.setattr(module, "TASKS", small)
    monkeypatch.setattr(whole_networks, "RECIPES", recipes)
    monkeypatch.setattr(whole_networks, "cache_folder", lambda: tmp_path / "cache")
    for name in ("naming", "boxes"):
        record = whole_networks.train(name, progress=False)
        assert record == json.loads((tmp_path / f"{name}.json").read_text())
        assert len(record["history"]) == 1
        assert not tasks.dense(name).training
    begun = tasks.dense("naming").features[1][0].mlp[0].weight
    assert not torch.equal(tasks.dense("boxes").backbone.features[1][0].mlp[0].weight, begun)
