"""What the counter sees, against counts by hand and slow walks."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from compactvision import measure
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from oracles import macs as oracle


def counted(function):
    with torch.no_grad(), measure.OperationCounter() as counter:
        function()
    return dict(counter.counts.get("", {}))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 3),
    fan=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_convolution_equals_walking_over_positions(height, width, kernel, stride, padding, dilation, groups, fan):
    assume(min(height, width) + 2 * padding > dilation * (kernel - 1))
    channels, filters = groups * fan[0], groups * fan[1]
    layer = nn.Conv2d(channels, filters, kernel, stride, padding, dilation, groups, bias=False)
    expected = oracle.convolution_by_positions(
        height, width, kernel, stride, padding, dilation, channels, filters, groups
    )
    assert measure.operations(layer, (channels, height, width)) == {"convolution": expected}


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    groups=st.integers(1, 2),
    fan=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_transposed_convolution_spreads_every_input_pixel(height, width, kernel, stride, groups, fan):
    channels, filters = groups * fan[0], groups * fan[1]
    layer = nn.ConvTranspose2d(channels, filters, kernel, stride, groups=groups, bias=False)
    expected = oracle.transposed_by_positions(height, width, kernel, channels, filters, groups)
    assert measure.operations(layer, (channels, height, width)) == {"convolution": expected}


def test_one_and_three_dimensional_convolutions():
    assert measure.operations(nn.Conv1d(2, 3, 5), (2, 9)) == {"convolution": 5 * 3 * 2 * 5, "convolution_bias": 15}
    assert measure.operations(nn.Conv3d(1, 2, 2, bias=False), (1, 3, 3, 3)) == {"convolution": 8 * 2 * 8}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: torch.zeros(3, 4) @ torch.zeros(4, 5), 3 * 4 * 5),
        (lambda: torch.zeros(2, 3, 4) @ torch.zeros(2, 4, 5), 2 * 3 * 4 * 5),
        (lambda: torch.zeros(4) @ torch.zeros(4), 4),
        (lambda: torch.zeros(3, 4) @ torch.zeros(4), 12),
        (lambda: torch.addmv(torch.zeros(3), torch.zeros(3, 4), torch.zeros(4)), 12),
        (lambda: torch.baddbmm(torch.zeros(1), torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)), 120),
        (lambda: torch.einsum("bchw,cd->bdhw", torch.zeros(2, 3, 4, 5), torch.zeros(3, 7)), 2 * 3 * 4 * 5 * 7),
        (lambda: torch.zeros(3, 4, dtype=torch.cfloat) @ torch.zeros(4, 5, dtype=torch.cfloat), 4 * 60),
        (lambda: F.linear(torch.zeros(2, 6, 3), torch.zeros(5, 3)), 2 * 6 * 3 * 5),
    ],
)
def test_products(function, expected):
    assert counted(function) == {"matrix_product": expected}


def test_linear_bias_is_one_addition_an_output():
    assert counted(lambda: nn.Linear(3, 5)(torch.zeros(2, 3))) == {"matrix_product": 30, "linear_bias": 10}


def test_attention_is_two_products_fused_or_not():
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    expected = 2 * 3 * 5 * 7 * (8 + 8)
    fused = counted(lambda: F.scaled_dot_product_attention(query, key, value))
    plain = counted(lambda: torch.softmax(query @ key.transpose(-1, -2), -1) @ value)
    assert sum(fused.values()) == expected
    assert plain == {"matrix_product": expected}


@pytest.mark.parametrize(
    ("function", "multiplications"),
    [
        (lambda: torch.fft.fft(torch.zeros(8, dtype=torch.cfloat)), 4 * (8 // 2 * 3)),
        (lambda: torch.fft.fft(torch.zeros(5, 8, dtype=torch.cfloat)), 5 * 4 * (8 // 2 * 3)),
        (lambda: torch.fft.ifft2(torch.zeros(3, 4, 8, dtype=torch.cfloat)), 3 * 4 * (32 // 2 * 5)),
        (lambda: torch.fft.rfft2(torch.zeros(3, 4, 8)), 3 * 4 * (32 // 2 * 5) // 2),
        (lambda: torch.fft.irfft2(torch.zeros(3, 4, 5, dtype=torch.cfloat), s=(4, 8)), 3 * 4 * (32 // 2 * 5) // 2),
        (lambda: torch.fft.rfft(torch.zeros(7)), 20),  # 7 * log2(7) = 19.65
        (lambda: torch.fft.fft(torch.zeros(6, 1, dtype=torch.cfloat)), 0),
    ],
)
def test_fourier_transforms(function, multiplications):
    assert counted(function)["fft"] == multiplications


def test_pooling_normalisation_and_activation():
    x = torch.randn(2, 3, 8, 8)
    assert counted(lambda: F.avg_pool2d(x, 2)) == {"average_pool": 2 * 3 * 16}
    assert counted(lambda: F.adaptive_avg_pool2d(x, 2)) == {"adaptive_average_pool": 17 * 2 * 3 * 4}
    assert counted(lambda: F.adaptive_avg_pool2d(x, 1)) == {"adaptive_average_pool": 65 * 6}
    assert counted(lambda: x.mean(dim=(2, 3))) == {"adaptive_average_pool": 65 * 6}
    assert counted(lambda: x.mean(dim=1)) == {}
    assert counted(lambda: x.mean()) == {}
    assert counted(lambda: F.max_pool2d(x, 2)) == {"max_pool": x.numel()}
    assert counted(lambda: F.max_pool2d(x, (3, 2), stride=2)) == {"max_pool": 6 * 2 * 3 * 3 * 4}
    assert counted(lambda: F.relu(x) + F.relu_(x.clone())) == {"relu": 2 * x.numel()}
    assert counted(lambda: nn.BatchNorm2d(3).eval()(x)) == {"batch_norm": x.numel()}
    assert counted(lambda: nn.BatchNorm1d(4).eval()(torch.randn(5, 4))) == {"batch_norm": 20}


def test_composite_operators_under_inference_mode():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 6)

        def forward(self, x):
            with torch.inference_mode():
                return torch.einsum("bi,ij->bj", self.fc(x), torch.ones(6, 2))

    assert measure.macs(Inner(), (4,)) == 4 * 6 + 6 * 2


def test_hidden_arithmetic_is_refused_by_name():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Bilinear(3, 4, 5)

        def forward(self, a, b):
            return self.layer(a, b)

    with pytest.raises(ValueError, match="operator 'aten::_trilinear' is not known"):
        measure.macs(Recurrent(), (torch.randn(1, 3), torch.randn(1, 4)))


class Calls(nn.Module):
    """Hands its input to a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@torch.library.custom_op("compactvision_tests::blur", mutates_args=())
def blur(x: torch.Tensor) -> torch.Tensor:
    """A convolution inside an operator of one's own."""
    return F.conv2d(x, torch.ones(3, 3, 3, 3))


class Product(torch.autograd.Function):
    """A matrix product with a backward pass of its own."""

    @staticmethod
    def forward(ctx, a, b):
        return a @ b


@torch.jit.script
def scripted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(torch.matmul(x, weight)) * 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: blur(x), ["compactvision_tests::blur"]),
        (lambda x: blur(F.relu(x)) + torch.cdist(x, x).sum(), ["compactvision_tests::blur", "aten::_cdist_forward"]),
        (lambda x: nn.LSTM(8, 4)(x[0]), ["aten::mkldnn_rnn_layer"]),
        (lambda x: F.bilinear(x, x, torch.zeros(2, 8, 8)), ["aten::_trilinear"]),
        (lambda x: torch.linalg.svd(x), ["aten::_linalg_svd"]),
        (lambda x: x.to_sparse(), ["aten::_to_sparse"]),
    ],
)
def test_unknown_operators_are_refused_by_name(function, names, mode):
    with mode(), pytest.raises(ValueError, match=r"inside the operator .* is not known") as error:
        measure.macs(Calls(function), (3, 8, 8))
    for name in names:
        assert repr(name) in str(error.value)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: torch.mm(torch.zeros(3, 4), torch.zeros(4, 5), out=torch.empty(3, 5)), 60),
        (lambda: torch.matmul(torch.zeros(2, 3, 4), torch.zeros(2, 4, 5), out=torch.empty(2, 3, 5)), 120),
        (lambda: torch.zeros(3, 5).addmm_(torch.zeros(3, 4), torch.zeros(4, 5)), 60),
        (lambda: torch.zeros(2, 3, 5).baddbmm_(torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)), 120),
        (lambda: torch.addbmm(torch.zeros(3, 5), torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)), 120),
        (lambda: torch.linalg.multi_dot([torch.zeros(3, 4), torch.zeros(4, 5), torch.zeros(5, 2)]), 40 + 24),
        (lambda: F.affine_grid(torch.zeros(2, 2, 3), (2, 3, 8, 8), align_corners=False), 2 * 64 * 2 * 3),
        (lambda: [scripted(torch.zeros(3, 4), torch.zeros(4, 5)) for _ in range(3)], 180),
        (lambda: Product.apply(torch.zeros(3, 4), torch.zeros(4, 5)), 60),
    ],
)
def test_products_in_every_guise(function, expected, mode):
    with mode():
        assert counted(function)["matrix_product"] == expected


def test_deformable_convolution_counts_as_a_convolution():
    class Deformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Conv2d(4, 2 * 6, (3, 2), stride=2, bias=False)
            self.conv = torchvision.ops.DeformConv2d(4, 8, (3, 2), stride=2, groups=2)

        def forward(self, x):
            return self.conv(x, self.offset(x))

    found = measure.operations(Deformed(), (4, 9, 8))
    assert found == {"convolution": 4 * 4 * 6 * (4 * 12 + 2 * 8), "convolution_bias": 4 * 4 * 8}


def test_quantised_layers_count_as_in_float():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 10, bias=False)).eval()
    dynamic = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert measure.macs(dynamic, (3, 4, 4)) == measure.macs(model, (3, 4, 4)) == 48 * 16 + 160
    static = torchvision.models.quantization.mobilenet_v2(weights=None, quantize=True)
    plain = torchvision.models.mobilenet_v2()
    assert measure.macs(static, (3, 64, 64)) == measure.macs(plain, (3, 64, 64))


def test_scripted_traced_and_compiled_networks_count_alike():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).eval()
    expected = measure.operations(model, (3, 8, 8))
    script = torch.jit.script(model)
    traced = torch.jit.trace(model, torch.rand(1, 3, 8, 8))
    for other in (script, traced, torch.compile(model, backend="eager")):
        assert measure.operations(other, (3, 8, 8)) == expected
    assert measure.macs(torch.jit.freeze(script), (3, 8, 8)) == measure.macs(model, (3, 8, 8))
    around = nn.Sequential(nn.Identity(), script)
    assert measure.macs_by_module(around, (3, 8, 8)) == {"": measure.macs(model, (3, 8, 8))}


def families():
    """One network of each family, with the side of its images."""
    names = "alexnet convnext_tiny densenet121 efficientnet_v2_s googlenet maxvit_t mnasnet0_5 mobilenet_v3_small "
    names += "resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11_bn vit_b_32 inception_v3 "
    names += (
        "segmentation.fcn_resnet50 segmentation.deeplabv3_mobilenet_v3_large segmentation.lraspp_mobilenet_v3_large "
    )
    names += "video.r3d_18 video.mvit_v1_b"
    return [(name, 299 if name == "inception_v3" else 224) for name in names.split()]


@pytest.mark.parametrize(("name", "side"), families())
def test_networks_of_every_family_agree_with_pytorchs_counter(name, side):
    shape = (3, 16, side, side) if name.startswith("video.") else (3, side, side)
    options = {"weights_backbone": None} if name.startswith("segmentation.") else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name.split(".")[-1], weights=None, **options).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape, device="meta"))
    assert measure.macs(model, shape) == counter.get_total_flops() // 2


def test_a_detector_is_counted():
    model = torchvision.models.get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None)
    assert measure.macs(model, (3, 64, 64)) == 583_171_904  # resized to 320 x 320 inside


def test_gates_moves_and_norms_count_nothing():
    x, grid = torch.randn(2, 4, 6, 6), torch.zeros(2, 5, 5, 2)
    functions = [
        lambda: F.grid_sample(x, grid, align_corners=False),
        lambda: F.interpolate(x, scale_factor=2, mode="bicubic", antialias=True),
        lambda: F.layer_norm(F.silu(x) * torch.sigmoid(x), (6,)),
        lambda: F.group_norm(F.gelu(x).roll(1, 2), 2),
        lambda: x[:, [0, 2]].add_(1).unsqueeze_(0).transpose_(1, 2),
        lambda: F.pad(F.glu(x, 1), (1, 1, 1, 1), mode="circular").softmax(1),
        lambda: torch.where(x > 0, x, x.exp()).topk(2).values.cumsum(1),
        lambda: torchvision.ops.roi_align(x, [torch.ones(1, 4), torch.ones(1, 4)], 2),
    ]
    for mode in (torch.no_grad, torch.inference_mode):
        for function in functions:
            with mode():
                assert counted(function) == {}


def test_the_models_own_error_comes_through():
    def fails(x):
        blur(x)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        measure.macs(Calls(fails), (3, 8, 8))
