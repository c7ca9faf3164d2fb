"""Circular convolution, global filter and AFNO: slow oracle, the convolution theorem, sizes, precision, errors."""

import math

import pytest
import torch
from compactvision.models import spectral
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import spectral as oracle

SIDES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def normal(*shape, dtype=torch.float64, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def noisy(module):
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


@settings(max_examples=25, deadline=None)
@given(size=SIDES, cut=st.integers(0, 2))
def test_circular_convolution_equals_its_sum(size, cut):
    x = normal(2, 3, *size)
    kernel = normal(3, max(1, size[0] - cut), max(1, size[1] - cut), seed=4)
    found = spectral.circular_convolution(x, kernel)
    for b in range(2):
        for c in range(3):
            expected = torch.from_numpy(oracle.convolve(x[b, c].numpy(), kernel[c].numpy()))
            torch.testing.assert_close(found[b, c], expected, rtol=1e-11, atol=1e-11)
    own = torch.stack([kernel, kernel.flip(0)])
    torch.testing.assert_close(spectral.circular_convolution(x, own)[0], found[0])


@settings(max_examples=25, deadline=None)
@given(size=SIDES)
def test_spectrum_and_back(size):
    x = normal(2, 3, *size)
    frequencies = spectral.spectrum(x)
    expected = oracle.half(oracle.transform(x[0].numpy()), size[1])
    torch.testing.assert_close(frequencies[0], torch.from_numpy(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(spectral.image(frequencies, size), x)
    torch.testing.assert_close(torch.from_numpy(oracle.back(expected, size[1])), x[0])


@pytest.mark.parametrize("size", [(4, 6), (5, 5), (1, 8), (7, 4)])
def test_a_global_filter_is_a_circular_convolution_with_its_kernel(size):
    mix = noisy(spectral.GlobalFilter(3, size))
    x = normal(2, 3, *size)
    torch.testing.assert_close(mix(x), spectral.circular_convolution(x, mix.kernel()))
    moved = x.roll((1, 2), (2, 3))  # and so it does not see where anything is
    torch.testing.assert_close(mix(moved), mix(x).roll((1, 2), (2, 3)))


def test_parameters_of_a_global_filter():
    assert sum(p.numel() for p in spectral.GlobalFilter(5, (6, 7)).parameters()) == 2 * 5 * 6 * 4


@pytest.mark.parametrize(("size", "new"), [((6, 6), (12, 12)), ((5, 6), (9, 7)), ((6, 7), (11, 16)), ((4, 4), (8, 4))])
def test_a_resized_kernel_has_the_same_taps(size, new):
    mix = noisy(spectral.GlobalFilter(2, size))
    with torch.no_grad():
        mix.weight.copy_(torch.view_as_real(spectral.spectrum(normal(2, *size))))
    before, after = mix.kernel(), mix.kernel(new)
    centred = [torch.fft.fftshift(each, dim=(-2, -1)) for each in (before, after)]
    first = [b // 2 - a // 2 for a, b in zip(size, new, strict=True)]
    inner = centred[1][:, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
    torch.testing.assert_close(inner, centred[0])
    torch.testing.assert_close(after.abs().sum(), before.abs().sum())  # zeros elsewhere
    back = spectral.resize_kernel(mix.spectrum_at(new), new, size)
    torch.testing.assert_close(back, torch.view_as_complex(mix.weight))


def test_a_resized_spectrum_does_the_same_to_the_same_wave():
    mix = noisy(spectral.GlobalFilter(1, (8, 8), resize="spectrum"))
    for waves in ((1, 2), (6, 3), (0, 4), (2, 0)):  # per picture of 8
        small = mix.spectrum_at((8, 8))[0, waves[0], waves[1]]
        torch.testing.assert_close(mix.spectrum_at((16, 16))[0, 2 * waves[0], 2 * waves[1]], small)
    assert mix(normal(1, 1, 9, 12)).shape == (1, 1, 9, 12)
    halfway = mix.spectrum_at((16, 16))[0, 1, 0]
    torch.testing.assert_close(halfway, mix.spectrum_at((8, 8))[0, :2, 0].mean())


@pytest.mark.parametrize("size", [(3, 4), (4, 5), (1, 3)])
def test_the_network_on_frequencies_and_afno_equal_the_oracle(size):
    mix = noisy(spectral.AFNO(8, 4))
    x = normal(1, 8, *size)
    expected = oracle.afno(mix, x[0].numpy())
    torch.testing.assert_close(mix(x)[0], torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


def test_every_frequency_is_treated_alike_and_groups_are_apart():
    mlp = noisy(spectral.SpectralMLP(8, 4))
    z = torch.complex(normal(1, 8, 3, 4), normal(1, 8, 3, 4, seed=5))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    mixed = z.flatten(2)[..., order].unflatten(2, (3, 4))
    torch.testing.assert_close(mlp(mixed), mlp(z).flatten(2)[..., order].unflatten(2, (3, 4)))
    changed = z.clone()
    changed[:, :2] += 1  # the first group
    same = (mlp(changed) == mlp(z)).flatten(2).all(-1)[0]
    assert same.tolist() == [False] * 2 + [True] * 6


def test_soft_shrinkage_of_both_parts():
    z = torch.tensor([1 + 0.5j, -0.2 - 3j, 0.4 + 0j])
    torch.testing.assert_close(spectral.soft_shrink(z, 0.5), torch.tensor([0.5 + 0j, 0 - 2.5j, 0 + 0j]))


@pytest.mark.parametrize("build", [lambda: spectral.GlobalFilter(8, (5, 6)), lambda: spectral.AFNO(8)])
def test_transforms_stay_in_float32_under_autocast(build):
    mix, x = build(), normal(2, 8, 5, 6, dtype=torch.float32)
    plain = mix(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mix(x)
        assert spectral.spectrum(x.bfloat16()).dtype == torch.complex64
        halved = mix(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    torch.testing.assert_close(halved, mix(x.bfloat16().float()))


@pytest.mark.parametrize("build", [lambda: spectral.GlobalFilter(8, (4, 4)), lambda: spectral.AFNO(8)])
def test_gradients_are_finite_for_an_empty_picture(build):
    mix, x = build(), torch.zeros(1, 8, 4, 4, requires_grad=True)
    mix(x).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in [x, *mix.parameters()])


def test_numbers_are_drawn_from_the_generator():
    def draw():
        return spectral.AFNO(8, generator=torch.Generator().manual_seed(1))

    assert all(torch.equal(a, b) for a, b in zip(draw().parameters(), draw().parameters(), strict=True))
    values = spectral.GlobalFilter(64, (16, 16), generator=torch.Generator().manual_seed(1)).weight
    assert math.isclose(values.std().item(), 0.02, rel_tol=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral.spectrum(torch.zeros(3)), r"x must be \(\.\.\., H, W\)"),
        (lambda: spectral.spectrum(torch.zeros(2, 2, dtype=torch.long)), "x must be a floating-point tensor"),
        (lambda: spectral.image(torch.zeros(2, 2), (2, 2)), "frequencies must be complex"),
        (lambda: spectral.image(torch.zeros(2, 2, dtype=torch.complex64), (2, 4)), "size 2 x 4 must have 2 x 3"),
        (lambda: spectral.circular_convolution(torch.zeros(1, 2, 3, 3), torch.zeros(3, 3, 3)), r"kernel must be \(C"),
        (lambda: spectral.circular_convolution(torch.zeros(1, 2, 3, 3), torch.zeros(2, 4, 3)), r"kernel must be \(C"),
        (lambda: spectral.GlobalFilter(2, (4, 4), resize="nearest"), "resize must be one of kernel, spectrum"),
        (lambda: spectral.GlobalFilter(2, (4, 4))(torch.zeros(1, 3, 4, 4)), r"x must be maps \(B, 2, H, W\)"),
        (lambda: spectral.GlobalFilter(2, 4), r"size must be \(H, W\), got 4"),
        (lambda: spectral.SpectralMLP(12, 8), "groups must divide the 12 channels, got 8"),
        (lambda: spectral.AFNO(8, threshold=-1), "threshold must be at least 0, got -1"),
        (lambda: spectral.soft_shrink(torch.zeros(2), 0.1), "z must be a complex tensor"),
        (
            lambda: spectral.resize_kernel(torch.zeros(1, 4, 4, dtype=torch.complex64), (4, 4), (8, 8)),
            r"weight must be complex \(C, 4, 3\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
