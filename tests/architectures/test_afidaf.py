"""AFIDAF's filters, blocks and networks: slow oracle, invariants of the specification, published counts, errors."""

import math

import numpy as np
import pytest
import torch
from compactvision import measure
from compactvision.architectures import afidaf as af
from compactvision.architectures.afidaf import skeleton
from compactvision.models import spectral
from torch import nn

from oracles import attention
from oracles import spectral as oracle


def normal(*shape, dtype=torch.float64, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def noisy(module, std=0.5):
    generator = torch.Generator().manual_seed(1)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=std, generator=generator)
    return module.eval()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (5, 4), (1, 6)])
def test_the_fourier_filter_equals_the_oracle(size):
    aff = noisy(af.FourierFilter(8, 4))
    x = normal(2, 8, *size)
    for b in range(2):
        expected = torch.from_numpy(oracle.fourier_filter(aff, x[b].numpy()))
        torch.testing.assert_close(aff(x)[b], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_image_filter_equals_the_oracle(grouped):
    idaf = noisy(af.ImageFilter(4, 2, grouped=grouped), 0.3)
    x = normal(1, 4, 6, 7)
    expected = torch.from_numpy(oracle.image_filter(idaf, x[0].numpy(), attention.gelu))
    torch.testing.assert_close(idaf(x)[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (7, 3)])
def test_it_is_a_circular_convolution_with_a_kernel_made_from_the_picture(size):
    aff, x = noisy(af.FourierFilter(8)), normal(2, 8, *size)
    torch.testing.assert_close(aff(x), spectral.circular_convolution(x, aff.kernel(x)) + x, rtol=1e-12, atol=1e-12)


def test_without_weights_nothing_is_added_and_with_a_mask_of_one_all_is_doubled():
    aff, x = af.FourierFilter(8).double(), normal(1, 8, 5, 6)
    for parameter in aff.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(aff(x), x)
    with torch.no_grad():
        aff.mlp.biases[1, ..., 0] = 1.01  # behind the shrinkage of 0.01
    torch.testing.assert_close(aff(x), 2 * x)


def test_a_wave_grows_with_the_picture_and_the_scale_takes_that_back():
    """The same wave on 8 x 8 and on 16 x 16 places: twice the amplitude in the spectrum, the same mask with half."""
    aff = noisy(af.FourierFilter(8))
    small = torch.cos(math.pi * torch.arange(8) / 2).expand(1, 8, 8, 8).double()
    large = small.repeat(1, 1, 2, 2)
    tops = [spectral.spectrum(each)[..., 0, each.shape[-1] // 4] for each in (small, large)]
    torch.testing.assert_close(tops[1], 2 * tops[0])
    before = aff(small)
    assert not torch.allclose(aff(large), before.repeat(1, 1, 2, 2))
    af.filters.rescale_(nn.Sequential(aff), 0.5)
    mask = aff.mask(spectral.spectrum(large))[..., 0, 4]
    af.filters.rescale_(aff, 1)
    torch.testing.assert_close(mask, aff.mask(spectral.spectrum(small))[..., 0, 2])


def test_no_weight_knows_its_frequency():
    aff = noisy(af.FourierFilter(8))
    z = torch.complex(normal(1, 8, 4, 5), normal(1, 8, 4, 5, seed=4))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))

    def permuted(each):
        return each.flatten(2)[..., order].unflatten(2, (4, 5))

    torch.testing.assert_close(aff.mask(permuted(z)), permuted(aff.mask(z)))


def test_one_changed_frequency_changes_that_one_alone():
    aff, x = noisy(af.FourierFilter(8)), normal(1, 8, 6, 6)
    z = spectral.spectrum(x)
    z[0, :, 2, 1] += 1 + 2j  # its mirror image follows by itself
    changed = spectral.spectrum(aff(spectral.image(z, (6, 6)))) - spectral.spectrum(aff(x))
    where = changed.abs().amax(1)[0] > 1e-9
    assert where.nonzero().tolist() == [[2, 1]]


def test_it_is_not_equivariant_to_a_shift_though_a_global_filter_is():
    aff, x = noisy(af.FourierFilter(8)), normal(1, 8, 8, 8)
    moved = aff(x.roll((3, 2), (2, 3))) - aff(x).roll((3, 2), (2, 3))
    assert moved.abs().max() > 0.1
    fixed = noisy(spectral.GlobalFilter(8, (8, 8)))
    torch.testing.assert_close(fixed(x.roll(3, 2)), fixed(x).roll(3, 2))


def test_it_cannot_shift():
    """A picture of one frequency, of phase 0: the mask is one complex number, the same for two frequencies."""
    aff = noisy(af.FourierFilter(8))
    z = torch.full((1, 8, 1, 2), 1 + 0j, dtype=torch.complex128)  # amplitudes alike; a shift needs two phases
    mask = aff.mask(z)
    torch.testing.assert_close(mask[..., 0], mask[..., 1])


def test_groups_of_channels_are_apart():
    aff, x = noisy(af.FourierFilter(16)), normal(1, 16, 4, 5)
    changed = x.clone()
    changed[:, :2] += normal(1, 2, 4, 5, seed=9)
    same = (aff(changed) - aff(x)).abs().amax((0, 2, 3)) < 1e-12
    assert same.tolist() == [False] * 2 + [True] * 14


def test_an_empty_picture_has_finite_gradients():
    aff, x = af.FourierFilter(8), torch.zeros(1, 8, 4, 6, requires_grad=True)
    aff(x).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in [x, *aff.parameters()])


def test_autocast_leaves_the_spectrum_in_float32():
    aff, x = af.FourierFilter(8), normal(1, 8, 5, 7, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = aff(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, aff(x), rtol=0, atol=0)


def test_the_window_spans_23_places_and_not_one_more():
    idaf = noisy(af.ImageFilter(8))
    for convolution in (idaf.near, idaf.far):
        nn.init.ones_(convolution.weight)
    with torch.no_grad():
        x = torch.ones(1, 8, 41, 41, dtype=torch.float64, requires_grad=True)
    idaf(x)[0, 3, 20, 20].backward()
    where = x.grad.abs().sum((0, 1)) > 0
    assert where[9:32, 9:32].all()
    assert where.sum() == 23 * 23


def test_a_gate_of_zero_leaves_the_picture():
    idaf, x = noisy(af.ImageFilter(8)), normal(1, 8, 5, 5)
    for convolution in (idaf.point, idaf.after):
        nn.init.zeros_(convolution.bias)
    nn.init.zeros_(idaf.point.weight)
    assert torch.equal(idaf(x), x)


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (12, 4), (8, 8), (5, 1)])
def test_shuffle_and_its_inverse(channels, groups):
    x = normal(2, channels, 2, 3)
    dealt = af.shuffle(x, groups)
    torch.testing.assert_close(af.shuffle(dealt, channels // groups), x, rtol=0, atol=0)
    assert np.array_equal(oracle.shuffled(x[0].numpy(), groups), dealt[0].numpy())
    torch.testing.assert_close(nn.ChannelShuffle(groups)(x), dealt)


@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (16, 8), (64, 8)])
def test_two_grouped_layers_with_a_shuffle_reach_all_channels_up_to_the_root(channels, groups):
    first, second = (nn.Conv2d(channels, channels, 1, groups=groups, bias=False) for _ in range(2))
    for layer in (first, second):
        nn.init.ones_(layer.weight)
    x = torch.ones(1, channels, 1, 1, requires_grad=True)
    second(af.shuffle(first(x), groups))[0, 0].sum().backward()
    assert bool((x.grad > 0).all()) == (groups**2 <= channels)


@pytest.mark.parametrize("channels", [16, 64])
def test_parameters_by_formula(channels):
    c = channels
    assert count(af.FourierFilter(c)) == c * c // 2 + 4 * c
    assert count(af.ImageFilter(c)) == c * c + c * c // 4 + 79 * c
    assert count(af.ImageFilter(c, grouped=False)) == c * c + 77 * c
    assert count(af.AlternatingFilter(c)) == count(af.FourierFilter(c)) + count(af.ImageFilter(c))


def test_orders():
    x = normal(1, 8, 5, 6)
    both = {order: noisy(af.AlternatingFilter(8, order=order)) for order in af.filters.ORDERS}
    image, fourier = both["parallel"].image_filter, both["parallel"].fourier_filter
    torch.testing.assert_close(both["image_first"](x), fourier(image(x)))
    torch.testing.assert_close(both["fourier_first"](x), image(fourier(x)))
    torch.testing.assert_close(both["parallel"](x), fourier(x) + image(x) - x)
    assert not torch.allclose(both["image_first"](x), both["fourier_first"](x))


PUBLISHED = {  # counted by running the published code
    "xx_small": (1_436_264, 342_486_016 + 576_000, 13_174_784, 360_893_952),
    "x_small": (2_654_232, 756_498_432 + 768_000, 29_196_288, 793_458_688),
    "small": (5_568_696, 1_384_898_560 + 960_000, 67_862_528, 1_463_895_552),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_affnet_has_the_published_counts(size):
    with torch.device("meta"):
        network = af.afidaf(size, filters="aff")
    parameters, plain, masks, macs = PUBLISHED[size]
    assert count(network) == parameters
    found = measure.operations(network, (3, 256, 256))
    assert found["convolution"] + found["matrix_product"] == plain + masks
    assert measure.macs(network, (3, 256, 256)) == macs


def test_parts_of_affnet():
    with torch.device("meta"):
        network = af.afidaf("small", filters="aff")
    parts = (network.stem, network.layer1, network.layer2, network.layer3, network.layer4, network.layer5,
             network.expand, network.head)  # fmt: skip
    assert [count(part) for part in parts] == [464, 3968, 86528, 259328, 1618432, 2329856, 309120, 961000]
    masks = [count(module) for module in network.modules() if isinstance(module, af.FourierFilter)]
    assert len(masks) == 9
    assert sum(masks) == 310_016


def test_our_counts_of_afidaf():
    with torch.device("meta"):
        networks = {(s, f): af.afidaf(s, filters=f) for s in ("x_small", "small") for f in ("idaf", "afidaf")}
    assert [count(networks["x_small", f]) for f in ("idaf", "afidaf")] == [2_933_400, 3_054_744]
    assert [count(networks["small", f]) for f in ("idaf", "afidaf")] == [6_188_280, 6_498_296]
    assert count(networks["small", "afidaf"]) - count(networks["small", "idaf"]) == 310_016
    assert measure.macs(networks["small", "afidaf"], (3, 256, 256)) == 1_657_644_544


def test_a_network_takes_other_sizes_and_tells_its_maps():
    network = af.afidaf("xx_small", num_classes=7, generator=torch.Generator().manual_seed(0)).eval()
    x = normal(2, 3, 64, 96, dtype=torch.float32)
    assert network(x).shape == (2, 7)
    assert [tuple(each.shape[1:]) for each in network.maps(x)] == [
        (48, 16, 24), (64, 8, 12), (104, 4, 6), (144, 2, 3)
    ]  # fmt: skip
    again = af.afidaf("xx_small", num_classes=7, generator=torch.Generator().manual_seed(0)).eval()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True) if a.ndim != 4)


def test_a_block_adds_to_what_it_was_given():
    block = af.published.FilterBlock(16, lambda channels: nn.Conv2d(channels, channels, 1)).eval()
    nn.init.zeros_(block.filter.weight)
    nn.init.ones_(block.filter.bias)
    x = normal(1, 16, 5, 5, dtype=torch.float32)
    torch.testing.assert_close(block(x), x + 1)


@pytest.mark.parametrize("mixer", skeleton.MIXERS)
@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
def test_every_mixer_fits_the_skeleton(mixer, size):
    network = skeleton.Restorer(mixer, 16, 8)
    x = normal(2, 1, *size, dtype=torch.float32)
    assert network(x).shape == x.shape
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    torch.testing.assert_close(network(x), x)


def test_pooling_asks_the_neighbours_that_are_there():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    torch.testing.assert_close(skeleton.AveragePool()(x), x.mean() - x)


def test_attention_is_blind_for_order():
    mix, x = noisy(skeleton.SelfAttention(8)), normal(1, 8, 3, 3)
    torch.testing.assert_close(mix(x.flip(3)), mix(x).flip(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: af.FourierFilter(12), "groups must divide the 12 channels, got 8"),
        (lambda: af.FourierFilter(8, threshold=math.nan), "threshold must be finite"),
        (lambda: af.FourierFilter(8)(torch.zeros(1, 4, 4, 4)), r"x must be maps \(B, 8, H, W\)"),
        (lambda: af.ImageFilter(8, 3), "groups must divide the 8 channels, got 3"),
        (lambda: af.ImageFilter(8)(torch.zeros(8, 4, 4)), r"x must be \(B, C, H, W\)"),
        (lambda: af.AlternatingFilter(8, order="IF"), "order must be one of image_first, fourier_first, parallel"),
        (lambda: af.filters.rescale_(nn.Identity(), -1.0), "scale must be positive, got -1.0"),
        (lambda: af.FourierFilter(8).mask(torch.zeros(1, 8, 2, 2).to_sparse()), "frequencies must be complex"),
        (lambda: af.shuffle(torch.zeros(1, 6), 4), "channels that 4 groups divide"),
        (lambda: af.afidaf("large"), "size must be one of xx_small, x_small, small"),
        (lambda: af.afidaf(filters="gf"), "filters must be one of afidaf, aff, idaf"),
        (lambda: af.afidaf(num_classes=0), "num_classes must be at least 1, got 0"),
        (lambda: af.FilterNet(2, (8, 8), lambda c: nn.Identity()), "channels must be 5 counts"),
        (lambda: af.published.FilterBlock(8, nn.Identity), "build must be a function of 1 argument"),
        (lambda: skeleton.Restorer("fourier", 8, 8), "mixer must be one of none, pool"),
        (lambda: skeleton.depthwise(8, 4), "kernel must be odd, got 4"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
