"""Layers that describe themselves are saved and loaded: factorised ones, others' own, forged descriptions."""

import json

import pytest
import torch
from compactvision import models, surgery
from compactvision.models.factorised import TTConv2d, TTLinear, with_layers
from compactvision.surgery import descriptions
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn


def factorised():
    """ResNet-20 with two factorised convolutions of different modes and a factorised classifier."""
    model = models.resnet20(generator=torch.Generator().manual_seed(0))
    return with_layers(
        model,
        {
            "layer1.0.conv2": lambda conv: TTConv2d.from_layer(conv, (99, 5)),
            "layer2.0.conv1": lambda conv: TTConv2d.from_layer(conv, (5, 9, 7, 3), out_modes=(8, 4), in_modes=(4, 4)),
            "fc": lambda linear: TTLinear.from_layer(linear, (4,)),
        },
    ).eval()


def changed(path, change):
    """Write a saved file anew with a changed description."""
    with safe_open(str(path), framework="pt") as file:
        description = json.loads(file.metadata()["compactvision"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    change(description, state)
    save_file(state, str(path), metadata={"compactvision": json.dumps(description)})


class Scaled(nn.Module):
    """A reader's own layer: a linear layer inside, a buffer, and a scale."""

    layer_name = "Scaled"

    def __init__(self, size, factor):
        super().__init__()
        self.inner, self.factor = nn.Linear(size, size), factor
        self.register_buffer("mean", torch.zeros(size))

    def description(self):
        return {"size": self.inner.in_features, "factor": self.factor}

    @classmethod
    def from_description(cls, description):
        return cls(**description)

    def forward(self, x):
        return self.factor * self.inner(x - self.mean)


def chain():
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_factorised_network_comes_back(dtype, tmp_path):
    small, x = factorised().to(dtype), torch.randn(2, 3, 32, 32, dtype=dtype)
    surgery.save(small, tmp_path / "small.safetensors", builder="resnet20")
    again = surgery.load(tmp_path / "small.safetensors")
    assert str(again) == str(small)
    torch.testing.assert_close(again.state_dict(), small.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(again(x), small(x), rtol=1e-5, atol=1e-5)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert again.layer1[0].conv2.requested == (99, 5)
    assert again.layer1[0].conv2.ranks == (16, 5)


def test_the_description_says_how(tmp_path):
    path = tmp_path / "small.safetensors"
    surgery.save(factorised(), path, builder="resnet20")
    with safe_open(str(path), framework="np") as file:
        layers = json.loads(file.metadata()["compactvision"])["layers"]
    assert layers["fc"] == {
        "layer": "TTLinear",
        "settings": {
            "in_features": 64, "out_features": 10, "ranks": [4], "bias": True, "out_modes": [10], "in_modes": [64],
        },
    }  # fmt: skip
    assert layers["layer1.0.conv1"] == {"in": 16, "out": 16, "groups": 1}


def test_a_pruned_and_factorised_network_with_gathered_inputs(random_scores, tmp_path):
    model = models.resnet20(generator=torch.Generator().manual_seed(0)).eval()
    graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    pruned = surgery.prune(model, surgery.make_plan(graph, random_scores(graph), keep=0.5))
    inside = [name for name, module in pruned.named_modules() if isinstance(module, surgery.Gathered)]
    paths = [f"{name}.1" for name in inside if isinstance(pruned.get_submodule(f"{name}.1"), nn.Conv2d)]
    assert len(paths) > 3
    small = with_layers(pruned, {path: lambda conv: TTConv2d.from_layer(conv, (3, 3)) for path in paths})
    surgery.save(small, tmp_path / "small.safetensors", builder="resnet20")
    again, x = surgery.load(tmp_path / "small.safetensors"), torch.randn(2, 3, 32, 32)
    assert str(again) == str(small)
    torch.testing.assert_close(again(x), small(x), rtol=1e-5, atol=1e-5)


def test_a_layer_at_two_places_is_put_back_at_both(tmp_path):
    def build():
        shared = nn.Conv2d(4, 4, 3, padding=1)
        return nn.Sequential(shared, nn.ReLU(), shared)

    small = with_layers(build(), {"0": lambda conv: TTConv2d.from_layer(conv, (2, 2))}).eval()
    surgery.save(small, tmp_path / "small.safetensors")
    again, x = surgery.load(tmp_path / "small.safetensors", build=build), torch.randn(1, 4, 5, 5)
    assert again[0] is again[2]
    torch.testing.assert_close(again(x), small(x))


def test_a_layer_of_ones_own(tmp_path):
    path = tmp_path / "own.safetensors"
    model = with_layers(chain(), {"0": lambda linear: Scaled(6, 0.5)}).eval()
    nn.init.normal_(model[0].mean)
    assert isinstance(model[0], surgery.SelfDescribing)
    surgery.save(model, path)
    again, x = surgery.load(path, build=chain, layers=[Scaled]), torch.randn(3, 6)
    torch.testing.assert_close(again(x), model(x))
    assert not any(tensor.is_meta for tensor in again.state_dict().values())
    with pytest.raises(
        ValueError,
        match=r"layer '0' is a 'Scaled', which is none of SVDConv2d, TTConv2d, TTLinear, ScoredLinear, "
        r"TokenAttention, SequenceAttention, PartitionedAttention, MapAttention: give layers=",
    ):
        surgery.load(path, build=chain)


def test_a_layer_that_keeps_tensors_to_itself_is_refused(tmp_path):
    class Secret(Scaled):
        layer_name = "Secret"

        def __init__(self, size, factor):
            super().__init__(size, factor)
            self.register_buffer("hidden", torch.ones(1), persistent=False)

    model = with_layers(chain(), {"0": lambda linear: Secret(6, 0.5)})
    surgery.save(model, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="layer '0': a 'Secret' holds 'hidden', which files do not"):
        surgery.load(tmp_path / "own.safetensors", build=chain, layers=[Secret])


def test_classes_that_do_not_describe_themselves_or_take_a_name():
    with pytest.raises(ValueError, match=r"layers: <class .*Linear'> has not layer_name"):
        descriptions.known_layers([nn.Linear])

    class Other(Scaled):
        layer_name = "TTLinear"

    with pytest.raises(ValueError, match=r"layers: the name 'TTLinear' of .* is taken"):
        descriptions.known_layers([Other])
    assert {"TTConv2d", "TTLinear"} <= set(descriptions.known_layers())


FORGED = {
    "another rank": (lambda layer: layer["settings"].update(ranks=[3]), r"tensor 'cores.0' has the shape \(1, 10, 4\)"),
    "ranks that are none": (lambda layer: layer["settings"].update(ranks=[4.5]), "ranks must be whole numbers"),
    "no ranks": (lambda layer: layer["settings"].pop("ranks"), "missing 1 required positional argument: 'ranks'"),
    "huge": (lambda layer: layer["settings"].update(out_features=10**15, out_modes=[10**15]), "has the shape"),
    "beyond": (
        lambda layer: layer["settings"].update(out_features=10**30, out_modes=[10**30]),
        "description of TTLinear",
    ),
    "text": (lambda layer: layer["settings"].update(in_features="64"), "in_features must be a whole number, got '64'"),
    "a fraction": (
        lambda layer: layer["settings"].update(in_features=64.5),
        "in_features must be a whole number, got 64.5",
    ),
    "a device": (lambda layer: layer["settings"].update(device="cpu"), "description must not have the field 'device'"),
    "unknown field": (lambda layer: layer["settings"].update(depth=2), "unexpected keyword argument 'depth'"),
    "other class": (lambda layer: layer.update(layer="TTConv2d"), "description of TTConv2d"),
    "no class": (lambda layer: layer.update(layer=["TTLinear"]), "which is none of"),
    "settings": (lambda layer: layer.update(settings=[1]), "its description is not one of a 'TTLinear'"),
    "more": (lambda layer: layer.update(bias=True), "its description is not one of a 'TTLinear'"),
    "no bias": (lambda layer: layer["settings"].update(bias=False), "does not fit the network"),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("builder", ["resnet20", None])
def test_forged_descriptions_are_refused(name, builder, tmp_path):
    path = tmp_path / "small.safetensors"
    surgery.save(factorised(), path, builder=builder)
    change, message = FORGED[name]
    changed(path, lambda description, state: change(description["layers"]["fc"]))
    with pytest.raises(ValueError, match=f"path: '.*small.safetensors'.*{message}"):
        surgery.load(path, build=None if builder else models.resnet20)


def test_a_missing_core_and_a_wrong_place_are_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    surgery.save(factorised(), path, builder="resnet20")
    changed(path, lambda description, state: state.pop("fc.cores.1"))
    with pytest.raises(ValueError, match=r"layer 'fc': tensor 'cores.1' is missing"):
        surgery.load(path)
    surgery.save(factorised(), path, builder="resnet20")
    changed(path, lambda description, state: description["layers"].update(none=description["layers"]["fc"]))
    with pytest.raises(ValueError, match="has no layer 'none'"):
        surgery.load(path)
