import copy

import pytest
import torch
import torch.nn.functional as F
from compactvision import models, surgery
from compactvision.surgery import criteria
from torch import nn


@pytest.fixture
def tiny():
    """One convolution with two filters, BatchNorm, ReLU and a classifier."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, (1, 2)), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[3.0, -4.0]]], [[[0.0, 1.0]]]]))
        model[1].weight.copy_(torch.tensor([-0.5, 2.0]))
        model[5].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
    return model


def _lists(scores):
    return {name: values.tolist() for name, values in scores.items()}


def test_norms_of_filters_by_hand(tiny):
    assert _lists(criteria.l1()(tiny)) == {"0": [7.0, 1.0], "5": [2.0, 2.0]}
    scores = criteria.l2()(tiny)
    assert scores["0"].tolist() == [5.0, 1.0]
    torch.testing.assert_close(scores["5"], torch.tensor([2.0, 4.0]).sqrt())
    assert not scores["0"].requires_grad


def test_batch_norm_scale_is_an_absolute_value(tiny):
    assert _lists(criteria.batch_norm_scale()(tiny)) == {"1": [0.5, 2.0]}
    with pytest.raises(ValueError, match="model has no BatchNorm with a scale"):
        criteria.batch_norm_scale()(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, affine=False)))


def test_constant_and_reverse(tiny):
    assert _lists(criteria.constant()(tiny)) == {"0": [1.0, 1.0], "5": [1.0, 1.0]}
    assert _lists(criteria.reverse(criteria.l1())(tiny)) == {"0": [-7.0, -1.0], "5": [-2.0, -2.0]}


def test_random_scores_come_from_the_generator(tiny):
    first = criteria.random(torch.Generator().manual_seed(3))
    second = criteria.random(torch.Generator().manual_seed(3))
    scores = first(tiny)
    assert _lists(scores) == _lists(second(tiny))
    assert _lists(first(tiny)) != _lists(scores)  # each call draws anew
    assert all(0 <= value < 1 for values in _lists(scores).values() for value in values)


def test_depthwise_convolutions_have_no_score_of_their_own():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    assert set(criteria.l1()(model)) == {"0", "2"}


@pytest.mark.parametrize(
    ("importance", "product"),
    [(criteria.taylor, lambda held: held * held.grad), (criteria.gradient, lambda held: held.grad)],
)
def test_taylor_and_gradient_are_slow_sums_over_images(importance, product, shaken):
    """One image at a time, the gradient of its own loss with respect to the map behind the BatchNorm."""
    model = shaken(models.small_cnn(3, widths=(4, 5)))
    inputs, targets = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = {name: torch.zeros(width) for name, width in (("features.1", 4), ("features.5", 5))}
    for image, target in zip(inputs, targets):
        x = image[None]
        for index, module in enumerate(model.features):
            x = module(x)
            if f"features.{index}" in expected:
                x.retain_grad()
                expected[f"features.{index}"] = (expected[f"features.{index}"], x)
        F.cross_entropy(model.classifier(model.avgpool(x).flatten(1)), target[None]).backward()
        expected = {name: total + product(held)[0].sum((1, 2)) for name, (total, held) in expected.items()}
    batches = [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])]
    scores = importance(batches)(model)
    assert set(scores) == set(expected)
    for name, total in expected.items():
        torch.testing.assert_close(scores[name], (total / 6).abs().detach())


def test_taylor_does_not_depend_on_the_batch_size(network):
    model = network("resnet20_a")
    inputs, targets = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    one = criteria.taylor([(inputs, targets)])(model)
    two = criteria.taylor([(inputs[:1], targets[:1]), (inputs[1:], targets[1:])])(model)
    for name, scores in one.items():
        torch.testing.assert_close(scores, two[name], rtol=1e-3, atol=1e-6)


def test_taylor_reads_convolutions_where_there_is_no_batchnorm(tiny):
    model = models.small_cnn(3, widths=(2, 2), norm=False)
    scores = criteria.taylor([(torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))])(model)
    assert set(scores) == {"features.0", "features.3", "classifier"}


def test_taylor_leaves_the_model_as_it_was(shaken):
    model = shaken(models.small_cnn(3)).train()
    model.features[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    criteria.taylor([(torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))])(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_taylor_works_on_a_frozen_network_and_with_in_place_activations(tiny):
    batches = [(torch.randn(3, 1, 2, 4), torch.tensor([0, 1, 0]))]
    expected = criteria.taylor(batches)(tiny)
    tiny[2].inplace = True
    tiny.requires_grad_(False)
    torch.testing.assert_close(criteria.taylor(batches)(tiny)["1"], expected["1"])


def test_taylor_refuses_what_it_cannot_score(tiny):
    with pytest.raises(ValueError, match="batches must hold at least one batch, got none"):
        criteria.taylor([])(tiny)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.norm(x)).mean((2, 3))

    model = Twice()
    with pytest.raises(ValueError, match="layer 'norm' runs twice"):
        criteria.taylor([(torch.randn(2, 3, 4, 4), torch.tensor([0, 1]))])(model)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet20_a", "densenet40", "preresnet164", "googlenet", "mobilenet_v2"])
@pytest.mark.parametrize("importance", [criteria.l1(), criteria.batch_norm_scale()])
def test_every_network_can_be_planned_from_weights(name, importance, network, graph):
    plan = surgery.make_plan(graph(name, "grouped"), importance(network(name)), keep=0.5)
    assert plan.macs < 0.35 * plan.graph.macs


def test_the_scatter_form_is_planned_from_the_same_scores(network, graph):
    channels = graph("resnet20_a", "scatter")
    scores = criteria.l1()(network("resnet20_a"))
    plan = surgery.make_plan(channels, scores, keep=0.5)
    best = scores["layer1.0.conv2"].argsort(descending=True)[:8]
    assert plan.keep["layer1.0.conv2"] == tuple(sorted(best.tolist()))


def test_the_gather_form_is_planned_from_batchnorm_scales(network, graph):
    channels = graph("densenet40", "gather")
    scores = criteria.batch_norm_scale()(network("densenet40"))
    plan = surgery.make_plan(channels, scores, keep=0.6, global_pruning=True)
    assert sum(plan.widths.values()) == 9_360 - round(0.4 * 9_360)
    threshold = torch.cat(list(scores.values())).sort().values[round(0.4 * 9_360)]
    assert plan.widths["bn:in"] == int((scores["bn"] >= threshold).sum())


def test_selections_that_stay_whole_may_have_scores(graph, random_scores):
    channels = graph("resnet20_a", "gather")
    inner = channels.only(kinds="inner")
    plan = surgery.make_plan(inner, random_scores(channels), keep=0.5)
    assert plan.keep == {
        name: kept
        for name, kept in surgery.make_plan(channels, random_scores(channels), keep=0.5).keep.items()
        if name in inner.groups
    }
