"""Widths: one vector of scales for two sets of weights, exact zeros, own statistics, and the cut behind it."""

import pytest
import torch
from compactvision import models, surgery
from compactvision.search import rarts
from compactvision.search.rarts import loop, width
from torch import nn


def chain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def half(seed, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 3, 6, 6, generator=generator) + shift, torch.arange(8) % 2) for _ in range(2)]


RECIPE = loop.Recipe(rate=0.1)


def test_a_penalty_gives_exact_zeros_and_none_gives_none():
    for penalty, zeros in ((0.0, False), (0.5, True)):
        found = rarts.width_search(chain(), half(1), half(2), passes=160, penalty=penalty, recipe=RECIPE)
        scales = torch.cat([found[1].weight, found[4].weight])
        assert bool((scales == 0).any()) == zeros


def test_the_network_is_left_and_the_copy_is_one():
    model = chain()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = rarts.width_search(model, half(1), half(2), passes=8, recipe=RECIPE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(found[0].weight, model[0].weight)
    assert not torch.equal(found[1].weight, model[1].weight)
    assert model.training
    assert not rarts.width_search(model.eval(), half(1), half(2), passes=8).training


def test_statistics_are_those_of_the_training_half():
    """The twin's images are shifted by 5; running means of the copy that is returned must not know."""
    found = rarts.width_search(chain(), half(1), half(2, shift=5.0), passes=80, recipe=loop.Recipe(rate=1e-6))
    same = rarts.width_search(chain(), half(1), half(3, shift=-5.0), passes=80, recipe=loop.Recipe(rate=1e-6))
    assert found[1].running_mean.numpy() == pytest.approx(same[1].running_mean.numpy(), abs=1e-4)
    assert int(found[1].num_batches_tracked) == 40  # twice in each of 20 iterations


def test_other_scales_are_weights():
    found = rarts.width_search(chain(), half(1), half(2), passes=160, penalty=5.0, layers=["4"], recipe=RECIPE)
    assert (found[4].weight == 0).all()
    assert (found[1].weight != 0).all()


def test_one_iteration_by_hand():
    """A scale after one iteration: a gradient step on both losses at the new weights, then the soft threshold."""
    model, (train, valid) = chain(), (half(1)[0], half(2)[0])
    found = rarts.width_search(
        model, [train], [valid], passes=4, penalty=0.3, coupling=0.0, layers=["4"], recipe=RECIPE
    )

    def moved(batch):
        copy = chain()
        loss = nn.functional.cross_entropy(copy(batch[0]), batch[1])
        named = {name: tensor for name, tensor in copy.named_parameters() if name != "4.weight"}
        slopes = torch.autograd.grad(loss, list(named.values()))
        norm = torch.stack([slope.norm() for slope in slopes]).norm()
        with torch.no_grad():
            for (_, tensor), slope in zip(named.items(), slopes, strict=True):
                tensor -= 0.1 * (slope * min(1, 5 / (norm + 1e-6)) + 3e-4 * tensor)
        loss = nn.functional.cross_entropy(copy(batch[0]), batch[1])
        return torch.autograd.grad(loss, copy[4].weight)[0]

    scale = torch.ones(8) - 0.1 * (moved(train) + moved(valid))
    wanted = (scale - 0.03).clamp(min=0)
    assert found[4].weight.detach().numpy() == pytest.approx(wanted.numpy(), abs=1e-5)


def test_a_resnet_is_cut_by_the_scales():
    model = models.resnet20(num_classes=2)
    inner = [name for name in width.scale_names(model) if name.endswith("bn1") and "layer" in name]
    train, valid = ([(x, t) for x, t in half(seed)] for seed in (1, 2))
    found = rarts.width_search(model, train, valid, passes=8, layers=inner, recipe=RECIPE)
    graph = surgery.channel_graph(found, (3, 8, 8)).only(kinds="inner")
    plan = surgery.make_plan(graph, surgery.criteria.batch_norm_scale(), keep_macs=0.7, global_pruning=True)
    small = surgery.prune(found, plan)
    assert small(torch.zeros(2, 3, 8, 8)).shape == (2, 2)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": nn.Linear(2, 2)}, "model has no BatchNorm with a scale"),
        ({"layers": ["0"]}, r"layers\[0\] must be one of"),
        ({"layers": []}, "layers name one"),
        ({"passes": 3}, "passes must pay for one iteration"),
        ({"penalty": -1}, "penalty must be at least 0"),
        ({"train": []}, "train must hold at least one batch"),
        ({"train": [(torch.zeros(2, 5, 6, 6), torch.zeros(2).long())]}, "train: the model fails"),
        ({"loss": 3}, "loss must be a function"),
    ],
)
def test_bad_arguments_are_named(options, message):
    given = {"model": chain(), "train": half(1), "valid": half(2), "passes": 8} | options
    with pytest.raises(ValueError, match=message):
        rarts.width_search(**given)
