import io
import json
import subprocess
import sys

import pytest
import torch
from compactvision import models, surgery
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

CASES = [
    ("resnet20_a", "grouped", "resnet20", {}),
    ("resnet20_b", "scatter", "resnet20", {"shortcut": "B"}),
    ("resnet20_a", "gather", "resnet20", {}),
    ("vgg16_bn", "grouped", "vgg16_bn", {}),
    ("densenet40", "grouped", "densenet40", {"growth": 12}),
    ("densenet40", "gather", "densenet40", {}),
    ("mobilenet_v2", "grouped", "imagenet", {"name": "mobilenet_v2", "num_classes": 10}),
]


@pytest.fixture
def pruned(network, graph, random_scores):
    def build(name, residual, keep=0.4):
        channels = graph(name, residual)
        return surgery.prune(network(name), surgery.make_plan(channels, random_scores(channels), keep=keep))

    return build


@pytest.mark.parametrize(("name", "residual", "builder", "arguments"), CASES)
def test_a_loaded_network_is_bitwise_the_same(name, residual, builder, arguments, pruned, tmp_path):
    small, x = pruned(name, residual), torch.randn(2, 3, 32, 32)
    path = tmp_path / "small.safetensors"
    surgery.save(small, path, builder=builder, arguments=arguments)
    again = surgery.load(path)
    assert not again.training
    assert again.state_dict().keys() == small.state_dict().keys()
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in again.state_dict().items())
    with torch.no_grad():  # where a tensor begins in memory may change the order of a sum
        torch.testing.assert_close(again(x), small(x), rtol=1e-6, atol=1e-6)
    assert str(again) == str(small)  # all attributes that modules print


def test_the_description_is_readable_and_names_every_cut_layer(pruned, tmp_path):
    path = tmp_path / "small.safetensors"
    surgery.save(pruned("resnet20_a", "scatter"), path, builder="resnet20", arguments={"num_classes": 10})
    with safe_open(str(path), framework="np") as file:
        description = json.loads(file.metadata()["compactvision"])
    assert description["builder"] == "resnet20"
    assert description["arguments"] == {"num_classes": 10}
    assert description["layers"]["layer1.0.conv1"] == {"in": 16, "out": 6, "groups": 1}
    assert description["layers"]["layer1.0.bn2"] == {"wrapper": "Scattered"}
    assert description["layers"]["layer1.0.bn2.1"] == {"in": 6, "out": 16, "stride": 1}


def test_it_loads_in_a_fresh_process_without_a_plan(pruned, tmp_path):
    small, x = pruned("resnet20_a", "grouped"), torch.randn(1, 3, 32, 32)
    surgery.save(small, tmp_path / "small.safetensors", builder="resnet20")
    with torch.no_grad():
        save_file({"x": x, "y": small(x)}, str(tmp_path / "pair.safetensors"))
    program = (
        "import sys, torch\n"
        "from safetensors.torch import load_file\n"
        "from compactvision import surgery\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "pair = load_file(sys.argv[1] + '/pair.safetensors')\n"
        "with torch.no_grad():\n"
        "    assert torch.equal(surgery.load(sys.argv[1] + '/small.safetensors')(pair['x']), pair['y'])\n"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path), str(torch.get_num_threads())]
    subprocess.run(arguments, check=True, timeout=120)


def test_a_network_of_ones_own_needs_its_builder(shaken, tmp_path):
    def build():
        return nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 2, 1))

    model, path = shaken(build()).half(), tmp_path / "own.safetensors"
    small = surgery.prune(
        model.float(), surgery.keep_plan(surgery.channel_graph(model, (3, 4, 4)), {"0": [1, 5]})
    ).half()
    surgery.save(small, path)
    again = surgery.load(path, build=build)
    assert again[0].weight.dtype == torch.float16
    assert again[0].weight.requires_grad
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    with pytest.raises(ValueError, match="names no builder, so build must be given"):
        surgery.load(path)
    with pytest.raises(ValueError, match="does not fit the network that was built"):
        surgery.load(path, build=lambda: nn.Sequential(*build(), nn.BatchNorm2d(2)))
    with pytest.raises(ValueError, match="the network that was built has no layer '2'"):
        surgery.load(path, build=lambda: nn.Sequential(*build()[:2]))
    with pytest.raises(ValueError, match="layer '2' is a ReLU"):
        surgery.load(path, build=lambda: nn.Sequential(build()[0], nn.ReLU(), nn.ReLU()))
    with pytest.raises(ValueError, match="build must return a network, got int"):
        surgery.load(path, build=lambda: 3)


def test_bad_arguments_are_refused(tmp_path):
    model, path = models.small_cnn(), tmp_path / "file.safetensors"
    for name in ("resnet21", "ResNet", "os.system"):
        with pytest.raises(ValueError, match=f"builder: '{name}' is no function"):
            surgery.save(model, path, builder=name)
    with pytest.raises(ValueError, match="arguments must be expressible as JSON"):
        surgery.save(model, path, builder="small_cnn", arguments={"generator": torch.Generator()})
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(ValueError, match="is not a network saved by"):
        surgery.load(path)


EXPORTED = [("resnet20_a", "grouped"), ("resnet20_a", "scatter"), ("vgg16_bn", "grouped"), ("densenet40", "grouped")]


@pytest.mark.parametrize(("name", "residual"), EXPORTED)
def test_torch_export_gives_the_same(name, residual, pruned):
    small, x = pruned(name, residual), torch.randn(2, 3, 32, 32)
    exported = torch.export.export(small, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), small(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "residual"), EXPORTED)
def test_onnx_gives_the_same(name, residual, pruned):
    import onnxruntime

    small, x = pruned(name, residual), torch.randn(2, 3, 32, 32)
    buffer = io.BytesIO()
    torch.onnx.export(small, (x,), dynamo=True, verbose=False).save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(result), small(x), rtol=1e-5, atol=1e-5)


class _Blurred(nn.Module):
    """A convolution behind a constant filter that no state holds, as timm's networks have them."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)
        self.register_buffer("filter", torch.full((3, 1, 2, 2), 0.25), persistent=False)

    def forward(self, x):
        return self.head(self.conv(nn.functional.conv2d(x, self.filter, groups=3)))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_a_constant_that_no_state_holds_takes_the_files_type(kind, tmp_path):
    model, x = _Blurred().to(kind).eval(), torch.randn(1, 3, 9, 9).to(kind)
    surgery.save(model, tmp_path / "small.safetensors")
    again = surgery.load(tmp_path / "small.safetensors", build=_Blurred)
    assert again.filter.dtype == kind
    assert torch.equal(again(x), model(x))


class _Precise(nn.Module):
    """A network of float32 with one constant of float64, which no state holds."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("third", torch.full((4,), 1 / 3, dtype=torch.float64), persistent=False)

    def forward(self, x):
        return self.linear(x).double() * self.third


def test_a_constant_of_another_type_than_the_network_keeps_it(tmp_path):
    model, x = _Precise().eval(), torch.randn(2, 4)
    surgery.save(model, tmp_path / "small.safetensors")
    again = surgery.load(tmp_path / "small.safetensors", build=_Precise)
    assert again.third.dtype == torch.float64
    assert torch.equal(again(x), model(x))
