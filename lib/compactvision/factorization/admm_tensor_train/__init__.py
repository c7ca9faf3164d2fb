"""Tensor trains by ADMM: training that prepares kernels for a format of low ranks :cite:p:`yin2021admm`.

Decomposing a trained network loses accuracy, since nothing prepared it. Here the dense network is trained on while
ADMM draws its kernels towards those of low ranks; then they are decomposed, and the cores are tuned::

    found = select_ranks(model, (3, 32, 32), factor=2.3, count="parameters")
    rho = callbacks.needed_rho(steps, learning_rate)
    training.fit(model, batches, optimizer=optimizer, callbacks=[ADMM(found.formats, rho)], ...)
    small = decompose(model, found.formats)
    training.fit(small, batches, ...)

The plain rival is ``Projected(found.formats)`` in place of ADMM: the weights themselves are projected. Equation numbers
are those of the chapter.
"""

from . import callbacks, formats, published, recurrent, rivals, selection, toy, whitening
from .callbacks import ADMM, Projected
from .formats import TensorTrain, decompose
from .selection import select_ranks

__all__ = [
    "ADMM",
    "Projected",
    "TensorTrain",
    "callbacks",
    "decompose",
    "formats",
    "published",
    "recurrent",
    "rivals",
    "select_ranks",
    "selection",
    "toy",
    "whitening",
]
