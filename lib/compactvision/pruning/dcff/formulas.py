"""What happens to one layer: distances between filters, the weights that mix them, and the choice of rows.

Equation numbers are those of the chapter. The published code does something else than the text says; both are here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compactvision import _checks as checks
from compactvision.pruning.dcff import arguments

EPSILON = 1e-7
"""Inside the logarithm of the published importance."""


def distances(weight: Tensor) -> Tensor:
    """Return the Euclidean distances D between the filters of a layer, (c, c), in float64.

    They are sums of squared differences. The shortcut through ``a^2 + b^2 - 2ab`` gives a filter a distance to itself
    of about 0.001 in float32, which a temperature of 10,000 takes for a large one.

    Parameters
    ----------
    weight : Tensor
        Filters (c, ...), at least one entry each.

    Raises
    ------
    ValueError
        If there is no filter, a filter is empty, or an entry is not finite.
    """
    arguments.filters(weight)
    if not weight.isfinite().all():
        raise ValueError(f"weight must hold finite filters (c, ...), got {description(weight)}")
    rows = weight.detach().double().flatten(1)  # (c, n k k)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def temperature(epoch: int, epochs: int, *, start: float = 1.0, end: float = 1e4, slope: float = 1.0) -> float:
    """Return the temperature of an epoch, rising along a tanh from ``start`` at 0 to ``end`` at ``epochs``.

    Eq. (5), the schedule of :cite:`lin2021dcff`, written without its exponentials.

    Parameters
    ----------
    epoch, epochs : int
        ``0 <= epoch <= epochs``, ``epochs >= 1``.
    start, end : float
        Not negative, ``start <= end``; distances are multiplied by them.
    slope : float, default 1
        How fast it rises, in 1 / epoch, positive.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from compactvision.pruning.dcff import formulas
    >>> [round(formulas.temperature(epoch, 300)) for epoch in (0, 1, 5, 300)]
    [1, 4622, 9866, 10000]
    """
    arguments.epochs(epoch, epochs)
    checks.numbers(start=start, end=end, slope=slope)
    if not 0 <= start <= end < math.inf:
        raise ValueError(f"start and end must be finite with 0 <= start <= end, got {start} and {end}")
    if not 0 < slope < math.inf:
        raise ValueError(f"slope must be positive and finite, got {slope}")
    return start + (end - start) * math.tanh(slope * epoch / 2) / math.tanh(slope * epochs / 2)


def slow_temperature(distances: Tensor, epoch: int, epochs: int) -> float:
    """Return a temperature in units of the layer: from 1 to 20 over its median distance.

    A choice of this book, along the first and gently bent part of a tanh. Distances in a layer are nearly alike, so
    that mixtures of ``c`` filters turn into single ones where temperature times distance passes ``log(c)``, 3 to 6 in
    usual layers. This schedule passes there within the first third of the training, however long that is. The unit is 1
    where the median over pairs is 0 or there is no pair. Errors as for :func:`temperature` and :func:`mixing`.
    """
    _check_distances(distances)
    arguments.epochs(epoch, epochs)
    pairs = distances[torch.triu_indices(*distances.shape, offset=1, device=distances.device).unbind()]
    unit = (float(pairs.median()) if pairs.numel() else 0.0) or 1.0
    return temperature(epoch, epochs, end=20.0, slope=2 / epochs) / unit


def mixing(distances: Tensor, temperature: float) -> Tensor:
    """Return the weights P with which each filter mixes all of them, Eq. (1), (c, c): rows of a softmax over distances.

    Parameters
    ----------
    distances : Tensor
        (c, c), not negative.
    temperature : float
        Not negative; 0 mixes evenly, infinity would mix nothing.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from compactvision.pruning.dcff import formulas
    >>> distances = formulas.distances(torch.tensor([[0.0], [1.0], [3.0]]))
    >>> 13 * formulas.mixing(distances, math.log(2))[0]
    tensor([8.0000, 4.0000, 1.0000], dtype=torch.float64)
    """
    return _log_mixing(distances, temperature).exp()


def divergences(distances: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of each row of :func:`mixing` from each other, (c, c), in float64.

    Eq. (3): entry (j, h) is ``KL(p_j || p_h)``. Nothing underflows on the way. Errors as for :func:`mixing`.
    """
    checks.tensors(distances=distances)
    log_p = _log_mixing(distances.double(), temperature)  # (c, c)
    p = log_p.exp()
    return (p * log_p).sum(1, keepdim=True) - p @ log_p.T


def importance(distances: Tensor, temperature: float, *, mode: str = "exact", previous: Tensor | None = None) -> Tensor:
    """Return how distinctive each filter is: the sum of the divergences of its row from all rows, (c,).

    Eq. (2), the dynamic-coded importance of :cite:`lin2021dcff`; divided by a large temperature it is the sum of
    distances, Eq. (6).

    Parameters
    ----------
    distances, temperature
        As for :func:`mixing`.
    mode : {"exact", "official"}
        "exact": as written, from logarithms. "official": as the published code computes it in float32, with a mean in
        place of one sum and 1e-7 inside the logarithm; one weight that has underflowed makes the result NaN, and then
        ``previous`` is returned.
    previous : Tensor, optional
        Scores (c,) of the epoch before, for "official".

    Raises
    ------
    ValueError
        If ``mode`` is unknown, ``previous`` has another shape, a weight has underflowed and there are no previous
        scores, or as for :func:`mixing`.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning.dcff import formulas
    >>> distances = formulas.distances(torch.tensor([[0.0], [1.0], [3.0]]))
    >>> formulas.importance(distances, 100.0) / 100
    tensor([4., 3., 5.], dtype=torch.float64)
    """
    checks.one_of(("exact", "official"), mode=mode)
    _check_distances(distances)
    arguments.scores(previous, len(distances))
    if mode == "exact":
        return divergences(distances, temperature).sum(1)
    p = mixing(distances, temperature).float()  # (c, c)
    own = (p * p.log()).sum(1)  # (c,), NaN where a weight is 0
    scores = own - p @ (p + EPSILON).log().mean(0)
    if scores.isfinite().all():
        return scores
    if previous is None:
        raise ValueError(f"previous: a weight underflows at temperature {temperature}, and there are no scores to keep")
    return previous.to(scores)


def choose(scores: Tensor, keep: int) -> Tensor:
    """Return the indices of the ``keep`` largest scores, ascending, (keep,); of equal ones the first.

    Raises
    ------
    ValueError
        If ``scores`` is not 1-D or holds NaN, or ``keep`` is not between 1 and its length.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning.dcff import formulas
    >>> formulas.choose(torch.tensor([2.0, 1.0, 3.0]), 2)
    tensor([0, 2])
    """
    checks.tensors(scores=scores)
    checks.whole(keep=keep)
    if scores.ndim != 1 or scores.isnan().any():
        raise ValueError(f"scores must be 1-D without NaN, got {description(scores)}")
    if not 1 <= keep <= scores.numel():
        raise ValueError(f"keep must be between 1 and {scores.numel()}, got {keep}")
    return scores.sort(descending=True, stable=True).indices[:keep].sort().values


def in_place(chosen: Tensor, before: Tensor) -> Tensor:
    """Return chosen indices such that those chosen before keep their places; new ones take the others, ascending.

    A place is a channel: BatchNorm and the next layer know a filter by it.

    Parameters
    ----------
    chosen, before : Tensor
        (keep,) each, whole numbers of one dtype, without repetitions.

    Raises
    ------
    ValueError
        If their shapes or dtypes differ or an index is repeated.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning.dcff import formulas
    >>> formulas.in_place(torch.tensor([1, 2, 4, 5]), torch.tensor([0, 1, 2, 3]))
    tensor([4, 1, 2, 5])
    """
    checks.tensors(chosen=chosen, before=before)
    whole = chosen.dtype == before.dtype and not (chosen.is_floating_point() or chosen.dtype == torch.bool)
    alike = whole and chosen.ndim == 1 and chosen.shape == before.shape
    if not alike or any(len(each.unique()) < len(each) for each in (chosen, before)):
        got = f"{chosen.tolist()} and {before.tolist()}" if whole else f"{chosen.dtype} and {before.dtype}"
        raise ValueError(f"chosen and before must be equally many indices, without repetitions, got {got}")
    new = chosen[~torch.isin(chosen, before)].sort().values
    return before.masked_scatter(~torch.isin(before, chosen), new)


def _log_mixing(distances: Tensor, temperature: float) -> Tensor:
    _check_distances(distances)
    checks.numbers(temperature=temperature)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and not negative, got {temperature}")
    return torch.log_softmax(-float(temperature) * distances, dim=1)


def _check_distances(distances: Tensor) -> None:
    checks.tensors(distances=distances)
    square = distances.dtype != torch.bool and distances.ndim == 2 and distances.shape[0] == distances.shape[1] > 0
    if not square or not (distances.isfinite() & (distances >= 0)).all():
        raise ValueError(f"distances must be finite, not negative and square, got {description(distances)}")


def description(tensor: Tensor) -> str:
    """Return shape and fault of a tensor, for a message."""
    checks.tensors(tensor=tensor)
    finite = bool(tensor.isfinite().all())
    return f"shape {tuple(tensor.shape)}{'' if finite else ' with entries that are not finite'}"
