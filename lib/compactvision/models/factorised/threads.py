"""How many threads small tensors are decomposed with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ALONE = 2**20  # numbers of a tensor up to which one thread does: more gain little, and wait for busy cores


@contextmanager
def few_threads(tensor: Tensor) -> Iterator[None]:
    """Work with one thread on a small tensor on the CPU, and with as many as before afterwards.

    A small SVD is a chain of short parallel pieces. Where another program holds a core, each piece waits for it: then
    two threads take hundreds of times as long as one.
    """
    before = torch.get_num_threads()
    if before == 1 or tensor.device.type != "cpu" or tensor.numel() > ALONE:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
