"""Fixtures for every test."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
# Two workers side by side share the cores; one process alone may use two.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - code under test may still read the global state


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """Folder that holds CIFAR-10 in torchvision's layout; skips where there is none."""
    root = Path(os.environ.get("COMPACTVISION_DATA", "/nonexistent"))
    if not (root / "cifar-10-batches-py" / "data_batch_1").is_file():
        pytest.skip("COMPACTVISION_DATA names no folder with CIFAR-10")
    return root


def pytest_collection_modifyitems(items):
    """Skip the tests that need a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
