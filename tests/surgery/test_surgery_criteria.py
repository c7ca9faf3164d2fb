import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
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


def test_criteria_of_a_model_without_layers():
    generator = torch.Generator().manual_seed(0)
    nothing = nn.Sequential(nn.ReLU())
    for importance in (criteria.l1(), criteria.l2(), criteria.constant(), criteria.random(generator)):
        with pytest.raises(ValueError, match="model has no convolution without groups and no linear layer to score"):
            importance(nothing)
    with pytest.raises(ValueError, match="model has no BatchNorm, convolution or linear layer to score"):
        criteria.taylor([(torch.randn(2, 3), torch.tensor([0, 1]))])(nothing)


def test_taylor_says_when_the_loss_cannot_take_the_answers():
    class Answers(nn.Sequential):
        def forward(self, x):
            return {"out": super().forward(x)}

    batches, model = [(torch.randn(2, 3), torch.tensor([0, 1]))], Answers(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="loss: the model returns a dict; pass a loss that takes it"):
        criteria.taylor(batches)(model)
    assert set(criteria.taylor(batches, loss=lambda out, y: F.cross_entropy(out["out"], y))(model)) == {"0"}


def test_taylor_scores_a_classifier_behind_a_network_with_norms(shaken):
    """The hidden layers of VGG: no BatchNorm speaks for them."""
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6), nn.ReLU(True), nn.Dropout(), nn.Linear(6, 3))
    model = shaken(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), *head))
    inputs, targets = torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    scores = criteria.taylor([(inputs, targets)])(model)
    assert set(scores) == {"1", "5"}
    hidden = model[:6](inputs).detach().requires_grad_()
    F.cross_entropy(model[6:](hidden * 1), targets).backward()
    expected = (hidden * hidden.grad).sum(0).abs().detach()
    torch.testing.assert_close(scores["5"], expected)
    graph = surgery.channel_graph(model, (3, 8, 8))
    assert surgery.make_plan(graph, scores, keep=0.5).widths == {"0": 2, "5": 3}


class Backbone(nn.Module):
    """A network whose old classifier is still there, and no longer used."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.spare = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def test_what_did_not_run_is_left_out_of_an_importance_and_named_in_scores():
    model = Backbone()
    graph = surgery.channel_graph(model, (3, 4, 4))
    assert surgery.make_plan(graph, criteria.l1(), keep=0.5).widths == {"conv": 2}
    with pytest.raises(ValueError, match="no layer 'spare' that ran on the graph's example; leave its scores out"):
        surgery.make_plan(graph, criteria.l1()(model), keep=0.5)
    with pytest.raises(ValueError, match="no layer 'sparse' that ran"):  # a name that is no layer's is no rest
        surgery.make_plan(graph, lambda _: {"conv": torch.rand(4), "sparse": torch.rand(4)}, keep=0.5)


def test_heads_for_training_are_scored_and_train_on():
    """GoogLeNet's two heads run in training only; their layers have scores of weights and are cut along."""
    torch.manual_seed(0)
    model = torchvision.models.googlenet(weights=None, init_weights=False, num_classes=5).eval()
    graph = surgery.channel_graph(model, (3, 64, 64))
    small = surgery.prune(model, surgery.make_plan(graph, criteria.l1(), keep=0.5)).train()
    answers = small(torch.randn(2, 3, 64, 64))
    sum(F.cross_entropy(each, torch.tensor([0, 3])) for each in answers).backward()
    assert len(answers) == 3
    assert all(parameter.grad.isfinite().all() for parameter in small.parameters())


@pytest.mark.parametrize("scores", [{}, None, [1.0], torch.ones(3)])
def test_no_scores_say_what_to_name(scores, graph, network):
    channels, model = graph("resnet20_a", "grouped"), network("resnet20_a")
    words = "scores are empty; give some for one layer of each group, conv1, layer1.0.conv1"
    words = words if scores == {} else f"must be a mapping from names of layers to tensors, got {type(scores).__name__}"
    with pytest.raises(ValueError, match=words):
        surgery.make_plan(channels, scores, keep=0.5)
    with pytest.raises(ValueError, match=words):
        surgery.make_plan(channels, lambda _: scores, keep=0.5)
    with pytest.raises(ValueError, match=words):
        surgery.iterate(model, (3, 32, 32), lambda _: scores, keep=0.5)
