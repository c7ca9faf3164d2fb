"""Least squares behind a compression: what fewer channels and a lower rank can still reproduce of a layer's outputs.

A layer computes ``W x`` at each output pixel; ``x`` is the patch that it reads, ``S`` the mean of ``x x^T``. With the
kept channels in front and ``S = L L^T``, let ``Z = W L``. The first ``C'`` channels of ``x`` and a kernel of rank ``r``
can reproduce all but a part of ``W x``: the squares of ``Z`` less the ``r`` largest eigenvalues of ``Z_c Z_c^T``, where
``Z_c`` has the columns of those channels. No gradient, no label and no training is needed.
"""

from __future__ import annotations

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

from .arguments import refuse_graph, refuse_index, refuse_infinite
from .gradients import kernels


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
        Input channels that may be kept, the first of them first.
    root : Tensor
        Lower triangular ``L`` with ``S = L L^T`` for the channels of the order.
    seen : Tensor
        ``Z``, a row for each output channel, a column for each of the root's; ``W L`` where the order has all channels.
    total : float
        Squares of all outputs, the trace of ``W S W^T``.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    root: Tensor
    seen: Tensor
    total: float

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
        counts = range(1, len(self.order) + 1) if counts is None else counts
        if isinstance(counts, (str, bytes, Mapping)) or not isinstance(counts, Iterable) or not (counts := [*counts]):
            raise ValueError(f"counts must be numbers of channels, got {checks.shown(counts)}")
        for count in counts:
            refuse_index(len(self.order) + 1, counts=count)
            checks.counts(counts=count)
        gram, grams, done = self.seen.new_zeros(self.shape[0], self.shape[0]), {}, 0
        for count in sorted(set(counts)):  # each has the columns of those before it
            part = self.seen[:, done : count * math.prod(self.shape[2:])]
            gram, done = gram + part @ part.T, done + part.shape[1]
            grams[count] = gram
        values = torch.linalg.eigvalsh(torch.stack([grams[count] for count in counts])).flip(1).clamp(min=0)
        return (1 - values.cumsum(1) / self.total).clamp(min=0)  # (counts, N), largest eigenvalues first

    def kernel(self, channels: int, rank: int | None = None) -> Tensor:
        """Return the kernel (N, channels, kh, kw) for the first channels of the order that reproduces most.

        Parameters
        ----------
        channels : int
            From 1 to the order's number.
        rank : int, optional
            At most this one; None for no bound.
        """
        refuse_index(len(self.order) + 1, channels=channels)
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
        Input channels that may be kept, each once. By default all of them, those first whose own part of the outputs
        has the largest squares.
    ridge : float, default 1e-4
        Share of the mean diagonal that is added to it, positive: it holds directions that the images leave open.

    Raises
    ------
    ValueError
        If shapes differ, ``order`` names a channel twice or one that is not there, or ``ridge`` is not positive.

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
    if not order or len(set(order)) < len(order) or not set(order) <= set(range(kernel.shape[1])):
        raise ValueError(f"order must name some of {kernel.shape[1]} channels, each once, got {order}")
    flat = matrix.flatten(1)
    index = torch.tensor([channel * taps + tap for channel in order for tap in range(taps)], device=kernel.device)
    hold = ridge * float(moments.diagonal().mean()) + 1e-30
    held = moments + hold * torch.eye(size, dtype=moments.dtype, device=moments.device)
    root, failed = torch.linalg.cholesky_ex(held[index][:, index])
    if failed:
        raise ValueError("moments must be those of real inputs, but with the ridge they are not positive definite")
    seen = torch.linalg.solve_triangular(root, held[index] @ flat.T, upper=False).T
    total = float((flat @ held * flat).sum())
    return Regression(tuple(kernel.shape), order, root, seen, total)
