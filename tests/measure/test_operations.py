"""What the counter sees, against counts by hand and slow walks."""

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

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

    with pytest.raises(ValueError, match="fused operator '_trilinear' cannot be counted"):
        measure.macs(Recurrent(), (torch.randn(1, 3), torch.randn(1, 4)))
