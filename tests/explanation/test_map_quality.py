"""Localisation and perturbation measures against numbers computed by hand."""

import numpy as np
import pytest
import torch
from compactvision.explanation import map_quality
from torch import nn

MAP = torch.tensor([[[0.0, 0.2], [0.3, 0.5]]])
MASK = torch.tensor([[[False, False], [True, True]]])


def test_energy_share():
    assert map_quality.energy_share(MAP, MASK).item() == pytest.approx(0.8)
    assert map_quality.energy_share(torch.zeros(1, 2, 2), MASK).item() == 0


def test_pointing_game():
    assert map_quality.pointing_game(MAP, MASK).tolist() == [True]
    assert map_quality.pointing_game(MAP, ~MASK).tolist() == [False]
    assert map_quality.pointing_game(torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)).tolist() == [False]


class Brightness(nn.Module):
    """Logits (mean of the image, 0): the probability follows the pixels that are left."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, torch.zeros_like(mean)], 1)


def test_perturbation_curves_by_hand():
    inputs = torch.tensor([[[[4.0, 0], [0, 8]]]])
    options = {"steps": 4, "blurred": torch.zeros_like(inputs), "probability": lambda logits: logits}
    classes = torch.tensor([0])
    deletion = map_quality.perturbation_curves(Brightness(), inputs, MAP, classes, **options)
    assert deletion.tolist() == [[3, 1, 1, 1, 0]]  # 8 goes first, then 0, 0, then 4
    insertion = map_quality.perturbation_curves(Brightness(), inputs, MAP, classes, insertion=True, **options)
    assert insertion.tolist() == [[0, 2, 2, 2, 3]]
    assert map_quality.area_under(deletion).item() == pytest.approx((2 + 1 + 1 + 0.5) / 4)
    two = map_quality.perturbation_curves(Brightness(), inputs, MAP, classes, **{**options, "steps": 2})
    assert two.tolist() == [[3, 1, 0]]


def test_curves_begin_and_end_at_the_whole_and_the_blurred_image():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    inputs, maps, classes = torch.randn(2, 3, 4, 4), torch.rand(2, 4, 4), torch.tensor([0, 2])
    blurred = map_quality.blur(inputs, 1.0)
    curves = map_quality.perturbation_curves(model, inputs, maps, classes, steps=5, blurred=blurred)
    back = map_quality.perturbation_curves(model, inputs, maps, classes, steps=5, blurred=blurred, insertion=True)
    ends = [model(x).softmax(1).gather(1, classes[:, None])[:, 0].detach() for x in (inputs, blurred)]
    torch.testing.assert_close(curves[:, 0], ends[0])
    torch.testing.assert_close(curves[:, -1], ends[1])
    torch.testing.assert_close(back[:, [0, -1]], torch.stack(ends[::-1], 1))
    cold_first = map_quality.perturbation_curves(model, inputs, 1 - maps, classes, steps=16, blurred=blurred)
    hot_in = map_quality.perturbation_curves(model, inputs, maps, classes, steps=16, blurred=blurred, insertion=True)
    torch.testing.assert_close(cold_first, hot_in.flip(1))  # deleting the coldest first is inserting backwards


def test_blur_keeps_constants_and_spreads_a_point_as_a_gaussian():
    constant = torch.full((1, 2, 9, 9), 3.0)
    torch.testing.assert_close(map_quality.blur(constant), constant)
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[0, 0, 15, 15] = 1
    spread = map_quality.blur(point, 2.0)[0, 0]
    assert spread.sum().item() == pytest.approx(1)
    assert (spread[15, 17] / spread[15, 15]).item() == pytest.approx(np.exp(-0.5))
    assert (spread[13, 17] / spread[15, 15]).item() == pytest.approx(np.exp(-1))


def test_blur_is_an_eighth_of_the_width_wide_by_default():
    point = torch.zeros(1, 1, 31, 24, dtype=torch.float64)
    point[0, 0, 15, 12] = 1
    spread = map_quality.blur(point)[0, 0]  # sigma 3
    assert (spread[15, 15] / spread[15, 12]).item() == pytest.approx(np.exp(-0.5))
    assert (spread[18, 12] / spread[15, 12]).item() == pytest.approx(np.exp(-0.5))


def test_average_drop_and_increase():
    drop, increase = map_quality.average_drop(torch.tensor([0.8, 0.5, 0.4]), torch.tensor([0.4, 0.6, 0.3]))
    assert drop == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert increase == pytest.approx(1 / 3)


def test_centre_gaussian():
    bump = map_quality.centre_gaussian((8, 4), 3)
    assert bump.shape == (3, 8, 4)
    torch.testing.assert_close(bump[0], bump[0].flip(0).flip(1))
    assert (bump[0, 3, 1] / bump[0, 1, 1]).item() == pytest.approx(np.exp(-(0.0625**2 - 0.3125**2) / 0.125))


def test_bootstrap_interval_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for seed in range(200):
        low, high = map_quality.bootstrap_interval(torch.randn(60, generator=generator), seed=seed, repeats=400)
        hits += low < 0 < high
    assert 0.88 <= hits / 200 <= 0.99
    assert map_quality.bootstrap_interval(torch.full((5,), 2.0)) == (2.0, 2.0)


def test_bootstrap_interval_is_that_of_the_means_of_a_seeds_draws():
    values = torch.randn(37, generator=torch.Generator().manual_seed(2)).double()
    drawn = values.numpy()[np.random.default_rng(5).integers(0, 37, (300, 37))]
    found = map_quality.bootstrap_interval(values, level=0.9, repeats=300, seed=5)
    assert found == pytest.approx(np.quantile(drawn.mean(1), [0.05, 0.95]), rel=0, abs=1e-12)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="not negative"):
        map_quality.energy_share(-MAP, MASK)
    with pytest.raises(ValueError, match="shape"):
        map_quality.pointing_game(MAP[0], MASK)
    inputs = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="steps"):
        map_quality.perturbation_curves(Brightness(), inputs, MAP, torch.tensor([0]), steps=0)
    with pytest.raises(ValueError, match="maps must have"):
        map_quality.perturbation_curves(Brightness(), inputs, MAP.expand(2, 2, 2), torch.tensor([0]))
    for values, level, message in (
        (torch.ones(1), 0.95, "values must"),
        (torch.tensor([0, torch.nan]), 0.95, "values must"),
        (torch.ones(3), 1.0, "level must"),
    ):
        with pytest.raises(ValueError, match=message):
            map_quality.bootstrap_interval(values, level=level)
