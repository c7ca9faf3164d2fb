"""Networks with random BatchNorm statistics, built and traced once."""

from functools import cache

import pytest
import torch
from compactvision import models, surgery
from torch import nn

BUILDERS = {
    "vgg16_bn": models.vgg16_bn,
    "resnet20_a": models.resnet20,
    "resnet20_b": lambda: models.resnet20(shortcut="B"),
    "resnet56": models.resnet56,
    "densenet40": models.densenet40,
    "googlenet": models.googlenet,
    "preresnet164": models.preresnet164,
    "mobilenet_v2": lambda: models.imagenet("mobilenet_v2", num_classes=10),
    "resnet50": lambda: models.imagenet("resnet50", num_classes=10),
}


def shake_(model, seed=0):
    """Give BatchNorm scales, shifts and statistics, and biases, values that no error can hide behind."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, 0.0, 1.0),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
            ):
                nn.init.uniform_(tensor, low, high, generator=generator)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.uniform_(module.bias, -1.0, 1.0, generator=generator)
    return model.eval()


@cache
def _network(name):
    return shake_(BUILDERS[name]())


@cache
def _graph(name, residual):
    return surgery.channel_graph(_network(name), (3, 32, 32), residual=residual)


@pytest.fixture(scope="session")
def network():
    """Builder of a network by name; the same object each time, so tests must not change it."""
    return _network


@pytest.fixture(scope="session")
def graph():
    """Channel graph of a network by name and residual form."""
    return _graph


@pytest.fixture(scope="session")
def shaken():
    """Function that gives a model's BatchNorms random values, in place."""
    return shake_


@pytest.fixture(scope="session")
def random_scores():
    """Function that draws scores for every group of a graph."""

    def draw(graph, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return {group.name: torch.rand(group.size, generator=generator) for group in graph.groups.values()}

    return draw
