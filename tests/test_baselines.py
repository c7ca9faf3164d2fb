"""Shipped networks: the recipe stores what it trained, and loading gives back exactly that."""

import dataclasses
import json

import pytest
import torch
from compactvision import baselines, data, measure
from compactvision.models import shipped

NAME = "resnet20_glyphs"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of weights of its own, and a recipe that takes seconds."""
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(baselines, "GENERATED_TEST_IMAGES", 20)
    monkeypatch.setenv("COMPACTVISION_CACHE", str(tmp_path / "cache"))
    short = dataclasses.replace(
        baselines.RECIPES[NAME], epochs=1, batch_size=16, options=(("n", 40),), precision="fp32"
    )
    monkeypatch.setitem(baselines.RECIPES, NAME, short)
    return tmp_path / "weights"


@pytest.fixture
def record(shelf):
    return baselines.train(NAME, device=torch.device("cpu"), progress=False)


def test_stored_network_is_the_trained_one_rounded_to_half_precision(record, shelf):
    model = shipped.pretrained(NAME)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            assert torch.equal(tensor, tensor.half().float())
    test = data.load("glyphs", train=False, n=20)
    assert measure.accuracy(model, test.batches(20)) == pytest.approx(record["test_accuracy"], abs=1e-5)
    assert record == shipped.pretrained_record(NAME)
    assert shipped.available() == (NAME,)
    assert (shelf / f"{NAME}.safetensors").stat().st_size < 600_000


def test_record_says_how_it_was_made(record):
    assert record["recipe"]["epochs"] == len(record["history"]) == 1
    assert record["data"]["train"]["digest"] == data.load("glyphs", train=True, n=40).digest()
    assert set(record["versions"]) >= {"torch", "python", "compactvision"}


def test_a_finished_training_called_again_gives_the_same_weights(record):
    again = baselines.train(NAME, device=torch.device("cpu"), progress=False)
    assert again["sha256"] == record["sha256"]


def test_command_trains_what_is_named_and_refuses_the_rest(shelf, capsys):
    baselines.main([NAME])
    assert capsys.readouterr().out.startswith(f"{NAME}: ")
    assert shipped.available() == (NAME,)
    with pytest.raises(SystemExit, match="2"):
        baselines.main(["resnet21"])


def test_damaged_weights_are_refused(record, shelf):
    path = shelf / f"{NAME}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"resnet20_glyphs.*damaged"):
        shipped.pretrained(NAME)


def test_unknown_and_missing_names(shelf):
    with pytest.raises(ValueError, match=r"name: 'resnet21'.*resnet20_cifar10"):
        shipped.pretrained("resnet21")
    with pytest.raises(ValueError, match="not shipped"):
        shipped.pretrained(NAME)
    with pytest.raises(ValueError, match=r"name: 'resnet21'"):
        baselines.train("resnet21", device=torch.device("cpu"))


def test_what_is_shipped_is_described_truly():
    for name in shipped.available():
        record = json.loads((shipped.WEIGHTS / f"{name}.json").read_text())
        assert record["name"] == name
        assert not record["dirty"], f"{name} was trained by code that was not committed"
        shipped.pretrained(name)
