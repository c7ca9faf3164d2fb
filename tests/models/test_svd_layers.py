"""Convolutions of two factors: equal to the dense one, nearest of their rank, counted, clipped, refused."""

import itertools

import pytest
import torch
from compactvision import measure
from compactvision.models.factorised import SVDConv2d
from torch import nn

LAYERS = {
    "3 x 3": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
    "dilation": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "oblong": {"kernel_size": (1, 5), "padding": (0, 2), "stride": (2, 1)},
    "same": {"kernel_size": (3, 5), "padding": "same"},
    "1 x 1": {"kernel_size": 1, "bias": False},
}


@pytest.mark.parametrize(("settings", "rank"), [*itertools.product(LAYERS.values(), (1, 4, 9))])
def test_equals_the_dense_layer(settings, rank):
    conv = nn.Conv2d(7, 9, **settings).double()
    small = SVDConv2d.from_layer(conv, rank)
    x = torch.randn(2, 7, 11, 10, dtype=torch.float64)
    torch.testing.assert_close(small(x), small.dense()(x))
    matrix = conv.weight.detach().flatten(1)
    values = torch.linalg.svdvals(matrix)
    lost = (small.kernel().detach().flatten(1) - matrix).square().sum()
    torch.testing.assert_close(lost, values[small.ranks[0] :].square().sum())
    if small.ranks[0] == len(values):
        torch.testing.assert_close(small(x), conv(x))


def test_counts():
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1)
    small = SVDConv2d.from_layer(conv, 5)
    assert measure.parameters(small) == 5 * (8 * 9 + 12) + 12
    assert measure.macs(small, (8, 10, 10)) == 5 * (8 * 9 + 12) * 25
    dense, weights = 8 * 12 * 9, 5 * (8 * 9 + 12)
    assert measure.macs(small, (8, 10, 10)) / measure.macs(conv, (8, 10, 10)) == weights / dense


@pytest.mark.parametrize(("sizes", "built"), [((4, 9, 1), 4), ((2, 40, 3), 18), ((9, 4, 1), 4)])
def test_ranks_are_clipped_and_said(sizes, built):
    channels, out, side = sizes
    small = SVDConv2d.from_layer(nn.Conv2d(channels, out, side), 100)
    assert small.ranks == (built,)
    assert small.clipped
    assert "asked for (100,)" in repr(small)


def test_both_factors_train_and_are_drawn_by_the_generator():
    first, second = (SVDConv2d(6, 8, 3, 4, padding=1, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1))
    torch.testing.assert_close(first.kernel(), second.kernel())
    first(torch.randn(2, 6, 5, 5)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in first.parameters())
    many = SVDConv2d(64, 64, 3, 32, generator=torch.Generator().manual_seed(0))
    assert float(many.kernel().detach().var()) == pytest.approx(2 / (9 * 64), rel=0.1)


def test_description_builds_the_same_shapes():
    small = SVDConv2d.from_layer(nn.Conv2d(6, 8, (3, 1), stride=2, padding=(1, 0), bias=False), 3)
    again = SVDConv2d.from_description(small.description())
    again.load_state_dict(small.state_dict())
    x = torch.randn(2, 6, 9, 9)
    assert torch.equal(again(x), small(x))


def test_half_precision_and_autocast():
    conv = nn.Conv2d(6, 8, 3)
    x = torch.randn(2, 6, 9, 9)
    small = SVDConv2d.from_layer(conv, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert small(x).dtype == torch.bfloat16
    half = SVDConv2d.from_layer(nn.Conv2d(6, 8, 3).to(torch.bfloat16), 4)
    assert half.first.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("layer", "ranks", "said"),
    [
        (nn.Conv2d(8, 8, 3, groups=2), 4, "groups=2"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), 4, "circular"),
        (nn.ConvTranspose2d(8, 8, 3), 4, "ConvTranspose2d"),
        (nn.Linear(8, 8), 4, "Linear"),
        (nn.Conv2d(8, 8, 3), 0, "0"),
        (nn.Conv2d(8, 8, 3), (2, 3), r"\(2, 3\)"),
        (nn.Conv2d(8, 8, 3), 2.5, "2.5"),
    ],
)
def test_refused_by_name(layer, ranks, said):
    with pytest.raises(ValueError, match=said):
        SVDConv2d.from_layer(layer, ranks)


def test_a_kernel_that_is_not_finite_is_refused():
    kernel = torch.zeros(4, 4, 3, 3)
    kernel[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="kernel must be finite"):
        SVDConv2d.from_kernel(kernel, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 4, H, W\)"):
        SVDConv2d(4, 4, 3, 2)(torch.zeros(1, 5, 8, 8))
