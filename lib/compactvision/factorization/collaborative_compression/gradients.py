"""Kernels that may be compressed, and the gradient of the loss for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from compactvision import _checks as checks
from compactvision import _failures as failures
from compactvision import surgery
from compactvision.measure import evaluating

from .arguments import refuse_graph


def kernels(graph: surgery.ChannelGraph) -> dict[str, Tensor]:
    """Return the kernels (N, C, kh, kw) of the convolutions that may be compressed, by layer.

    These read channels of the graph's groups; a convolution that reads the images is left out, and so are depthwise
    convolutions and linear layers.

    Parameters
    ----------
    graph : ChannelGraph
        With ``residual="gather"``, so that each layer may read a part of a stream of its own.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.resnet20(), (3, 32, 32), residual="gather")
    >>> len(cc.gradients.kernels(graph)), "conv1" in cc.gradients.kernels(graph)
    (18, False)
    """
    refuse_graph(graph)
    cuttable = torch.zeros(graph.units, dtype=torch.bool)
    for group in graph.groups.values():
        cuttable[group.units] = True
    found = {
        name: graph.model.get_submodule(layer.path).weight.detach()
        for name, layer in graph.layers.items()
        if layer.kind == "conv" and cuttable[layer.reads].all() and layer.reads.unique().numel() == layer.reads.numel()
    }
    if not found:
        raise ValueError("graph: no convolution reads channels of its groups")
    return found


def kernel_gradients(
    graph: surgery.ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss over all images for each kernel of :func:`kernels`.

    Parameters
    ----------
    graph : ChannelGraph
        Its network is run in evaluation mode and left as it was.
    batches : iterable of (Tensor, Tensor)
        Inputs and targets, on the model's device: the training set without augmentation.
    loss : callable, default cross-entropy
        Mean loss of a batch from (outputs, targets).

    Raises
    ------
    ValueError
        If there is no batch.

    Examples
    --------
    >>> from compactvision import data, models, surgery
    >>> from compactvision.factorization import collaborative_compression as cc
    >>> graph = surgery.channel_graph(models.pretrained("resnet20_glyphs"), (3, 32, 32), residual="gather")
    >>> gradients = cc.kernel_gradients(graph, data.load("glyphs", n=32).batches(16))
    >>> gradients["layer1.0.conv1"].shape
    torch.Size([16, 16, 3, 3])
    """
    refuse_graph(graph)
    checks.materialised(graph=graph.model)
    checks.batches(batches=batches)
    checks.functions(2, loss=loss, networks=True)
    model = graph.model
    names = list(kernels(graph))
    watched = [model.get_submodule(graph.layers[name].path).weight for name in names]
    flags = [weight.requires_grad for weight in watched]
    sums: list[Tensor] = []
    images = 0
    try:
        for weight in watched:
            weight.requires_grad_(True)
        with evaluating(model), torch.enable_grad():
            for batch in batches:
                inputs, targets = checks.pair(batch)
                with failures.explained([inputs, targets], "batches"):
                    value = loss(model(inputs), targets)
                if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                    raise ValueError(f"loss must give one number that depends on the model, got {checks.shown(value)}")
                found = torch.autograd.grad(value, watched)
                parts = [each * inputs.shape[0] for each in found]  # the loss is a mean over the batch
                sums = parts if not sums else [a + b for a, b in zip(sums, parts, strict=True)]
                images += inputs.shape[0]
    finally:
        for weight, flag in zip(watched, flags, strict=True):
            weight.requires_grad_(flag)
    if not images:
        raise ValueError("batches must hold at least one batch, got none")
    return {name: total / images for name, total in zip(names, sums, strict=True)}
