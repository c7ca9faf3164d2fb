"""Least squares behind a cut: what stays in front of a layer is weighted anew, so that its outputs stay.

The idea of ThiNet (Luo et al. 2017) and of He et al. (2017), one layer after the other: a layer that lost inputs gets
the weights with which its outputs come nearest to those of the dense network, over the pixels of some images. No labels
and no training are needed. A comparison of importances *right after the cut* says little without it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.measure import evaluating
from compactvision.measure.state import placement
from compactvision.surgery.layers import named_layers
from compactvision.surgery.plan import Plan, planned_modules

LARGEST = 2**24  # numbers in one block of unfolded pixels


def reconstruct(model: nn.Module, small: nn.Module, plan: Plan, batches: Iterable, *, ridge: float = 1e-4) -> nn.Module:
    """Return a copy of a pruned network whose layers imitate those of the dense one, by layer-wise least squares.

    In the order of execution, each convolution and linear layer that lost inputs gets the weights (and the bias, where
    it has one) that minimise ``|W x - y|^2 + ridge * s * |W - W_0|^2`` over the pixels of all images: ``x`` is what the
    layer now reads, behind the layers that were reconstructed before it, ``y`` its output in the dense network,
    ``W_0`` the weights that the cut left and ``s`` the mean of ``x^2`` summed over pixels. BatchNorm keeps its
    statistics.

    Parameters
    ----------
    model : nn.Module
        The dense network; unchanged.
    small : nn.Module
        What ``surgery.prune(model, plan)`` gave; unchanged.
    plan : Plan
        What was kept.
    batches : iterable of Tensor or of (Tensor, ...)
        Images (B, C, H, W), a few hundred; what follows them (labels) is not looked at. Kept in memory, and read
        by both networks once for each layer that is reconstructed.
    ridge : float, default 1e-4
        How strongly the weights are held where the images leave them open, positive.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If there is no batch, ``ridge`` is not positive, the plan does not fit the model or ``small``, or a convolution
        pads with anything but zeros.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    >>> _ = model[0].weight.data.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))  # the second is twice the first
    >>> graph = surgery.channel_graph(model, (1, 4, 4))
    >>> plan = surgery.keep_plan(graph, {"0": [0]})
    >>> images = torch.randn(8, 1, 4, 4)
    >>> mended = surgery.reconstruct(model, surgery.prune(model, plan), plan, [images])
    >>> torch.allclose(mended(images), model(images), atol=1e-3)
    True
    """
    checks.materialised(model=model, small=small)
    checks.instances(Plan, plan=plan)
    checks.numbers(ridge=ridge)
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be positive and finite, got {ridge}")
    if isinstance(batches, (str, bytes, Mapping)) or not isinstance(batches, Iterable):
        raise ValueError(f"batches must be tensors or tuples that begin with one, got {checks.shown(batches)}")
    images = [batch[0] if isinstance(batch, (tuple, list)) and batch else batch for batch in batches]
    for image in images:
        checks.tensors(batches=image)
        if image.numel() == 0:
            raise ValueError(f"batches must hold images, got an empty batch of shape {tuple(image.shape)}")
    if not images:
        raise ValueError("batches must hold at least one batch, got none")
    checks.tensors(**{f"small ({name})": tensor for name, tensor in small.state_dict().items()})
    dense, mended = planned_modules(model, plan), copy.deepcopy(small)
    layers = {name: module for name, _, module in named_layers(mended)}
    for name, layer in plan.graph.layers.items():
        read, written = plan.kept[layer.reads], plan.kept[layer.writes]
        if layer.kind not in ("conv", "linear") or read.all():
            continue
        target = layers.get(name)
        _refuse_other(name, target, int(read.sum()), int(written.sum()))
        sums = _Sums(target)
        with torch.no_grad(), evaluating(model), evaluating(mended):
            for batch in images:
                wanted = _calls(model, dense[name], batch, outputs=True)
                inputs = _calls(mended, target, batch, outputs=False)
                for x, y in zip(inputs, wanted, strict=True):
                    if layer.kind == "linear":  # its channels are the last dimension
                        x, y = x.flatten(0, -2), y.flatten(0, -2)
                    sums.add(x, y[:, written.to(y.device)])
        if not (sums.gram.isfinite().all() and sums.cross.isfinite().all()):
            raise ValueError(f"model or small gives NaN or infinity around layer {name!r}")
        sums.solve_(ridge)
    return mended


class _Sums:
    """Normal equations of one layer, gathered in float64: ``x x^T`` and ``y x^T``, a one below ``x`` for a bias."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        self.layer = layer
        weight, bias = layer.weight.detach(), layer.bias
        start = [weight.flatten(1)] + ([] if bias is None else [bias.detach()[:, None]])
        self.start = torch.cat(start, 1).double()  # (C_out, D)
        size = self.start.shape[1]
        self.gram = self.start.new_zeros(size, size)
        self.cross = torch.zeros_like(self.start)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add one batch: inputs (B, C_in, ...) and wanted outputs (B, C_out, ...)."""
        step = max(1, LARGEST // max(1, y[0].numel() // y.shape[1] * self.start.shape[1]))
        for part, wanted in zip(x.split(step), y.split(step), strict=True):
            columns = self._columns(part).double()  # (D, N)
            rows = wanted.transpose(0, 1).flatten(1).double()  # (C_out, N)
            self.gram += columns @ columns.T
            self.cross += rows @ columns.T

    def _columns(self, x: Tensor) -> Tensor:
        """Return what each output pixel reads, as columns (D, N)."""
        layer = self.layer
        if isinstance(layer, nn.Linear):
            columns = x.T
        else:
            padding = _same(layer) if layer.padding == "same" else layer.padding
            padding = (0, 0) if padding == "valid" else padding
            x = F.pad(x, padding) if len(padding) == 4 else F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
            found = F.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride)  # (B, D, H W)
            columns = found.transpose(0, 1).flatten(1)
        return columns if layer.bias is None else torch.cat([columns, torch.ones_like(columns[:1])])

    def solve_(self, ridge: float) -> None:
        """Put the solution into the layer."""
        hold = ridge * self.gram.diagonal().mean()
        if hold == 0:  # nothing but zeros was read: there is nothing to learn from
            return
        left = self.gram + hold * torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        found = torch.linalg.solve(left, (self.cross + hold * self.start).T).T  # (C_out, D)
        with torch.no_grad():
            if self.layer.bias is not None:
                self.layer.bias.copy_(found[:, -1])
                found = found[:, :-1]
            self.layer.weight.copy_(found.reshape(self.layer.weight.shape))


def _same(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the padding (left, right, top, bottom) that "same" stands for; the larger half behind."""
    whole = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    (top, left) = (each // 2 for each in whole)
    return left, whole[1] - left, top, whole[0] - top


def _calls(model: nn.Module, layer: nn.Module, batch: Tensor, *, outputs: bool) -> list[Tensor]:
    """Return a layer's input or output, one tensor for each time it runs, as it was before anything wrote to it."""
    found: list[Tensor] = []
    if outputs:
        handle = layer.register_forward_hook(lambda module, args, out: found.append(out.clone()))
    else:
        handle = layer.register_forward_pre_hook(lambda module, args: found.append(args[0].clone()))
    try:
        run(model, batch.to(placement(model)[0]), name="batches")
    finally:
        handle.remove()
    return found


def _refuse_other(name: str, layer: nn.Module | None, inputs: int, outputs: int) -> None:
    """Raise a ``ValueError`` unless ``layer`` is what the plan makes of the layer of this name."""
    widths = None if layer is None else tuple(reversed(layer.weight.shape[:2]))
    if widths != (inputs, outputs):
        raise ValueError(f"small: layer {name!r} has {widths} channels, {(inputs, outputs)} by the plan")
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"small: layer {name!r} pads by {layer.padding_mode!r}; only zeros can be reconstructed")
