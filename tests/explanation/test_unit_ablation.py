"""Ablation of units: the worked example, a slow oracle, and what must always hold."""

from functools import partial

import numpy as np
import pytest
import torch
from compactvision import models
from compactvision.explanation.unit_ablation import ablations, cache_layer, class_drops, unit_drops
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score
from torch import nn

from oracles import unit_ablation as oracle


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def toy():
    """Return the specification's example: three units behind a ReLU, averaged over positions, one linear layer."""
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False))
    network[3].weight.data = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    averages = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 0.5], [0.0, 1.0, 2.0], [0.5, 1.0, 0.4]])
    pattern = torch.tensor([[2.0, 0.0], [1.0, 1.0]])  # mean 1
    return network, averages[:, :, None, None] * pattern, torch.tensor([0, 0, 1, 1])


def small(norm=True, head="gap", classes=5):
    network = models.small_cnn(classes, (6, 8), norm=norm, head=head, size=16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.5)
    return network.eval()


LAYERS = {
    (True, "gap"): "features.6",
    (False, "gap"): "features.4",
    (False, "fc"): "features.4",
    (True, "fc"): "features.6",
}


def study(norm=True, head="gap", n=40):
    network = small(norm, head)
    images, targets = torch.randn(n, 3, 16, 16), torch.randint(5, (n,))
    layer = LAYERS[norm, head]
    return (
        network,
        layer,
        images,
        cache_layer(network, layer, [(images[:17], targets[:17]), (images[17:], targets[17:])]),
    )


def zeroed(units):
    return [partial(ablations.zero_units, units=unit) for unit in units]


# --- The example on paper


def test_example_on_paper():
    network, images, targets = toy()
    cache = cache_layer(network, "0", [(images, targets)])
    assert torch.allclose(cache.logits, torch.tensor([[2.5, 0.5], [1.5, 1.0], [0.5, 2.5], [1.0, 0.9]]))
    assert cache.correct.tolist() == [True, True, True, False]
    predicted = ablations.predictions(cache, zeroed(range(3)))
    assert predicted.tolist() == [[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]  # equal logits: the smaller class
    found = unit_drops(cache)
    assert found.overall.tolist() == [0.0, 0.0, 0.25]
    assert found.per_class.tolist() == [[0.5, -0.5], [0.0, 0.0], [0.0, 0.5]]
    assert found.largest.tolist() == [0.5, 0.0, 0.5]
    assert found.most_damaged.tolist() == [0, 0, 1]
    assert found.ties.tolist() == [1, 2, 1]
    assert found.order.tolist() == [[0, 1, 2], [2, 1, 0]]


def test_example_by_the_closed_form():
    network, images, targets = toy()
    cache = cache_layer(network, "0", [(images, targets)])
    means = images.mean((2, 3))
    logits = ablations.gap_linear_logits(cache.logits, means, network[3].weight.detach())
    assert torch.allclose(logits[0], torch.tensor([[0.5, 0.5], [0.5, 1.0], [0.5, 2.5], [0.5, 0.9]]))
    assert torch.allclose(logits[1], torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.0, 2.0], [0.5, 0.4]]))
    assert torch.allclose(logits[2], torch.tensor([[2.5, 0.5], [1.5, 0.5], [0.5, 0.5], [1.0, 0.5]]))


# --- Against the whole network, one image at a time, through a hook


@pytest.mark.parametrize(("norm", "head"), list(LAYERS))
def test_cached_ablation_equals_hooks_on_the_whole_network(norm, head):
    network, layer, images, cache = study(norm, head)
    found = ablations.predictions(cache, zeroed(range(8)), batch_size=7, copies=3)
    base = oracle.predictions(network, layer, lambda output: output, images)
    slow = np.stack([oracle.predictions(network, layer, oracle.zero_unit(unit), images) for unit in range(8)])
    assert (found.numpy() == slow).all()
    assert (cache.logits.argmax(1).numpy() == base).all()
    assert (slow != base).any()
    overall, per_class = oracle.drops(base, slow, cache.targets.tolist(), 5)
    drops = unit_drops(cache)
    assert np.allclose(drops.overall, overall, atol=1e-12)
    assert np.allclose(drops.per_class, per_class, atol=1e-12, equal_nan=True)


def test_closed_form_equals_the_head():
    network, _, _, cache = study(norm=False, head="gap")
    means = cache.activation.mean((2, 3))
    logits = ablations.gap_linear_logits(cache.logits, means, network.classifier.weight.detach())
    with torch.no_grad():
        for unit in range(8):
            assert torch.allclose(cache.head(ablations.zero_units(cache.activation, unit)), logits[unit], atol=1e-6)


def test_before_and_behind_average_pooling_are_the_same_units():
    network, _, images, cache = study()
    behind = cache_layer(network, "avgpool", [(images, cache.targets)])
    assert behind.activation.shape == (40, 8, 1, 1)
    assert torch.equal(ablations.predictions(cache, zeroed(range(8))), ablations.predictions(behind, zeroed(range(8))))


def test_units_of_a_layer_without_positions():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4))
    images, targets = torch.randn(9, 3, 2, 2), torch.randint(4, (9,))
    cache = cache_layer(network, "2", [(images, targets)])
    slow = [oracle.predictions(network, "2", oracle.zero_unit(unit), images) for unit in range(6)]
    assert (ablations.predictions(cache, zeroed(range(6))).numpy() == np.stack(slow)).all()


def test_the_unit_is_read_after_batchnorm_and_relu():
    """Zero before BatchNorm is ReLU(shift) behind it: not the paper's ablation, and refused by name."""
    network, layer, images, cache = study(norm=True)
    norm = network.features[5]
    norm.bias.data[2] = 3.0
    cache = cache_layer(network, layer, [(images, cache.targets)])
    weight = network.features[4].weight
    kept = weight.data[2].clone()
    weight.data[2] = 0  # the convolution's output of unit 2 is zero now
    with torch.no_grad():
        wrong = network(images)
        weight.data[2] = kept
        right = cache.head(ablations.zero_units(cache.activation, 2))
    value = 3.0 - norm.weight[2] * norm.running_mean[2] / (norm.running_var[2] + norm.eps).sqrt()
    assert torch.allclose(
        wrong, cache.head(ablations.set_units(cache.activation, 2, torch.full((8,), float(value.detach())))), atol=1e-5
    )
    assert (wrong - right).abs().max() > 0.1
    with pytest.raises(ValueError, match=r"'features\.4' is a Conv2d"):
        cache_layer(network, "features.4", [(images, cache.targets)])


# --- Edits


def test_edits_by_hand():
    activation = torch.arange(12.0).reshape(1, 3, 2, 2) + 1
    assert ablations.zero_units(activation, 1)[0].flatten(1).tolist() == [[1, 2, 3, 4], [0, 0, 0, 0], [9, 10, 11, 12]]
    assert ablations.keep_units(activation, [1])[0].flatten(1).tolist() == [[0] * 4, [5, 6, 7, 8], [0] * 4]
    values = torch.tensor([7.0, 8.0, 9.0])
    assert ablations.set_units(activation, [0, 2], values)[0, :, 0, 0].tolist() == [7, 5, 9]
    assert activation[0, 1, 0, 0] == 5  # the argument is not written to
    along = ablations.remove_direction(activation, torch.tensor([0.6, 0.8, 0.0]))
    assert torch.allclose(along[0, :, 0, 0], torch.tensor([1 - 4.6 * 0.6, 5 - 4.6 * 0.8, 9.0]))


def test_a_set_equals_its_units_one_after_the_other():
    activation = torch.rand(4, 6, 3, 3)
    one_by_one = activation
    for unit in (4, 0, 3):
        one_by_one = ablations.zero_units(one_by_one, unit)
    assert torch.equal(ablations.zero_units(activation, [0, 3, 4]), one_by_one)
    assert torch.equal(ablations.keep_units(activation, [1, 2, 5]), one_by_one)


def test_directions_against_the_oracle_and_along_the_axes():
    activation, mean = torch.rand(3, 5, 2, 4), torch.rand(5)
    q = ablations.random_rotation(5, generator())[2]
    for centre in (None, mean):
        slow = oracle.remove_direction(activation.numpy(), q.numpy(), None if centre is None else centre.numpy())
        assert np.allclose(ablations.remove_direction(activation, q, centre), slow, atol=1e-6)
    axis = torch.eye(5)[3]
    assert torch.allclose(ablations.remove_direction(activation, axis), ablations.zero_units(activation, 3), atol=1e-6)
    assert torch.allclose(
        ablations.remove_direction(activation, axis, mean), ablations.set_units(activation, 3, mean), atol=1e-6
    )
    whole = activation.mean((0, 2, 3))
    left = ablations.remove_direction(activation, q, whole)
    assert torch.allclose(left.mean((0, 2, 3)), whole, atol=1e-6)  # the mean stays
    assert torch.allclose(torch.einsum("u,bu...->b...", q, left), (q @ whole).expand(3, 2, 4), atol=1e-6)


def test_rotations_are_orthogonal_seeded_and_uniform():
    q = ablations.random_rotation(64, generator(3))
    assert torch.allclose(q @ q.T, torch.eye(64), atol=1e-5)
    assert torch.equal(q, ablations.random_rotation(64, generator(3)))
    assert not torch.allclose(q, ablations.random_rotation(64, generator(4)), atol=0.1)
    activation = torch.rand(2, 64, 3, 3)
    turned = torch.einsum("vu,buhw->bvhw", q, activation)
    assert torch.allclose(torch.einsum("vu,bvhw->buhw", q, turned), activation, atol=1e-5)  # and back
    traces = [float(ablations.random_rotation(8, generator(seed)).trace()) for seed in range(400)]
    assert abs(np.mean(traces)) < 0.2  # 0 with standard deviation 1 for uniform ones, far above 0 without the signs
    assert 0.85 < np.std(traces) < 1.15


def test_a_random_direction_carries_one_uth_of_the_energy():
    activation, share = torch.rand(6, 8, 2, 2), []
    for seed in range(300):
        q = ablations.random_rotation(8, generator(seed))[0]
        share.append(float(1 - ablations.remove_direction(activation, q).square().sum() / activation.square().sum()))
    assert abs(np.mean(share) - 1 / 8) < 4 * np.std(share) / 300**0.5


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4), (5, 6, 2, 2), (5, 6, 2, 1, 2)])
def test_a_direction_goes_at_every_position_of_every_shape(shape):
    activation, q = torch.randn(shape, generator=generator(0)), ablations.random_rotation(6, generator(1))[0]
    left = ablations.remove_direction(activation, q)
    assert left.shape == shape
    assert torch.allclose(torch.einsum("u,bu...->b...", q, left), torch.zeros(()), atol=1e-6)


def test_wrong_arguments_are_named():
    activation = torch.rand(2, 4, 3, 3)
    with pytest.raises(
        ValueError, match=r"direction must have the shape \(U\) with U = 4 as in activation, got \(3,\)"
    ):
        ablations.remove_direction(activation, torch.ones(3))
    with pytest.raises(ValueError, match="direction: its length is 2, not 1"):
        ablations.remove_direction(activation, torch.ones(4))
    with pytest.raises(ValueError, match=r"values must have the shape \(U\) with U = 4 as in activation, got \(3,\)"):
        ablations.set_units(activation, 0, torch.ones(3))
    with pytest.raises(ValueError, match="edits: there is none"):
        ablations.predictions(study()[3], [])
    with pytest.raises(ValueError, match=r"correct must .* with N = 2 as in targets, got \(3,\)"):
        class_drops.class_accuracy(torch.ones(3, dtype=torch.bool), torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="must be bool"):
        class_drops.drops(torch.ones(2), torch.ones(1, 2), torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="repeats"):
        class_drops.split_half_largest(*random_case(), generator(), repeats=0)


# --- Masked equals physically removed


def remove_unit(network, unit, head, positions):
    """Take a unit out of the second convolution of a small network, by slicing."""
    features, kept = network.features, [u for u in range(8) if u != unit]
    place = next(i for i, module in enumerate(features) if isinstance(module, nn.Conv2d) and module.out_channels == 8)
    old = features[place]
    new = nn.Conv2d(6, 7, 3, padding=1, bias=old.bias is not None)
    new.weight.data = old.weight.data[kept]
    if old.bias is not None:
        new.bias.data = old.bias.data[kept]
    features[place] = new
    if isinstance(features[place + 1], nn.BatchNorm2d):
        norm, smaller = features[place + 1], nn.BatchNorm2d(7)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(smaller, name).data = getattr(norm, name).data[kept]
        features[place + 1] = smaller
    columns = [u * positions + p for u in kept for p in range(positions)]
    classifier = nn.Linear(len(columns), 5)
    classifier.weight.data = network.classifier.weight.data[:, columns]
    classifier.bias.data = network.classifier.bias.data
    network.classifier = classifier
    return network.eval()


@pytest.mark.parametrize(("norm", "head", "positions"), [(True, "gap", 1), (False, "gap", 1), (True, "fc", 64)])
def test_masked_equals_physically_removed(norm, head, positions):
    network, _, images, cache = study(norm, head)
    masked = cache.head(ablations.zero_units(cache.activation, 5))
    removed = remove_unit(network, 5, head, positions)
    assert torch.allclose(masked, removed(images), atol=1e-6)


def test_a_dead_unit_does_no_damage():
    network, layer, images, cache = study(norm=False)
    network.features[3].weight.data[4] = 0
    network.features[3].bias.data[4] = -1.0
    targets = network(images).argmax(1)  # all are recognised
    cache = cache_layer(network, layer, [(images, targets)])
    found = unit_drops(cache)
    assert float(cache.activation[:, 4].abs().max()) == 0
    assert float(found.overall[4]) == 0
    assert (found.per_class[4].nan_to_num() == 0).all()
    assert (found.overall > 0).any()


def test_the_network_is_left_bit_for_bit():
    network, _, images, cache = study(norm=True, head="fc")
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    unit_drops(cache)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        assert torch.equal(network.eval()(images), network(images))
        assert torch.allclose(network(images), cache.logits, atol=1e-6)
    assert not any(module._forward_hooks or "forward" in vars(module) for module in network.modules())


# --- Drops


def random_case(n=60, ablations=7, classes=4, seed=0):
    g = generator(seed)
    targets = torch.randint(classes, (n,), generator=g)
    base = torch.rand(n, generator=g) < 0.8
    correct = torch.where(torch.rand(ablations, n, generator=g) < 0.9, base, ~base)
    return base, correct, targets, classes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6), st.integers(2, 6))
def test_drops_against_the_oracle_and_the_identity(seed, n, ablations, classes):
    base, correct, targets, _ = random_case(n, ablations, classes, seed)
    found = class_drops.drops(base, correct, targets, classes)
    # the oracle compares predictions: class c where right, a class that does not exist where wrong
    predicted = torch.where(correct, targets, -1)
    overall, per_class = oracle.drops(
        torch.where(base, targets, -1).tolist(), predicted.tolist(), targets.tolist(), classes
    )
    assert np.allclose(found.overall, overall, atol=1e-12)
    assert np.allclose(found.per_class, per_class, atol=1e-12, equal_nan=True)
    share = torch.bincount(targets, minlength=classes) / n
    assert torch.allclose((found.per_class.nan_to_num() * share).sum(1), found.overall, atol=1e-6)
    assert (found.largest >= found.overall - 1e-12).all()


def test_a_class_without_images_is_unknown_and_never_the_largest():
    base = torch.tensor([True, True, True])
    found = class_drops.drops(base, torch.tensor([[True, True, True]]), torch.tensor([0, 2, 2]), 4)
    assert found.per_class[0].isnan().tolist() == [False, True, False, True]
    assert (int(found.most_damaged), float(found.largest), int(found.ties)) == (0, 0.0, 2)


def test_orders_of_units_classes_and_images_are_irrelevant():
    base, correct, targets, classes = random_case()
    found = class_drops.drops(base, correct, targets, classes)
    units, names, images = (torch.randperm(k, generator=generator(9)) for k in (7, 4, 60))
    turned = class_drops.drops(base[images], correct[units][:, images], names[targets[images]], classes)
    assert torch.allclose(turned.overall, found.overall[units])
    assert torch.allclose(turned.per_class[:, names], found.per_class[units])
    assert torch.allclose(turned.largest, found.largest[units])


def test_class_accuracy_equals_sklearn_recall():
    g = generator(1)
    targets, predicted = (torch.randint(6, (200,), generator=g) for _ in range(2))
    expected = recall_score(targets, predicted, average=None, labels=range(6))
    assert np.allclose(class_drops.class_accuracy(predicted == targets, targets, 6), expected, atol=1e-12)


def test_balanced_accuracy_by_hand():
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = torch.tensor([[0, 0, 0, 1, 1, 0, 2, 2], [0] * 8])
    found = class_drops.balanced_accuracy(predicted, targets, 3)
    # class 0: 3 of 4 found, 3 of 4 others kept out; class 1: 1 of 2, 5 of 6; class 2: all
    assert torch.allclose(found[0], torch.tensor([0.75, (0.5 + 5 / 6) / 2, 1.0], dtype=torch.float64))
    assert found[1].tolist() == [0.5, 0.5, 0.5]  # "always class 0" is worth nothing


# --- Split halves and the null


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 80), st.integers(1, 6))
def test_halves_are_disjoint_and_balanced(seed, n, classes):
    targets = torch.randint(classes, (n,), generator=generator(seed))
    first = class_drops.halves(targets, generator(seed))
    inside = torch.bincount(targets[first], minlength=classes)
    assert torch.equal(inside, torch.bincount(targets, minlength=classes) // 2)
    assert torch.equal(first, class_drops.halves(targets, generator(seed)))


def test_split_halves_read_what_the_other_half_chose():
    """Four images a class; unit 0 harms class 1 everywhere, so both halves agree, whatever the split."""
    targets = torch.tensor([0] * 4 + [1] * 4)
    base = torch.ones(8, dtype=torch.bool)
    correct = torch.tensor([[True] * 4 + [False] * 4, [True] * 8])
    found = class_drops.split_half_largest(base, correct, targets, 2, generator(), repeats=3)
    assert found.tolist() == [1.0, 0.0]


def test_split_halves_remove_the_upward_bias():
    """Flips at random: every true class drop is 0.1; the plain maximum says far more, split halves do not."""
    g = generator(5)
    targets = torch.arange(20).repeat_interleave(40)
    base = torch.ones(800, dtype=torch.bool)
    correct = torch.rand(200, 800, generator=g) >= 0.1
    plain = class_drops.drops(base, correct, targets, 20).largest
    split = class_drops.split_half_largest(base, correct, targets, 20, g, repeats=4)
    assert float(plain.mean()) > 0.18
    assert abs(float(split.mean()) - 0.1) < 0.01


def test_dealt_flips_keep_every_overall_drop_and_forget_the_classes():
    base, correct, targets, classes = random_case(n=4000, ablations=5)
    harmful = correct.clone()
    harmful[0] = base & (targets != 2)  # ablation 0 loses class 2
    dealt = class_drops.deal_flips(base, harmful, generator(2))
    before, after = (class_drops.drops(base, x, targets, classes) for x in (harmful, dealt))
    assert torch.equal(before.overall, after.overall)
    assert torch.equal((base & ~dealt).sum(1), (base & ~harmful).sum(1))
    assert float(before.largest[0]) > 0.7
    assert float(after.largest[0]) < 0.3
    assert torch.equal(dealt, class_drops.deal_flips(base, harmful, generator(2)))
    assert not torch.equal(dealt, class_drops.deal_flips(base, harmful, generator(3)))
