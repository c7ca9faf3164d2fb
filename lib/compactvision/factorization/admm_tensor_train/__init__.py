"""Tensor trains by ADMM: training that prepares kernels for a format of low ranks :cite:p:`yin2021admm`.

Decomposing a trained network loses accuracy, since nothing prepared it. Here the dense network is trained on while
ADMM draws its kernels towards those of low ranks; then they are decomposed, and the cores are tuned::

    found = select_ranks(model, (3, 32, 32), factor=2.3, count="parameters")
    rho = needed_rho(steps, learning_rate)
    training.fit(model, batches, optimizer=optimizer, callbacks=[ADMM(found.formats, rho)], ...)
    small = decompose(model, found.formats)
    training.fit(small, batches, ...)

The plain rival is ``Projected(found.formats)`` in place of ADMM: the weights themselves are projected. Equation numbers
are those of the chapter.
"""

from . import published, recurrent, toy, whitening
from .callbacks import ADMM, Distances, Projected, needed_rho
from .formats import CP, Ring, TensorTrain, Tucker, decompose, distances, projected
from .selection import Selection, decomposable, select_ranks

__all__ = [
    "ADMM",
    "CP",
    "Distances",
    "Projected",
    "Ring",
    "Selection",
    "TensorTrain",
    "Tucker",
    "decomposable",
    "decompose",
    "distances",
    "needed_rho",
    "projected",
    "published",
    "recurrent",
    "select_ranks",
    "toy",
    "whitening",
]
