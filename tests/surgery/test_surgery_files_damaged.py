"""Files that are damaged, forged or foreign: each is refused by name, before anything of its size is allocated."""

import json
import os
import struct
import tracemalloc

import pytest
import torch
import torchvision
from compactvision import models, surgery
from compactvision.surgery import Gathered, Scattered
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

BUILT = {"builder": "small_cnn", "arguments": {"num_classes": 4}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def good(path):
    """A good file, its description and its tensors."""
    surgery.save(models.small_cnn(num_classes=4), path, **BUILT)
    with safe_open(str(path), framework="pt") as file:
        names = list(file.keys())
        tensors = {name: file.get_tensor(name).clone() for name in names}
        return json.loads(file.metadata()["compactvision"]), tensors


def refused(path, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        surgery.load(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def written(path, description, tensors):
    text = description if isinstance(description, str) else json.dumps(description)
    save_file(tensors, str(path), metadata={"compactvision": text})


NETWORKS = {
    "mnasnet1_0": {},
    "mnasnet0_5": {},
    "resnet18": {},
    "mobilenet_v3_small": {},
    "densenet121": {},
    "squeezenet1_1": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
    "efficientnet_b0": {},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_come_back_bitwise(name, path):
    def build():
        return torchvision.models.get_model(name, weights=None, num_classes=5, **NETWORKS[name])

    model, x = build().eval(), torch.randn(2, 3, 64, 64)
    surgery.save(model, path)
    again = surgery.load(path, build=build)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())


class Versioned(nn.Module):
    """A layer that reads its state by version, and knows three."""

    _version = 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1))
        self.seen = None

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        self.seen = local_metadata.get("version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_versions_of_modules_are_kept(path):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), Versioned(), nn.Sequential(Versioned()))
    surgery.save(model, path)
    with pytest.raises(ValueError, match="build must be given"):
        surgery.load(path)

    def build():
        return nn.Sequential(nn.Conv2d(3, 2, 1), Versioned(), nn.Sequential(Versioned()))

    again = surgery.load(path, build=build)
    assert (again[1].seen, again[2][0].seen) == (3, 3)


def test_files_of_older_releases_load(path, good):
    description, tensors = good
    del description["versions"]
    written(path, description, tensors)
    assert torch.equal(surgery.load(path).features[0].weight, tensors["features.0.weight"])


@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda b: b"",
        "three bytes": lambda b: b[:3],
        "half": lambda b: b[: len(b) // 2],
        "one byte less": lambda b: b[:-1],
        "one byte more": lambda b: b + b"\0",
        "header of 2^60": lambda b: struct.pack("<Q", 2**60) + b[8:],
        "header longer than the file": lambda b: struct.pack("<Q", len(b)) + b[8:],
        "header of zero": lambda b: struct.pack("<Q", 0) + b[8:],
        "header cut": lambda b: struct.pack("<Q", 100) + b[8:],
        "zeros": lambda b: bytes(len(b)),
        "text": lambda b: b"hello " * 100,
        "offsets beyond": lambda b: b.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        "unknown type": lambda b: b.replace(b'"F32"', b'"Q32"', 1),
        "pickle": lambda b: b"\x80\x04\x95" + b,
    }.items(),
    ids=lambda item: item[0],
)
def test_damaged_bytes(damage, path, good):
    path.write_bytes(damage[1](path.read_bytes()))
    refused(path, "is damaged or no safetensors file")


def test_what_is_no_file(tmp_path):
    refused(tmp_path, "is no file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is no file")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        surgery.load(tmp_path / "nowhere")
    for path in ("a\0b", 3, None, b"x"):
        with pytest.raises(ValueError, match="path must be the name of a file, got"):
            surgery.load(path)
        with pytest.raises(ValueError, match="path must be the name of a file, got"):
            surgery.save(models.small_cnn(), path)


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "net", tmp_path / "nowhere" / "net", tmp_path / ("n" * 300)):
        with pytest.raises(OSError, match=r"cannot be written: ") as caught:
            surgery.save(models.small_cnn(), path)
        assert str(path) in str(caught.value)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200_000, "not JSON"),
        ('{"format":' * 200_000, "not JSON"),
        ("{", "not JSON"),
        ("nan", "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("[1]", "not a network saved"),
        ("3", "not a network saved"),
        ('"compactvision-pruned-1"', "not a network saved"),
        ("", "not a network saved"),
        ('{"format": "compactvision-pruned-2"}', "not a network saved"),
        ('{"format": ["compactvision-pruned-1"]}', "not a network saved"),
    ],
)
def test_descriptions_that_are_none(text, said, path, good):
    written(path, text, good[1])
    refused(path, said)


@pytest.mark.parametrize("field", ["builder", "arguments", "layers"])
@pytest.mark.parametrize("value", [1, [], "missing", ["x"], True])
def test_fields_of_another_type(field, value, path, good):
    description, tensors = good
    description[field] = value
    if value == "missing":
        del description[field]
    written(path, description, tensors)
    refused(path, f"field '{field}' of its description is missing or of another type")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": []}, "field 'versions'"),
        ({"versions": {"features.0": "2"}}, "version of 'features.0' is '2'"),
        ({"layers": {"features.0": 3}}, "layer 'features.0' is described by 3"),
        ({"layers": {"nowhere": {"in": 1, "out": 1}}}, "no layer 'nowhere'"),
        ({"layers": {"features.2": {"out": 3}}}, "layer 'features.2' is a ReLU"),
        ({"layers": {"": {"wrapper": "Scattered"}}}, "layer ''"),
        ({"layers": {"features.1": {"wrapper": "Sequential"}}}, "'wrapper' is 'Sequential'"),
        ({"layers": {"features.1": {"wrapper": ["Gathered"]}}}, "'wrapper' is"),
        ({"layers": {"features.1": {"wrapper": "Gathered"}}}, "does not fit the network that was built"),
        ({"builder": "resnet21"}, "builder: 'resnet21' is no function"),
        ({"builder": "os.system"}, "builder: 'os.system' is no function"),
        ({"builder": "option_a_shortcut"}, "builder: 'option_a_shortcut' is no function"),
        ({"builder": "available"}, "builder: 'available' is no function"),
        ({"builder": "ResNet"}, "builder: 'ResNet' is no function"),
        ({"builder": "pretrained", "arguments": {"name": "../../etc/passwd"}}, "gives no network"),
        ({"builder": "imagenet", "arguments": {"name": "resnet18", "weights": "DEFAULT"}}, "gives no network"),
        ({"arguments": {"zzz": 1}}, "gives no network"),
        ({"arguments": {"num_classes": "ten"}}, "gives no network"),
        ({"arguments": {"num_classes": -1}}, "gives no network"),
        ({"arguments": {"widths": []}}, "gives no network"),
        ({"arguments": {"num_classes": 10**12}}, "arguments of its builder go up to 1000000000000, above"),
        ({"arguments": {"widths": [16, 10**9, 64]}}, "arguments of its builder go up to 1000000000, above"),
        ({"arguments": {"widths": [16, 900_000, 900_000]}}, "numbers, above"),
        ({"builder": "resnet20", "arguments": {"width": 10**15}}, "arguments of its builder go up to"),
        ({"builder": "resnet20", "arguments": {}}, "has no layer 'features.0'"),
    ],
)
def test_forged_descriptions(change, said, path, good):
    description, tensors = good
    written(path, description | change, tensors)
    refused(path, said)


@pytest.mark.parametrize("value", [0, -3, "x", None, 1.0, True, [4], 10**12, 2**63, 7])
@pytest.mark.parametrize("name", ["features.0", "features.1", "classifier"])
def test_forged_counts(name, value, path, good):
    description, tensors = good
    for field in ("in", "out", "groups"):
        layers = description["layers"]
        written(path, {**description, "layers": {**layers, name: {**layers[name], field: value}}}, tensors)
        tracemalloc.start()
        refused(path, f"layer '{name}': ")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


def depthwise():
    return nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=2))


@pytest.mark.parametrize(
    ("name", "change", "weight"),
    [
        ("0", {"in": 8, "groups": 2}, (8, 4, 1, 1)),  # the same tensors, another network
        ("0", {"in": 4, "groups": 2}, (8, 2, 1, 1)),
        ("1", {"in": 8, "out": 8, "groups": 1}, (8, 8, 3, 3)),
        ("1", {"in": 8, "out": 8, "groups": 4}, (8, 2, 3, 3)),
        ("1", {"in": 16, "out": 8, "groups": 16}, (8, 1, 3, 3)),
        ("2", {"in": 16, "groups": 4}, (8, 4, 3, 3)),
        ("2", {"in": 4, "groups": 1}, (8, 4, 3, 3)),
    ],
)
def test_forged_groups_that_fit_the_tensors(name, change, weight, path):
    surgery.save(depthwise(), path)
    with safe_open(str(path), framework="pt") as file:
        names = list(file.keys())
        description = json.loads(file.metadata()["compactvision"])
        tensors = {key: file.get_tensor(key).clone() for key in names}
    assert surgery.load(path, build=depthwise)[1].groups == 8
    description["layers"][name] |= change
    tensors[f"{name}.weight"] = torch.zeros(weight)
    written(path, description, tensors)
    refused(path, f"layer '{name}': 'groups' is ", build=depthwise)


def test_a_narrower_depthwise_layer_is_no_forgery(path):
    surgery.save(nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 8, 3, groups=2)), path)
    assert surgery.load(path, build=depthwise)[1].groups == 6


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("features.0.weight", None, "tensor 'weight' is missing"),
        ("features.1.running_mean", None, "tensor 'running_mean' is missing"),
        ("features.1.num_batches_tracked", None, "does not fit the network"),
        ("more", torch.zeros(3), "does not fit the network"),
        ("features.0.weight", torch.zeros(16, 3, 1, 1), r"has the shape \(16, 3, 1, 1\), its description says"),
        ("features.0.weight", torch.zeros(16), "has the shape"),
        ("features.1.weight", torch.zeros(()), "has the shape"),
        ("features.0.weight", torch.zeros(16, 3, 3, 3, dtype=torch.int8), "is of type torch.int8"),
        ("features.0.weight", torch.zeros(16, 3, 3, 3, dtype=torch.complex64), "is of type torch.complex64"),
        ("features.0.weight", torch.zeros(16, 3, 3, 3).to(torch.float8_e4m3fn), "is of type torch.float8"),
        ("features.1.num_batches_tracked", torch.zeros(()), "is of type torch.float32, not torch.int64"),
        ("features.1.num_batches_tracked", torch.zeros(2, dtype=torch.int64), "does not fit the network"),
    ],
)
def test_forged_tensors(name, tensor, said, path, good):
    description, tensors = good
    tensors[name] = tensor
    written(path, description, {key: value for key, value in tensors.items() if value is not None})
    refused(path, said)


def test_forged_channel_maps(path, shaken):
    def build():
        return models.resnet20(shortcut="A")

    graph = surgery.channel_graph(build(), (3, 32, 32))
    small = surgery.prune(build(), surgery.make_plan(graph, surgery.criteria.l1(), keep=0.5))
    surgery.save(small, path)
    with safe_open(str(path), framework="pt") as file:
        names = list(file.keys())
        description = json.loads(file.metadata()["compactvision"])
        tensors = {key: file.get_tensor(key).clone() for key in names}
    name = next(key for key, value in description["layers"].items() if "stride" in value)
    for source in (10**12, 99, -2):
        forged = tensors | {f"{name}.source": tensors[f"{name}.source"].clone().fill_(source)}
        written(path, description, forged)
        refused(path, f"layer '{name}': source holds {source}", build=build)
    description["layers"][name]["stride"] = 3
    written(path, description, tensors)
    refused(path, f"layer '{name}': 'stride' is 3, in the network that was built 2", build=build)


def test_a_builder_that_has_the_wrappers_already(path):
    def build():
        return nn.Sequential(
            Gathered(models.ChannelMap([0, 2], 3), nn.Conv2d(2, 4, 1)),
            Scattered(nn.Conv2d(4, 2, 1), models.ChannelMap([0, -1, 1], 2)),
        )

    model = build()
    surgery.save(model, path)
    again = surgery.load(path, build=build)
    assert str(again) == str(model)
    x = torch.randn(1, 3, 2, 2)
    assert torch.equal(again(x), model(x))


def test_a_layer_under_two_names_stays_one_and_tied_weights_are_refused(path):
    def shared():
        layer = nn.Conv2d(4, 4, 1)
        return nn.ModuleDict({"a": layer, "b": layer})

    model = shared()
    surgery.save(model, path)
    again = surgery.load(path, build=shared)
    assert again["a"] is again["b"]
    assert torch.equal(again["a"].weight, model["a"].weight)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"model: '0.weight' and '1.weight' are one tensor"):
        surgery.save(tied, path)


class Remembers(nn.Linear):
    def get_extra_state(self):
        return {"some": "thing"}

    def set_extra_state(self, state):
        pass


def test_states_that_a_file_cannot_hold(path):
    with pytest.raises(ValueError, match="'_extra_state' of its state is no plain tensor"):
        surgery.save(Remembers(2, 2), path)
    with pytest.raises(ValueError, match="'weight' of its state is no plain tensor"):
        surgery.save(nn.Linear(2, 2, device="meta"), path)
    with pytest.raises(ValueError, match="model must be a network, got dict"):
        surgery.save({}, path)
    nested = []
    nested.append(nested)
    for arguments in ({"a": float("nan")}, {"a": nested}, {"a": object()}):
        with pytest.raises(ValueError, match="arguments must be expressible as JSON"):
            surgery.save(models.small_cnn(), path, builder="small_cnn", arguments=arguments)
    with pytest.raises(ValueError, match="arguments must have names as keys"):
        surgery.save(models.small_cnn(), path, builder="small_cnn", arguments={3: 1})
    assert not path.exists()


@pytest.mark.parametrize("name", models.available())
def test_a_shipped_network_is_a_builder(name, path):
    model = models.pretrained(name)
    surgery.save(model, path, builder="pretrained", arguments={"name": name})
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(surgery.load(path)(x), model(x))


def test_a_fault_of_ones_own_builder_stays_visible(path):
    surgery.save(models.small_cnn(), path)

    def build():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        surgery.load(path, build=build)
