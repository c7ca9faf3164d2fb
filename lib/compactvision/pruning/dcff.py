"""Dynamic-coded filter fusion: a narrow network whose filters are mixtures of many (Lin et al. 2021).

A layer trains ``c`` filters and computes with ``m < c`` *fused* ones. Each is a convex combination of all ``c``, with
weights from a softmax over the distances between filters; which ``m`` rows are used is decided anew in each epoch. A
rising temperature turns mixtures into single filters, so that training ends with an ordinary narrow network::

    narrow = surgery.prune(full, plan)  # only its widths matter
    model = network.fuse(narrow, full)
    training.fit(model, batches, callbacks=[network.DynamicFusion(network.exact)], ...)
    small = network.compact(model)

Here is what happens to one layer; ``network`` is :mod:`compactvision.pruning.dcff_network`. The published code does
something else than the text says; both are here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-7
"""Inside the logarithm of the published criterion."""


def distances(weight: Tensor) -> Tensor:
    """Return the Euclidean distances between the filters of a layer, (c, c), in float64.

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
    if weight.ndim < 2 or weight.numel() == 0 or not weight.isfinite().all():
        raise ValueError(f"weight must hold finite filters (c, ...), got {_description(weight)}")
    rows = weight.detach().double().flatten(1)  # (c, n k k)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def temperature(epoch: int, epochs: int, *, start: float = 1.0, end: float = 1e4, slope: float = 1.0) -> float:
    """Return the temperature of an epoch, rising along a tanh from ``start`` at 0 to ``end`` at ``epochs``.

    The schedule of :cite:`lin2021dcff`, written without its exponentials.

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
    """
    if epochs < 1 or not 0 <= epoch <= epochs:
        raise ValueError(f"epoch must be between 0 and epochs (at least 1), got {epoch} and {epochs}")
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
    pairs = distances[torch.triu_indices(*distances.shape, offset=1, device=distances.device).unbind()]
    unit = (float(pairs.median()) if pairs.numel() else 0.0) or 1.0
    return temperature(epoch, epochs, end=20.0, slope=2 / epochs) / unit


def mixing(distances: Tensor, temperature: float) -> Tensor:
    """Return the weights with which each filter mixes all of them, (c, c): rows of a softmax over distances.

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
    """
    return _log_mixing(distances, temperature).exp()


def divergences(distances: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of each row of :func:`mixing` from each other, (c, c), in float64.

    Entry (j, k) is ``KL(p_j || p_k)``. Nothing underflows on the way. Errors as for :func:`mixing`.
    """
    log_p = _log_mixing(distances.double(), temperature)  # (c, c)
    p = log_p.exp()
    return (p * log_p).sum(1, keepdim=True) - p @ log_p.T


def importance(distances: Tensor, temperature: float, *, mode: str = "exact", previous: Tensor | None = None) -> Tensor:
    """Return how distinctive each filter is: the sum of the divergences of its row from all rows, (c,).

    Implements the dynamic-coded criterion of :cite:`lin2021dcff`.

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
        If ``mode`` is unknown, a weight has underflowed and there are no previous scores, or as for :func:`mixing`.
    """
    if mode == "exact":
        return divergences(distances, temperature).sum(1)
    if mode != "official":
        raise ValueError(f'mode must be "exact" or "official", got {mode!r}')
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
    """
    if scores.ndim != 1 or scores.isnan().any():
        raise ValueError(f"scores must be 1-D without NaN, got {_description(scores)}")
    if not 1 <= keep <= scores.numel():
        raise ValueError(f"keep must be between 1 and {scores.numel()}, got {keep}")
    return scores.sort(descending=True, stable=True).indices[:keep].sort().values


def in_place(chosen: Tensor, before: Tensor) -> Tensor:
    """Return chosen indices such that those chosen before keep their places; new ones take the others, ascending.

    A place is a channel: BatchNorm and the next layer know a filter by it.

    Parameters
    ----------
    chosen, before : Tensor
        (keep,) each, without repetitions.

    Raises
    ------
    ValueError
        If their shapes differ or an index is repeated.
    """
    now, old = chosen.tolist(), before.tolist()
    if chosen.shape != before.shape or len(set(now)) < len(now) or len(set(old)) < len(old):
        raise ValueError(f"chosen and before must be equally many, without repetitions, got {now} and {old}")
    new = iter(sorted(set(now) - set(old)))
    return chosen.new_tensor([index if index in now else next(new) for index in old])


class FusedConv2d(nn.Module):
    """Convolution that trains many filters and computes with few, each a mixture of all.

    Implements the fusion of :cite:`lin2021dcff`. The mixing is a constant for the gradient.

    Parameters
    ----------
    narrow : nn.Conv2d
        Gives shape, stride, padding, dtype and device; not grouped.
    filters : int
        Filters to train, at least ``narrow.out_channels``. They are drawn as PyTorch draws those of a convolution.
    generator : torch.Generator, optional
        Source of the filters; PyTorch's global one by default.

    Attributes
    ----------
    weight, bias : nn.Parameter
        Filters (c, n, k, k) and biases (c,) or None.
    mixing : Tensor
        Buffer (m, c); the first rows of an identity at the beginning.

    Raises
    ------
    ValueError
        If ``narrow`` is grouped or pads otherwise than with zeros, or ``filters`` is too small.
    """

    mixing: Tensor

    def __init__(self, narrow: nn.Conv2d, filters: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if narrow.groups != 1 or narrow.padding_mode != "zeros":
            raise ValueError(f"narrow must be ungrouped and pad with zeros, got {narrow}")
        if filters < narrow.out_channels:
            raise ValueError(f"filters must be at least {narrow.out_channels}, got {filters}")
        self.in_channels, self.out_channels, self.filters = narrow.in_channels, narrow.out_channels, filters
        self.kernel_size, self.stride = narrow.kernel_size, narrow.stride
        self.padding, self.dilation = narrow.padding, narrow.dilation
        bound = 1 / math.sqrt(narrow.weight[0].numel())
        self.weight = _drawn((filters, *narrow.weight.shape[1:]), bound, narrow.weight, generator)
        self.bias = None if narrow.bias is None else _drawn((filters,), bound, narrow.weight, generator)
        self.register_buffer("mixing", torch.eye(self.out_channels, filters).to(narrow.weight))

    def mix_(self, mixing: Tensor) -> None:
        """Set the mixing (m, c); ``ValueError`` if its shape is another or an entry is not finite."""
        if mixing.shape != self.mixing.shape or not mixing.isfinite().all():
            raise ValueError(f"mixing must be finite of shape {tuple(self.mixing.shape)}, got {_description(mixing)}")
        self.mixing.copy_(mixing)

    def fused(self) -> tuple[Tensor, Tensor | None]:
        """Return the fused filters (m, n, k, k) and biases (m,)."""
        weight = (self.mixing @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return weight, None if self.bias is None else self.mixing @ self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n, H, W) to (B, m, H', W')."""
        weight, bias = self.fused()
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def compact(self) -> nn.Conv2d:
        """Return the ordinary convolution that computes the same, with ``m`` filters."""
        with torch.no_grad():
            weight, bias = self.fused()
        sizes = self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation
        conv = nn.utils.skip_init(nn.Conv2d, *sizes, bias=bias is not None, dtype=weight.dtype, device=weight.device)
        conv.weight = nn.Parameter(weight)
        conv.bias = None if bias is None else nn.Parameter(bias)
        return conv

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"{self.in_channels}, {self.out_channels} of {self.filters}, kernel_size={self.kernel_size}"


def _drawn(shape: tuple[int, ...], bound: float, like: Tensor, generator: torch.Generator | None) -> nn.Parameter:
    """Return a parameter drawn uniformly from -bound to bound."""
    device = None if generator is None else generator.device
    return nn.Parameter((bound * (2 * torch.rand(shape, generator=generator, device=device) - 1)).to(like))


def _log_mixing(distances: Tensor, temperature: float) -> Tensor:
    _check_distances(distances)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and not negative, got {temperature}")
    return torch.log_softmax(-temperature * distances, dim=1)


def _check_distances(distances: Tensor) -> None:
    square = distances.ndim == 2 and distances.shape[0] == distances.shape[1] > 0
    if not square or not (distances.isfinite() & (distances >= 0)).all():
        raise ValueError(f"distances must be finite, not negative and square, got {_description(distances)}")


def _description(tensor: Tensor) -> str:
    finite = bool(tensor.isfinite().all())
    return f"shape {tuple(tensor.shape)}{'' if finite else ' with entries that are not finite'}"
