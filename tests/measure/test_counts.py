"""Parameters and MACs: by hand, against a slow oracle, and against the counters of torch and fvcore."""

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure, models
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from oracles import macs as oracle


class Toy(nn.Module):
    """A convolution, one linear layer used twice, a functional product, an unused layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.twice = nn.Linear(4, 4)
        self.unused = nn.Linear(100, 100)
        self.weight = nn.Parameter(torch.ones(2, 4))

    def forward(self, x):
        x = self.body(x).mean(dim=(2, 3))
        return F.linear(self.twice(self.twice(x)), self.weight)


class DownUp(nn.Module):
    """Strided, grouped and transposed convolutions, as in a small encoder and decoder."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)

    def forward(self, x):
        return self.up(self.depthwise(self.down(x)))


class Attention(nn.Module):
    """Patches as tokens through torch's multi-head attention."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (B, L, 16)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


def test_toy_by_hand():
    toy = Toy()
    convolution = 4 * 3 * 9 * 36
    assert measure.parameters(toy) == (108 + 4) + (16 + 4) + (10_000 + 100) + 8
    assert measure.macs(toy, (3, 6, 6)) == convolution + 2 * 16 + 8
    assert measure.macs_by_module(toy, (3, 6, 6)) == {"": 8, "body.0": convolution, "twice": 32}
    assert measure.macs_by_module(toy, (3, 6, 6), cumulative=True) == {
        "": convolution + 40,
        "body": convolution,
        "body.0": convolution,
        "twice": 32,
    }
    bias_and_pool = 4 * 36 + (36 + 1) * 4
    assert measure.macs(toy, (3, 6, 6), convention="thop") == convolution + 40 + bias_and_pool


def test_attention_by_hand():
    tokens, width = 16, 16
    expected = 16 * 3 * 64 * tokens + 4 * tokens * width**2 + 2 * tokens**2 * width
    assert measure.macs(Attention(), (3, 32, 32)) == expected


@pytest.mark.parametrize("build", [models.resnet20, models.vgg11_bn, models.small_cnn, Toy, DownUp, Attention])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_agrees_with_torchs_counter(build, device):
    with torch.device(device):
        network = build().eval()
    with sdpa_kernel(SDPBackend.MATH):  # torch's counter does not know the CPU's fused attention,
        torch.backends.mha.set_fastpath_enabled(False)  # nor what the fused multi-head attention hides
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(torch.zeros(1, 3, 32, 32, device=device))
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
        counts = measure.macs_by_module(network, (3, 32, 32), cumulative=True)
    assert 2 * measure.macs(network, (3, 32, 32)) == counter.get_total_flops()
    for name, count in counts.items():
        path = f"{type(network).__name__}.{name}" if name else type(network).__name__
        assert 2 * count == sum(counter.get_flop_counts()[path].values())


@pytest.mark.parametrize("name", ["resnet50", "vgg16_bn", "mobilenet_v2", "vit_b_16", "swin_t"])
def test_agrees_with_torchs_counter_at_imagenet_size(name):
    with torch.device("meta"):
        network = models.imagenet(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    assert 2 * measure.macs(network, (3, 224, 224)) == counter.get_total_flops()


def vision_transformer():
    from torchvision.models import VisionTransformer

    return VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)


FVCORE_NETWORKS = {
    "resnet20": models.resnet20,
    "vgg11_bn": models.vgg11_bn,
    "down and up": DownUp,
    "mobilenet_v2": lambda: models.imagenet("mobilenet_v2"),
    "vision transformer": vision_transformer,
}


@pytest.mark.parametrize("name", FVCORE_NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_fvcore(name):
    from fvcore.nn import FlopCountAnalysis

    network = FVCORE_NETWORKS[name]().eval()
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 32, 32)).unsupported_ops_warnings(False)
    by_operator = analysis.uncalled_modules_warnings(False).by_operator()
    kinds = measure.operations(network, (3, 32, 32))
    assert kinds["convolution"] == by_operator["conv"]
    assert kinds.get("matrix_product", 0) == by_operator["linear"]
    if name == "vision transformer":  # fvcore leaves out the fused products: 2 layers, 17 tokens, 32 channels
        assert kinds["attention"] == 2 * 2 * 17 * 17 * 32


@pytest.mark.parametrize(
    ("name", "size"), [("resnet20", 32), ("vgg11_bn", 32), ("small_cnn", 32), ("mobilenet_v2", 64), ("resnet18", 64)]
)
def test_by_module_equals_plain_hooks(name, size):
    network = (getattr(models, name)() if hasattr(models, name) else models.imagenet(name)).eval()
    with torch.no_grad():
        expected = oracle.by_module_hooks(network, torch.randn(1, 3, size, size))
    counts = measure.macs_by_module(network, (3, size, size))
    assert counts == expected
    assert sum(counts.values()) == measure.macs(network, (3, size, size))
    assert list(counts) == [name for name, _ in network.named_modules() if name in expected]


@pytest.mark.parametrize(
    ("name", "options", "size", "expected"),
    [
        ("resnet56", {}, 32, 126_554_816),
        ("resnet110", {}, 32, 254_988_992),
        ("vgg16_bn", {"conv_bias": True}, 32, 313_201_664 + 276_480 + 2 * 276_480 + 512),
        ("resnet50", {}, 224, 4_111_514_624),
    ],
)
def test_thop_convention(name, options, size, expected):
    with torch.device("meta"):
        build = getattr(models, name, None)
        network = build(**options) if build else models.imagenet(name)
    assert measure.macs(network, (3, size, size), convention="thop") == expected


def test_published_count_that_leaves_out_three_terms_of_thop():
    with torch.device("meta"):
        network = models.vgg16_bn(conv_bias=True, hidden=512)
    kinds = measure.operations(network, (3, 32, 32))
    hidden_norm = 2 * 512
    left_out = kinds["convolution_bias"] + kinds["average_pool"] + hidden_norm
    assert measure.macs(network, (3, 32, 32), convention="thop") - left_out == 314_016_768


@pytest.mark.parametrize(("name", "expected"), [("vgg19_bn", 797_304_842), ("vgg16_bn", 627_355_658)])
def test_network_slimming_convention(name, expected):
    with torch.device("meta"):
        network = getattr(models, name)()
    assert measure.macs(network, (3, 32, 32), convention="network_slimming") == expected


def test_shared_parameters_count_once():
    first = nn.Linear(3, 3, bias=False)
    assert measure.parameters(nn.Sequential(first, first)) == 9


def test_weights_that_are_computed_in_each_pass_are_not_divided_by_the_batch():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Parameter(torch.eye(5))
            self.weight = nn.Parameter(torch.randn(5, 3))

        def forward(self, x):
            return F.linear(x, self.mix @ self.weight)

    for example in ((3,), torch.randn(7, 3)):
        assert measure.macs(Mixed(), example) == 5 * 5 * 3 + 3 * 5


def test_several_inputs():
    class Cross(nn.Module):
        def forward(self, a, b):
            return a @ b.transpose(1, 2)

    assert measure.macs(Cross(), (torch.randn(4, 5, 8), torch.randn(4, 6, 8))) == 5 * 6 * 8


def test_summary():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4)).half()
    result = measure.summary(model, (3,))
    assert result == measure.Summary(20, 12, 2 * (12 + 8 + 8) + 8, "macs")
    assert str(result) == "20 parameters (64 bytes with buffers), 12 macs"


def test_bad_arguments_are_named():
    model = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"convention must be one of .*, got 'flops'"):
        measure.macs(model, (3,), convention="flops")
    with pytest.raises(ValueError, match="convention must be"):
        measure.macs_by_module(model, (3,), convention="flops")
    for example in ((), (3, 0), ("3",), [torch.zeros(1, 3), 3]):
        with pytest.raises(ValueError, match="example_inputs must be a tensor, a shape"):
            measure.macs(model, example)
    for example in (torch.zeros(3), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="example_inputs must have a batch dimension"):
            measure.macs(model, example)


@pytest.mark.parametrize("model", [None, "fc", nn.Linear, [nn.Identity()], lambda: None])
def test_what_is_no_network_is_refused(model):
    for call in (
        measure.parameters,
        lambda model: measure.summary(model, (3,)),
        lambda model: measure.macs(model, (3,)),
    ):
        with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module"):
            call(model)


def test_options_of_another_kind_are_refused():
    for convention in (["macs"], {"macs": 1}, None):
        with pytest.raises(ValueError, match="convention must be one of"):
            measure.macs(nn.Linear(3, 2), (3,), convention=convention)
    with pytest.raises(ValueError, match="cumulative must be True or False"):
        measure.macs_by_module(nn.Linear(3, 2), (3,), cumulative="no")
    for where in (None, "here", nn.Identity(), str):
        with pytest.raises(ValueError, match="where must be a function"):
            measure.OperationCounter(where)
