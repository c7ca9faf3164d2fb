"""Least squares behind a compression, and the plain search that it allows: which pair (channels, rank) is best.

A layer computes ``W x`` at each output pixel; ``x`` is the patch that it reads, ``S`` the mean of ``x x^T``. With the
kept channels in front and ``S = L L^T``, let ``Z = W L``. The first ``C'`` channels of ``x`` and a kernel of rank ``r``
can reproduce all but a part of ``W x``: the squares of ``Z`` less the ``r`` largest eigenvalues of ``Z_c Z_c^T``, where
``Z_c`` has the columns of those channels. No gradient, no label and no training is needed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import _failures as failures
from compactvision import surgery
from compactvision.measure import evaluating
from compactvision.measure.state import placement
from compactvision.models.factorised import SVDConv2d
from compactvision.surgery.layers import named_layers

from .arguments import refuse_graph, refuse_index, refuse_infinite, refuse_rate, refuse_tensors
from .arithmetic import saved_by
from .costs import Choice, iso_macs
from .gradients import kernels
from .plans import Compression, at_budget, compression
from .rates import LARGEST_RATE

COUNTS = 64
"""Numbers of channels that :func:`scan` tries in one layer, at most."""


def second_moments(graph: surgery.ChannelGraph, batches: Iterable) -> dict[str, Tensor]:
    """Return the mean of ``x x^T`` over all output pixels, for the patches ``x`` that each convolution reads.

    Parameters
    ----------
    graph : ChannelGraph
        Its network is run in evaluation mode and left as it was.
    batches : iterable of Tensor or of (Tensor, ...)
        Images (B, C, H, W), a few hundred; what follows them (labels) is not looked at.

    Returns
    -------
    dict of str to Tensor
        (C kh kw, C kh kw) in float64, for each layer of :func:`~.gradients.kernels`.

    Raises
    ------
    ValueError
        If there is no batch, one does not suit the network, or the network gives NaN or infinity.

    Examples
    --------
    >>> from compactvision import data, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.pretrained("resnet20_glyphs"), (3, 32, 32), residual="gather")
    >>> moments = cc.second_moments(graph, data.load("glyphs", n=32).batches(16))
    >>> moments["layer1.0.conv1"].shape
    torch.Size([144, 144])
    """
    refuse_graph(graph)
    checks.materialised(graph=graph.model)
    checks.batches(batches=batches)
    model = graph.model
    layers = {name: model.get_submodule(graph.layers[name].path) for name in kernels(graph)}
    sums: dict[str, Tensor] = {}
    pixels = dict.fromkeys(layers, 0)

    def note(name: str):
        def hook(conv: nn.Conv2d, args: tuple) -> None:
            columns = _patches(conv, args[0]).transpose(0, 1).flatten(1)  # (C kh kw, pixels)
            sums[name] = sums.get(name, 0) + (columns @ columns.T).double()
            pixels[name] += columns.shape[1]

        return hook

    handles = [conv.register_forward_pre_hook(note(name)) for name, conv in layers.items()]
    try:
        with torch.no_grad(), evaluating(model):
            for batch in batches:
                inputs = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
                checks.tensors(batches=inputs)
                with failures.explained([inputs], "batches"):
                    model(inputs.to(placement(model)[0]))
    finally:
        for handle in handles:
            handle.remove()
    if not sums:
        raise ValueError("batches must hold at least one batch, got none")
    for name, total in sums.items():
        if not pixels[name]:
            raise ValueError("batches must hold images, got empty ones")
        if not total.isfinite().all():
            raise ValueError(f"batches: with them layer {name!r} reads NaN or infinity")
    return {name: total / pixels[name] for name, total in sums.items()}


def _patches(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return what each output pixel reads, (B, C kh kw, pixels)."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = F.pad(x.detach(), conv._reversed_padding_repeated_twice, mode=mode)  # numbers, "same" and "valid" alike
    return F.unfold(x, conv.kernel_size, conv.dilation, 0, conv.stride)


@dataclass(frozen=True, eq=False)
class Regression:
    """A layer seen through its inputs: how well fewer channels and a lower rank can reproduce its outputs.

    Attributes
    ----------
    shape : tuple of int
        Of the kernel, (N, C, kh, kw).
    order : tuple of int
        Input channels; the first of them are kept.
    root : Tensor
        Lower triangular ``L`` with ``S = L L^T``, channels in this order, (C kh kw, C kh kw).
    seen : Tensor
        ``Z = W L``, (N, C kh kw).
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    root: Tensor
    seen: Tensor

    def errors(self, counts: Iterable[int] | None = None) -> Tensor:
        """Return the share of the outputs' squares that is lost, Eq. (7): a row for each number of channels.

        Parameters
        ----------
        counts : iterable of int, optional
            Numbers of channels, each from 1 to C; all of them by default.

        Returns
        -------
        Tensor
            (counts, N): column ``r - 1`` for rank ``r``.
        """
        counts = range(1, self.shape[1] + 1) if counts is None else counts
        if isinstance(counts, (str, bytes, Mapping)) or not isinstance(counts, Iterable) or not (counts := [*counts]):
            raise ValueError(f"counts must be numbers of channels, got {checks.shown(counts)}")
        for count in counts:
            refuse_index(self.shape[1] + 1, counts=count)
            checks.counts(counts=count)
        taps, total = math.prod(self.shape[2:]), self.seen.square().sum()
        grams = torch.stack([self.seen[:, : count * taps] @ self.seen[:, : count * taps].T for count in counts])
        values = torch.linalg.eigvalsh(grams).flip(1).clamp(min=0)  # (counts, N), largest first
        return ((total - values.cumsum(1)) / total).clamp(min=0)

    def kernel(self, channels: int, rank: int | None = None) -> Tensor:
        """Return the kernel (N, channels, kh, kw) for the first channels of the order that reproduces most.

        Parameters
        ----------
        channels : int
            From 1 to C.
        rank : int, optional
            At most this one; None for no bound.
        """
        refuse_index(self.shape[1] + 1, channels=channels)
        checks.counts(channels=channels, **({} if rank is None else {"rank": rank}))
        size = channels * math.prod(self.shape[2:])
        wanted = self.seen[:, :size]
        if rank is not None:
            basis = torch.linalg.eigh(wanted @ wanted.T).eigenvectors[:, -rank:]  # (N, rank)
            wanted = basis @ (basis.T @ wanted)
        found = torch.linalg.solve_triangular(self.root[:size, :size].T, wanted.T, upper=True).T
        return found.reshape(self.shape[0], channels, *self.shape[2:])


def regression(
    kernel: Tensor, moments: Tensor, order: Iterable[int] | None = None, *, ridge: float = 1e-4
) -> Regression:
    """Prepare the least squares of one layer.

    Parameters
    ----------
    kernel : Tensor
        (N, C, kh, kw).
    moments : Tensor
        (C kh kw, C kh kw), of :func:`second_moments`.
    order : iterable of int, optional
        All input channels, those to be kept in front. By default those come first whose own part of the outputs has the
        largest squares.
    ridge : float, default 1e-4
        Share of the mean diagonal that is added to it, positive: it holds directions that the images leave open.

    Raises
    ------
    ValueError
        If shapes differ, ``order`` does not name every channel once, or ``ridge`` is not positive.

    Examples
    --------
    >>> import torch
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> kernel = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 2, 1, 1)
    >>> twins = torch.tensor([[1.0, 1.0], [1.0, 1.0]])  # both channels always carry the same
    >>> part = cc.regression.regression(kernel, twins)
    >>> [round(value, 3) for value in part.errors([1]).flatten().tolist()]  # one channel, rank 1
    [0.0, 0.0]
    """
    checks.numbers(ridge=ridge)
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be positive and finite, got {ridge}")
    checks.floating(kernel=kernel, moments=moments)
    size = math.prod(kernel.shape[1:])
    if kernel.ndim != 4 or size == 0 or moments.shape != (size, size):
        raise ValueError(
            f"moments must be (C kh kw, C kh kw) for a kernel (N, C, kh, kw), got {tuple(moments.shape)} for "
            f"{tuple(kernel.shape)}"
        )
    refuse_infinite(kernel=kernel, moments=moments)
    matrix, moments = kernel.detach().double().flatten(2), moments.double()
    taps = matrix.shape[2]
    if order is None:
        blocks = moments.view(kernel.shape[1], taps, -1, taps).diagonal(dim1=0, dim2=2)  # (taps, taps, C)
        own = torch.einsum("nct,tuc,ncu->c", matrix, blocks, matrix)
        order = own.argsort(descending=True, stable=True).tolist()
    if isinstance(order, (str, bytes, Mapping)) or not isinstance(order, Iterable):
        raise ValueError(f"order must be numbers of channels, got {checks.shown(order)}")
    order = tuple(order)
    checks.whole(**{f"order[{place}]": channel for place, channel in enumerate(order)})
    if sorted(order) != list(range(kernel.shape[1])):
        raise ValueError(f"order must name each of {kernel.shape[1]} channels once, got {order}")
    index = torch.tensor([channel * taps + tap for channel in order for tap in range(taps)], device=kernel.device)
    ordered = moments[index][:, index]
    ordered = ordered + (ridge * ordered.diagonal().mean() + 1e-30) * torch.eye(size, dtype=ordered.dtype).to(ordered)
    root, failed = torch.linalg.cholesky_ex(ordered)
    if failed:
        raise ValueError("moments must be those of real inputs, but with the ridge they are not positive definite")
    return Regression(tuple(kernel.shape), order, root, matrix.flatten(1)[:, index] @ root)


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
        Of :func:`second_moments`, for the layers of ``made``.

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
        rest = sorted(set(range(dense[name].shape[1])) - set(choice.keep))
        part = regression(dense[name], moments[name].to(dense[name].device), [*choice.keep, *rest])
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

    In each layer the pairs on its iso-MAC curve are compared by :meth:`Regression.errors`. There are no gradients, no
    units that compete and no global rates.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``.
    moments : mapping of str to Tensor
        Of :func:`second_moments`.
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
