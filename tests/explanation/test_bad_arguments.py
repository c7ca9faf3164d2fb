"""What the methods of explanation refuse, by name: axes that do not agree, classes, masks, choices."""

import pytest
import torch
from compactvision.explanation import arguments, evidence, heads, map_quality
from compactvision.explanation.unit_ablation import ablations, attributes, class_drops, pruning
from compactvision.explanation.xgrad_cam import XGradCAM, activation_maps, axioms, baselines
from torch import nn

MAPS = torch.rand(3, 5, 2, 2)  # (B, K, H, W)
IMAGES = torch.rand(3, 1, 4, 4)
TARGETS = torch.tensor([0, 1, 1])
HITS = torch.tensor([[True, False, True]])
SEEDED = torch.Generator()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2))


def cache():
    return heads.cache_layer(network().eval(), "1", [(IMAGES, TARGETS)])


def test_axes_agree_wherever_they_stand():
    arguments.axes(a=(MAPS, "B K H W"), b=(MAPS[..., 0, 0], "B K"), c=(MAPS, "B ..."), d=(MAPS, "... H W"))
    with pytest.raises(
        ValueError, match=r"b must have the shape \(B, K\) with B = 3 as in a, K = 5 as in a, got \(5, 3\)"
    ):
        arguments.axes(a=(MAPS, "B K H W"), b=(MAPS[..., 0, 0].T, "B K"))
    with pytest.raises(ValueError, match=r"a must have the shape \(N, N\), got \(3, 5\)"):
        arguments.axes(a=(MAPS[..., 0, 0], "N N"))
    with pytest.raises(ValueError, match=r"a must not be empty, got the shape \(0, 5, 2, 2\)"):
        arguments.axes(a=(MAPS[:0], "B ..."))
    with pytest.raises(ValueError, match=r"a must have the shape \(\.\.\., N, M\), got \(5,\)"):
        arguments.axes(a=(torch.ones(5), "... N M"))
    with pytest.raises(ValueError, match="a must be a dense tensor of real numbers"):
        arguments.axes(a=(MAPS.to(torch.complex64), "B ..."))


def test_choices_are_numbers_or_a_mask():
    place = torch.device("cpu")
    mask = torch.tensor([True, False, True])
    for given, expected in ((2, [2]), ([0, -1], [0, -1]), (torch.tensor([1], dtype=torch.int16), [1]), ([], [])):
        assert arguments.chosen(3, place, units=given).tolist() == expected
    assert arguments.chosen(3, place, units=mask).tolist() == mask.tolist()
    for given in (
        3,
        -4,
        [0, 5],
        0.5,
        [0.0],
        "1",
        None,
        [[0], [1]],
        mask[:2],
        mask.byte(),
        {"a": 1},
        torch.ones(1, device="meta"),
    ):
        with pytest.raises(ValueError, match=r"^units must"):
            arguments.chosen(3, place, units=given)


REFUSED = {
    "activation": [
        lambda: activation_maps.weighted_map(MAPS[0], torch.rand(3, 5)),
        lambda: axioms.masses(MAPS.numpy(), torch.rand(3, 5)),
        lambda: ablations.zero_units(torch.rand(3), 0),
        lambda: attributes.unit_means(MAPS[..., :0]),
        lambda: cache().head(torch.rand(2, 4, 4, 4)),
        lambda: cache().head(torch.rand(2, 5, 4, 4).long()),
    ],
    "gradient": [
        lambda: activation_maps.grad_cam_weights(MAPS[..., 0]),
        lambda: activation_maps.xgrad_cam_weights(MAPS, MAPS[:2]),
        lambda: baselines.hires_cam_map(MAPS, MAPS[:, :1]),
        lambda: baselines.grad_cam_plus_plus_weights(MAPS, MAPS.to(torch.complex64)),
    ],
    "mass": [
        lambda: axioms.sensitivity_residual(torch.rand(3, 5), torch.rand(3, 1)),
        lambda: axioms.conservation_residual(torch.rand(3), torch.rand(5, 3)),
    ],
    "score": [lambda: baselines.ablation_cam_weights(torch.rand(3, 5), torch.rand(1))],
    "size": [
        lambda: evidence.picture(MAPS[:, 0], (4,)),
        lambda: evidence.enlarged(MAPS[:, 0], "44"),
        lambda: map_quality.centre_gaussian((0, 4)),
    ],
    "targets": [
        lambda: evidence.gather(network(), "1", IMAGES, "0"),
        lambda: evidence.gather(network(), "1", IMAGES, TARGETS.to(torch.complex64)),
        lambda: class_drops.class_accuracy(HITS, TARGETS, 1),
        lambda: class_drops.halves(TARGETS.int(), SEEDED),
        lambda: class_drops.balanced_accuracy(HITS.long(), TARGETS - 1, 2),
        lambda: attributes.class_means(torch.rand(3, 2), TARGETS[:2], 2),
        lambda: map_quality.perturbation_curves(network(), IMAGES, IMAGES[:, 0], TARGETS + 1, steps=2),
        lambda: heads.cache_layer(network(), "1", [(IMAGES, TARGETS + 1)]),
        lambda: pruning.importance([(IMAGES, TARGETS - 1)])(network()),
    ],
    "num_classes": [lambda: class_drops.balanced_accuracy(HITS.long(), TARGETS, None)],
    "masks": [
        lambda: map_quality.energy_share(MAPS[:, 0], MAPS[:, 0]),
        lambda: map_quality.pointing_game(MAPS[:, 0], None),
        lambda: attributes.concept_iou(MAPS, torch.rand(3, 1, 4, 4)),
    ],
    "blurred": [
        lambda: map_quality.perturbation_curves(network(), IMAGES, IMAGES[:, 0], TARGETS, blurred=IMAGES[:1]),
    ],
    "probability": [
        lambda: map_quality.perturbation_curves(
            network(), IMAGES, IMAGES[:, 0], TARGETS, probability=lambda logits: logits[:, :1]
        ),
    ],
    "sigma": [lambda: map_quality.blur(IMAGES, 0), lambda: map_quality.blur(IMAGES, "2")],
    "full": [lambda: map_quality.average_drop(torch.tensor([0.5, 0.0]), torch.rand(2))],
    "curves": [lambda: map_quality.area_under(torch.rand(3, 1))],
    "seed": [lambda: map_quality.bootstrap_interval(torch.rand(3), seed=-1)],
    "images": [lambda: cache().subset(torch.tensor([3])), lambda: cache().subset(None)],
    "batches": [
        lambda: heads.cache_layer(network(), "1", 3),
        lambda: heads.cache_layer(network(), "1", [(IMAGES, TARGETS, TARGETS)]),
        lambda: pruning.importance(None),
        lambda: pruning.importance([IMAGES])(network()),
    ],
    "edits": [
        lambda: ablations.predictions(cache(), 3),
        lambda: ablations.predictions(cache(), ["zero"]),
        lambda: ablations.predictions(cache(), [lambda activation: activation[:1]]),
    ],
    "cache": [lambda: class_drops.unit_drops(network()), lambda: attributes.taylor_rise(None)],
    "generator": [lambda: ablations.random_rotation(3, None), lambda: class_drops.deal_flips(HITS[0], HITS, 0)],
    "model": [lambda: XGradCAM(None, "1"), lambda: XGradCAM(nan_network(), "1")(IMAGES)],
    "inputs": [lambda: XGradCAM(flat_network(), "1")(torch.rand(3, 4))],
    "norm": [lambda: attributes.filter_l1(nn.Conv2d(1, 2, 1), nn.ReLU())],
    "convolution": [lambda: attributes.filter_l1(nn.ReLU())],
}


def nan_network():
    model = network()
    nn.init.constant_(model[3].bias, torch.nan)
    return model


def flat_network():
    return nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in REFUSED.items() for call in calls])
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=rf"\b{name}\b.* must|^{name} "):
        call()


def test_no_correlation_has_no_p_value():
    found = attributes.class_permutation_test(torch.ones(4, 3), torch.rand(4, 3), SEEDED, rounds=9)
    assert all(value != value for value in found)


def test_what_was_allowed_still_is():
    assert torch.equal(ablations.zero_units(MAPS, -1), ablations.zero_units(MAPS, torch.tensor([4])))
    assert torch.equal(ablations.keep_units(MAPS, torch.arange(5) < 2), ablations.keep_units(MAPS, [0, 1]))
    assert torch.equal(ablations.zero_units(MAPS, []), MAPS)
    small = cache().subset([0, -1])
    assert torch.equal(small.targets, TARGETS[[0, 2]])
    assert torch.equal(
        evidence.gather(network(), "1", IMAGES, [0, 1, 1]).gradient,
        evidence.gather(network(), "1", IMAGES, TARGETS).gradient,
    )


def test_information_is_of_measured_values():
    with pytest.raises(ValueError, match="means must be a floating-point tensor"):
        attributes.mutual_information(torch.ones(4, 2, dtype=torch.long), torch.tensor([0, 1, 0, 1]), 2)


def test_scores_of_masked_pictures_need_numbers_that_can_be_scaled():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    inputs = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="inputs must be"):
        baselines.masked_scores(model, inputs, torch.rand(2, 2, 4, 4), torch.tensor([0, 1]))


def test_inputs_may_be_vectors():
    evidence.check_inputs(torch.rand(2, 3))


def test_equal_classes_give_the_largest_p_value():
    x, y = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5.0)[:, None].repeat(1, 4)
    _, p = attributes.class_permutation_test(x, y, torch.Generator().manual_seed(0), rounds=9)
    assert p == 1.0
