"""Networks, noise and gates for the tests of AutoBot."""

from functools import cache

import torch
from compactvision import models, surgery
from compactvision.pruning import autobot
from torch import nn

from networks import with_statistics


def depthwise():
    """A chain with a depthwise convolution and two poolings."""
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(10, 10, 3, padding=1, groups=10), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 12, 1, bias=False),
        nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


BUILDERS = {  # network, residual form, side of the image
    "vgg": (lambda: models.vgg16_bn(conv_bias=True, hidden=512), "grouped", 32),
    "resnet": (models.resnet20, "scatter", 32),
    "resnet, streams": (models.resnet20, "grouped", 32),
    "resnet, gather": (models.resnet20, "gather", 32),
    "densenet": (models.densenet40, "grouped", 16),
    "googlenet": (models.googlenet, "grouped", 16),
    "resnet50": (lambda: models.imagenet("resnet50", num_classes=10), "grouped", 64),
    "depthwise": (depthwise, "grouped", 8),
}


@cache
def built(name):
    """Network with statistics that are not trivial, its graph, and the side of its images; not to be changed."""
    torch.manual_seed(0)
    build, residual, side = BUILDERS[name]
    model = with_statistics(build())
    return model, surgery.channel_graph(model, (3, side, side), residual=residual), side


def random_plan(graph, seed=0):
    """A plan that keeps about two thirds of each group."""
    generator = torch.Generator().manual_seed(seed)
    scores = {group.name: torch.rand(group.size, generator=generator) for group in graph.groups.values()}
    gates = torch.ones(graph.units)
    for group in graph.groups.values():
        gates[group.units] = scores[group.name]
    return surgery.make_plan(graph, autobot.LearnedGates(graph, gates), keep_above=0.35)


def tiny(seed=1):
    """Two convolutions of 6 and 8 channels, with statistics, for images of 8 x 8 pixels."""
    torch.manual_seed(seed)
    model = with_statistics(models.small_cnn(4, widths=(6, 8)))
    return model, surgery.channel_graph(model, (3, 8, 8))


def batches(count=4, size=16, seed=0):
    """Noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count * size, 3, 8, 8, generator=generator)
    y = torch.randint(0, 4, (count * size,), generator=generator)
    return list(zip(x.split(size), y.split(size), strict=True))


def constant(graph, value):
    """The same gate everywhere."""
    return torch.where(surgery.ungated(graph), 1.0, value).double()
