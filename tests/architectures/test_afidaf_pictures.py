"""Noisy pictures and the three-line denoiser."""

import math

import pytest
import torch
from compactvision.architectures.afidaf import pictures


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_waves_have_two_frequencies_and_the_told_amplitudes():
    clean = pictures.waves(50, (64, 64), seeded())
    power = clean.pow(2).mean((1, 2, 3))
    assert ((power > 0.5 * 0.5**2 * 0.8) & (power < 0.5 * (1.5**2))).all()
    amplitude = torch.fft.fft2(clean * torch.hann_window(64)[:, None] * torch.hann_window(64)).abs()
    first = amplitude.flatten(2).argmax(2)[:, 0]
    row, column = (first // 64 + 32) % 64 - 32, (first % 64 + 32) % 64 - 32
    length = 64 / (row.float() ** 2 + column.float() ** 2).sqrt()
    assert ((length > 2.7) & (length < 10.5)).all()


def test_shapes_are_even_inside():
    clean = pictures.shapes(20, (32, 32), seeded())
    assert clean.abs().max() <= 1
    even = (clean[..., 1:, :] == clean[..., :-1, :]).float().mean()
    assert even > 0.6


def test_noise_differs_from_picture_to_picture():
    clean, noisy = pictures.draw("both", 400, (16, 16), noise=(0.5, 1.5), generator=seeded())
    level = (noisy - clean).std((1, 2, 3))
    assert level.min() < 0.6
    assert level.max() > 1.3
    assert torch.equal(clean[:200], pictures.draw("waves", 200, (16, 16), noise=(0, 0), generator=seeded())[0])
    silent = pictures.draw("shapes", 3, (8, 9), noise=(0, 0), generator=seeded())
    assert torch.equal(*silent)


def test_the_threshold_keeps_one_wave_and_silences_noise():
    x = torch.cos(2 * math.pi * 3 * torch.arange(32) / 32).expand(1, 1, 32, 32)
    noise = 0.3 * torch.randn(1, 1, 32, 32, generator=seeded())
    torch.testing.assert_close(pictures.threshold(x + noise, 5.0), x, atol=0.1, rtol=0)
    assert pictures.threshold(noise, 6.0).abs().max() < 1e-6


def test_gain_is_the_fall_of_the_error_in_db():
    clean, noisy = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    found = torch.stack([torch.full((1, 4, 4), 0.1), torch.ones(1, 4, 4)])
    torch.testing.assert_close(pictures.gain(found, clean, noisy), torch.tensor([20.0, 0.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pictures.draw("dots", 2, (8, 8), noise=(0, 1)), "kind must be one of waves, shapes, both"),
        (lambda: pictures.draw("both", 1, (8, 8), noise=(0, 1)), "n must be at least 2 for both kinds, got 1"),
        (lambda: pictures.draw("waves", 1, (8, 8), noise=(1, 0)), "noise must be"),
        (lambda: pictures.waves(0, (8, 8)), "n must be at least 1, got 0"),
        (lambda: pictures.shapes(1, 8), r"size must be \(H, W\), got 8"),
        (lambda: pictures.gain(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1, 3)), "pictures of one shape"),
        (lambda: pictures.threshold(torch.zeros(4, 4)), r"noisy must be \(B, C, H, W\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
