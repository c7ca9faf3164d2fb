"""What least squares is good for: the plain rival, a scan of pairs (channels, rank), and weights that fit a choice."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import surgery
from compactvision.models.factorised import SVDConv2d
from compactvision.surgery.layers import named_layers

from .arguments import refuse_graph, refuse_index, refuse_rate, refuse_tensors
from .arithmetic import saved_by
from .costs import Choice, iso_macs
from .gradients import kernels
from .plans import Compression, at_budget, compression
from .rates import LARGEST_RATE
from .regression import regression

COUNTS = 64
"""Numbers of channels that :func:`scan` tries in one layer, at most."""


def refit(small: nn.Module, made: Compression, moments: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy whose compressed layers have the weights, at the same channels and ranks, that reproduce most.

    Each layer on its own, as if it read what the dense network reads. Biases stay; BatchNorm keeps its statistics
    (:func:`compactvision.training.renewed` comes next).

    Parameters
    ----------
    small : nn.Module
        What ``compress(model, made)`` gave; unchanged.
    made : Compression
        What stays.
    moments : mapping of str to Tensor
        Of :func:`~.regression.second_moments`, for the layers of ``made``.

    Raises
    ------
    ValueError
        If a layer has no moments, or ``small`` is not what ``made`` describes.

    Examples
    --------
    >>> from compactvision import data, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    >>> moments = cc.second_moments(graph, data.load("glyphs", n=64).batches(32))
    >>> made = cc.scan(graph, moments, keep_macs=0.5)
    >>> better = cc.refit(cc.compress(model, made), made, moments)
    """
    checks.instances(Compression, made=made)
    checks.materialised(small=small)
    refuse_tensors(moments=moments)
    graph, small = made.plan.graph, copy.deepcopy(small)
    layers = {name: module for name, _, module in named_layers(small)}
    dense = kernels(graph)
    for name, choice in made.choices.items():
        if name not in moments:
            raise ValueError(f"moments must hold every compressed layer, got none for {name!r}")
        part = regression(dense[name], moments[name].to(dense[name].device), choice.keep)
        rows = made.plan.kept[graph.layers[name].writes].nonzero().flatten().to(dense[name].device)
        _put(name, layers.get(name), part.kernel(choice.channels, choice.rank)[rows])
    return small


@torch.no_grad()
def _put(name: str, layer: nn.Module | None, kernel: Tensor) -> None:
    """Put a kernel into a convolution or into its two factors."""
    if isinstance(layer, SVDConv2d):
        shape = (layer.out_channels, layer.in_channels, *layer.kernel_size)
    else:
        shape = tuple(layer.weight.shape) if isinstance(layer, nn.Conv2d) else None
    if shape != tuple(kernel.shape):
        raise ValueError(f"small: layer {name!r} must have a kernel {tuple(kernel.shape)}, got {shape}")
    if isinstance(layer, SVDConv2d):
        layer.set_kernel_(kernel)
    else:
        layer.weight.copy_(kernel)


def scan(
    graph: surgery.ChannelGraph, moments: Mapping[str, Tensor], keep_macs: float, *, drop_unread: bool = True
) -> Compression:
    """Take the same share of MACs from each layer, at the pair (channels, rank) with the least error; the plain rival.

    In each layer the pairs on its iso-MAC curve are compared by :meth:`.Regression.errors`. There are no gradients, no
    units that compete and no global rates.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``.
    moments : mapping of str to Tensor
        Of :func:`~.regression.second_moments`.
    keep_macs : float
        Share of the network's MACs that may be left, in (0, 1].
    drop_unread : bool, default True
        As for :func:`~.plans.compression`.

    Raises
    ------
    ValueError
        If a layer has no moments, or the budget is out of its range or out of reach.

    Examples
    --------
    >>> from compactvision import data, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.pretrained("resnet20_glyphs"), (3, 32, 32), residual="gather")
    >>> made = cc.scan(graph, cc.second_moments(graph, data.load("glyphs", n=64).batches(32)), keep_macs=0.5)
    >>> 0.48 < made.macs / graph.macs <= 0.5
    True
    """
    refuse_graph(graph)
    refuse_tensors(moments=moments)
    checks.flags(drop_unread=drop_unread)
    found = kernels(graph)
    missing = found.keys() - moments.keys()
    if missing:
        raise ValueError(f"moments must hold every convolution of the graph, got none for {sorted(missing)}")
    searches = {name: Search.of(kernel, moments[name].to(kernel.device)) for name, kernel in found.items()}

    def at(rate: float) -> Compression:
        chosen = {name: search.choice(min(rate, search.reach)) for name, search in searches.items()} if rate > 0 else {}
        return compression(graph, chosen, drop_unread=drop_unread)

    return at_budget(at, keep_macs, until=LARGEST_RATE)


@dataclass(frozen=True, eq=False)
class Search:
    """The pairs (channels, rank) of one layer with their errors.

    Attributes
    ----------
    shape : tuple of int
        Of the kernel, (N, C, kh, kw).
    order : tuple of int
        Input channels; the first of them are kept.
    errors : dict of int to list of float
        Number of channels to the error at each rank, from rank 1.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    errors: dict[int, list[float]]

    @classmethod
    def of(cls, kernel: Tensor, moments: Tensor) -> Search:
        """Compute the errors at up to 64 numbers of channels, evenly spaced."""
        checks.floating(kernel=kernel)
        if kernel.ndim != 4 or kernel.numel() == 0:
            raise ValueError(f"kernel must be (N, C, kh, kw), got shape {tuple(kernel.shape)}")
        size = kernel.shape[1]
        counts = sorted({math.ceil(size * (i + 1) / min(size, COUNTS)) for i in range(min(size, COUNTS))})
        part = regression(kernel, moments)
        return cls(part.shape, part.order, dict(zip(counts, part.errors(counts).tolist(), strict=True)))

    @property
    def reach(self) -> float:
        """Largest share that a pair saves."""
        return max(saved_by(self.shape, min(self.errors), rank) for rank in (None, 1))

    def choice(self, rate: float) -> Choice:
        """Return the pair with the least error among those that save a share of the layer; for equal errors the first.

        Raises
        ------
        ValueError
            If no pair saves that much.
        """
        refuse_rate(rate=rate)
        points = [point for point in iso_macs(self.shape, rate) if point[0] in self.errors]
        if not points:
            raise ValueError(f"rate must be at most {self.reach:.4f} for this layer, got {rate}")
        channels, rank = min(points, key=lambda point: self.error(*point))
        return Choice(tuple(sorted(self.order[:channels])), rank)

    def error(self, channels: int, rank: int | None = None) -> float:
        """Return the share of the outputs' squares that is lost at one of the numbers of channels and a rank."""
        checks.whole(channels=channels)
        if channels not in self.errors:
            raise ValueError(f"channels must be one of the numbers that were tried, got {checks.shown(channels)}")
        if rank is None:
            return self.errors[channels][-1]
        checks.counts(rank=rank)
        refuse_index(len(self.errors[channels]) + 1, rank=rank)
        return self.errors[channels][rank - 1]
