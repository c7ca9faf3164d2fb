"""Attributes of units, against loops, libraries and numbers on paper."""

import numpy as np
import pytest
import torch
from compactvision import models
from compactvision.explanation.heads import LayerCache
from compactvision.explanation.unit_ablation import attributes as at
from compactvision.explanation.unit_ablation import cache_layer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from torch import nn

from oracles import unit_ablation as oracle


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- Selectivity


def test_selectivity_on_paper():
    means = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 0.5], [0.0, 1.0, 2.0], [0.5, 1.0, 0.4]])
    averages = at.class_means(means, torch.tensor([0, 0, 1, 1]), 2)
    assert torch.allclose(averages, torch.tensor([[1.5, 0.25], [1.0, 1.0], [0.25, 1.2]], dtype=torch.float64))
    score, preferred = at.selectivity(averages)
    assert np.allclose(score, [1.25 / 1.75, 0.0, 0.95 / 1.45], atol=1e-7)
    assert [f"{value:.4f}" for value in score] == ["0.7143", "0.0000", "0.6552"]
    assert preferred.tolist() == [0, 0, 1]


def test_selectivity_against_the_oracle():
    g = generator(1)
    means = torch.rand(60, 7, generator=g, dtype=torch.float64)
    means[:, 3] = 0
    targets = torch.arange(60) % 5
    score, preferred = at.selectivity(at.class_means(means, targets, 5))
    slow, slow_preferred = oracle.selectivity(means.numpy(), targets.tolist(), 5)
    assert np.allclose(score, slow, atol=1e-12)
    assert preferred.tolist() == slow_preferred.tolist()
    assert float(score[3]) == 0


def test_selectivity_ignores_scale_class_sizes_and_absent_classes():
    g = generator(2)
    means, targets = torch.rand(90, 4, generator=g), torch.arange(90) % 3
    score, _ = at.selectivity(at.class_means(means, targets, 3))
    scaled, _ = at.selectivity(at.class_means(means * torch.tensor([0.1, 3.0, 7.0, 100.0]), targets, 3))
    assert torch.allclose(scaled, score, atol=1e-7)
    twice = torch.cat([torch.arange(90), (targets == 1).nonzero()[:, 0]])  # class 1 counted twice
    again, _ = at.selectivity(at.class_means(means[twice], targets[twice], 3))
    assert torch.allclose(again, score, atol=1e-7)
    absent, preferred = at.selectivity(at.class_means(means, targets, 6))  # classes 3 to 5 have no images
    assert torch.allclose(absent, score, atol=1e-7)
    assert int(preferred.max()) < 3
    only = torch.zeros(6, 1)
    only[:2] = 0.7
    assert float(at.selectivity(at.class_means(only, torch.tensor([0, 0, 1, 1, 2, 2]), 3))[0]) == 1
    with pytest.raises(ValueError, match="averages: a unit has fewer than two classes"):
        at.selectivity(at.class_means(means, targets * 0, 3))


def test_unit_means_against_the_oracle():
    activation = torch.rand(4, 3, 2, 5)
    assert np.allclose(at.unit_means(activation), oracle.unit_means(activation.numpy()), atol=1e-6)
    assert torch.equal(at.unit_means(activation[:, :, 0, 0]), activation[:, :, 0, 0])


# --- Weights


def test_filter_norms_by_hand_and_folded():
    convolution, norm = nn.Conv2d(1, 2, 2, bias=False), nn.BatchNorm2d(2, eps=0.0)
    convolution.weight.data = torch.tensor([[[[1.0, -2.0], [0.0, 3.0]]], [[[0.5, 0.5], [0.5, -0.5]]]])
    assert at.filter_l1(convolution).tolist() == [6.0, 2.0]
    norm.weight.data, norm.running_var = torch.tensor([-0.5, 2.0]), torch.tensor([4.0, 0.25])
    assert at.filter_l1(convolution, norm).tolist() == [1.5, 8.0]
    assert not at.filter_l1(convolution, norm).requires_grad
    with pytest.raises(ValueError, match="norm: 3 channels behind 2 filters"):
        at.filter_l1(convolution, nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="norm: it keeps no running variance"):
        at.filter_l1(convolution, nn.BatchNorm2d(2, track_running_stats=False))


def test_folded_norms_are_those_of_torchs_own_folding_and_do_not_see_the_raw_scale():
    convolution, norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
    nn.init.uniform_(norm.weight, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    fused = nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), norm.eval())
    folded = at.filter_l1(convolution, norm)
    assert torch.allclose(folded, fused.weight.abs().sum((1, 2, 3)), rtol=1e-5)
    convolution.weight.data *= 10
    norm.running_var *= 100
    assert torch.allclose(at.filter_l1(convolution, norm), folded, rtol=1e-3)


# --- Class correlation and information


def test_class_correlation_against_numpy_and_the_oracle():
    g = generator(3)
    means, probabilities = torch.rand(50, 4, generator=g), torch.rand(50, 3, generator=g).softmax(1)
    rho = at.class_correlation(means, probabilities)
    full = np.corrcoef(means.numpy().T, probabilities.numpy().T)[:4, 4:]
    assert np.allclose(rho, full, atol=1e-6)
    assert abs(float(rho[1, 2]) - oracle.pearson(means[:, 1].tolist(), probabilities[:, 2].tolist())) < 1e-6


def test_class_correlation_ignores_affine_maps_and_marks_constant_units():
    g = generator(4)
    means, probabilities = torch.rand(50, 3, generator=g), torch.rand(50, 3, generator=g).softmax(1)
    rho = at.class_correlation(means, probabilities)
    assert torch.allclose(at.class_correlation(5 * means + 2, probabilities), rho, atol=1e-5)
    assert torch.allclose(at.class_correlation(-means, probabilities), -rho, atol=1e-6)
    means[:, 1] = 0.3
    assert at.class_correlation(means, probabilities).isnan().all(1).tolist() == [False, True, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 60), st.integers(2, 5))
def test_mutual_information_against_the_oracle(seed, n, classes):
    g = generator(seed)
    means, targets = torch.rand(n, 3, generator=g), torch.randint(classes, (n,), generator=g)
    found = at.mutual_information(means, targets, classes)
    for unit in range(3):
        assert (
            abs(float(found[unit]) - oracle.mutual_information(means[:, unit].tolist(), targets.tolist(), classes))
            < 1e-9
        )


def test_mutual_information_knows_one_bit_and_agrees_with_sklearn():
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    means = torch.tensor([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [0.9, 1.0], [0.8, 1.0], [0.7, 1.0]])
    assert np.allclose(at.mutual_information(means, targets, 2), [1.0, 0.0], atol=1e-12)
    g = generator(5)
    means, targets = torch.rand(200, 1, generator=g), torch.randint(7, (200,), generator=g)
    nats = mutual_info_score(targets, means[:, 0] > means[:, 0].median())
    assert abs(float(at.mutual_information(means, targets, 7)) - nats / np.log(2)) < 1e-9


# --- Concepts


def test_a_unit_that_is_a_mask_detects_it_alone():
    masks = torch.zeros(10, 2, 8, 8, dtype=torch.bool)
    masks[:, 0, 2:4, 2:4] = True
    masks[:, 1, 6:, 6:] = True
    activation = torch.stack([masks[:, 0] * 2.0, masks[:, 1] * 0.1], 1)
    found = at.concept_iou(activation, masks, top=4 / 64)
    assert found.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_iou_against_the_oracle_at_the_same_size_and_enlarged():
    g = generator(6)
    activation, masks = torch.rand(12, 3, 6, 6, generator=g), torch.rand(12, 2, 6, 6, generator=g) < 0.3
    found = at.concept_iou(activation, masks, top=0.1, batch_size=5)
    for unit in range(3):
        ordered = sorted(activation[:, unit].flatten().tolist(), reverse=True)
        threshold = ordered[round(0.1 * len(ordered))]
        assert sum(value > threshold for value in ordered) == round(0.1 * len(ordered))
        for k in range(2):
            slow = oracle.iou(activation[:, unit].numpy(), masks[:, k].numpy(), threshold)
            assert abs(float(found[unit, k]) - slow) < 1e-9
    large = masks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = at.concept_iou(activation, large, top=0.1)
    maps = nn.functional.interpolate(activation, size=(12, 12), mode="bilinear")
    threshold = activation[:, 0].flatten().sort(descending=True).values[round(0.1 * 432)]
    assert abs(float(found[0, 1]) - oracle.iou(maps[:, 0].numpy(), large[:, 1].numpy(), float(threshold))) < 1e-9


def test_iou_of_a_silent_unit_and_wrong_arguments():
    activation, masks = torch.zeros(4, 1, 3, 3), torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    assert at.concept_iou(activation, masks).tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match=r"top must lie in \(0, 1\)"):
        at.concept_iou(activation, masks, top=1.0)
    with pytest.raises(ValueError, match="masks must have the shape"):
        at.concept_iou(activation, masks[:3])


# --- Taylor


def network_and_cache(head="fc"):
    network = models.small_cnn(5, (6, 8), norm=False, head=head, size=16)
    images, targets = torch.randn(20, 3, 16, 16), torch.randint(5, (20,))
    return network, cache_layer(network, "features.4", [(images, targets)])


def test_taylor_rise_is_the_slope_of_the_loss_as_a_unit_shrinks():
    network, cache = network_and_cache()
    network.double()
    cache = LayerCache(cache.head, cache.activation.double(), cache.logits, cache.targets)
    cache.head._input = cache.head._input.double()
    cache.head._before = [(module, output.double()) for module, output in cache.head._before]
    rise = at.taylor_rise(cache, batch_size=6)
    step = 1e-6
    for unit in (0, 3, 7):
        shrunk = cache.activation.clone()
        shrunk[:, unit] *= 1 - step
        with torch.no_grad():
            before, after = (
                nn.functional.cross_entropy(cache.head(a), cache.targets, reduction="none")
                for a in (cache.activation, shrunk)
            )
        assert torch.allclose(rise[:, unit], (after - before) / step, atol=1e-5)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_taylor_rise_of_a_gap_head_in_closed_form():
    network, cache = network_and_cache("gap")
    means, weight = cache.activation.mean((2, 3)), network.classifier.weight.detach()
    error = cache.logits.softmax(1) - nn.functional.one_hot(cache.targets, 5)  # gradient of the loss, (N, C)
    assert torch.allclose(at.taylor_rise(cache), -(error @ weight) * means, atol=1e-5)


# --- Correlations


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40))
def test_rank_correlation_equals_the_oracle(pairs):
    x, y = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    found = at.rank_correlation(x, y)
    if len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        assert np.isnan(found)
    else:
        assert abs(found - oracle.rank_correlation(x.tolist(), y.tolist())) < 1e-12


def test_rank_correlation_leaves_out_what_is_unknown():
    x = torch.tensor([1.0, 2.0, float("nan"), 4.0, 5.0])
    y = torch.tensor([2.0, 1.0, 9.0, float("nan"), 7.0])
    assert abs(at.rank_correlation(x, y) - 0.5) < 1e-12
    assert np.isnan(at.rank_correlation(x[:3], y[:3]))
    assert oracle.ranks([10.0, 30.0, 10.0, 20.0]) == [1.5, 4.0, 1.5, 3.0]
    with pytest.raises(ValueError, match="x and y must have one shape"):
        at.rank_correlation(x, y[:3])


def test_permutation_test_tells_a_match_of_classes_from_strong_units():
    g = generator(8)
    strength = torch.rand(12, 1, generator=g)
    table = torch.rand(12, 9, generator=g)
    matched, p = at.class_permutation_test(table, table + 0.1 * torch.rand(12, 9, generator=g), generator(), rounds=99)
    assert matched > 0.9
    assert p == 0.01  # none of 99 shuffles reaches it
    # strong units are strong in both tables, but not for the same classes: correlated, and yet no match
    other, p = at.class_permutation_test(
        strength * (1 + 0.1 * table), strength * (1 + 0.1 * torch.rand(12, 9, generator=g)), generator(), rounds=99
    )
    assert other > 0.8
    assert p > 0.05
