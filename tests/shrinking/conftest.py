"""Small networks and pictures for the tests of shrinking: trained in about a second."""

import pytest
import torch
from compactvision import training
from torch import nn


def stripes(count, seed, classes=4, size=8):
    """Return pictures (count, 1, size, size) with a bright stripe, whose place is the class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (count,), generator=generator)
    pictures = torch.randn(count, 1, size, size, generator=generator) * 0.7
    for picture, target in zip(pictures, targets.tolist(), strict=True):
        picture[0, (2 * target) % size if target < 2 else slice(None), slice(None) if target < 2 else target] += 2.0
    return pictures, targets


def batches_of(count, seed, size=32):
    pictures, targets = stripes(count, seed)
    return list(zip(pictures.split(size), targets.split(size), strict=True))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 16, 4),
    )  # fmt: skip


@pytest.fixture(scope="session")
def train():
    return batches_of(256, seed=1)


@pytest.fixture(scope="session")
def test():
    return batches_of(200, seed=2, size=100)


@pytest.fixture(scope="session")
def model(train):
    return training.tune(network(), train, epochs=4).eval()
