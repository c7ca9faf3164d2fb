"""Wrappers that let a layer read or write part of a stream, layer names that ignore them, activations behind layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from compactvision.measure.state import ExampleInputs, evaluating, inputs_from
from compactvision.models.layers import ChannelMap

_WRITERS = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish)


class Gathered(nn.Sequential):
    """A layer that reads part of a stream: a channel map in front of it (gather-in).

    Parameters
    ----------
    selection : ChannelMap
        One entry per channel that the layer reads.
    layer : nn.Module
        Convolution, linear layer or BatchNorm.
    """

    def __init__(self, selection: ChannelMap, layer: nn.Module) -> None:
        super().__init__(selection, layer)


class Scattered(nn.Sequential):
    """A layer whose narrow output is spread over a full stream: a channel map behind it (scatter-out).

    Parameters
    ----------
    layer : nn.Module
        Convolution or BatchNorm.
    spread : ChannelMap
        One entry per channel of the stream, -1 where the layer adds nothing.
    """

    def __init__(self, layer: nn.Module, spread: ChannelMap) -> None:
        super().__init__(layer, spread)


def named_layers(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield (name, path, module) of every module, with names that stay the same when surgery wraps a layer.

    ``path`` is the module's name in ``model.named_modules()``. The layer inside a wrapper has the wrapper's own name,
    the channel map of :class:`Gathered` that name with ":in" and that of :class:`Scattered` with ":out"; the wrapper
    itself is left out. All others are named by their path.
    """
    inside: dict[str, str] = {}
    for path, module in model.named_modules():
        name = inside.get(path, path)
        if isinstance(module, Gathered):
            inside |= {f"{path}.0": f"{name}:in", f"{path}.1": name}
        elif isinstance(module, Scattered):
            inside |= {f"{path}.0": name, f"{path}.1": f"{name}:out"}
        else:
            yield name, path, module


def activations_behind(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, str]:
    """Find the layers whose output is the input of an activation module, and that module.

    Where a convolution is followed by BatchNorm, that is the BatchNorm; both have the same channels. Sums of a residual
    stream stand behind no single layer and are not among them.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.

    Returns
    -------
    dict of str to str
        From the layer's name in ``surgery.channel_graph`` to the path of the activation module.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> surgery.activations_behind(models.pretrained("resnet20_glyphs"), (3, 32, 32))["layer1.0.bn1"]
    'layer1.0.relu1'
    """
    outputs: list[tuple[Tensor, str]] = []  # tensors are kept, so that no two of them share an identity
    pairs: dict[str, str] = {}

    def wrote(name: str) -> Callable:
        return lambda module, args, output: outputs.append((output, name))

    def reads(path: str) -> Callable:
        def hook(module: nn.Module, args: tuple) -> None:
            pairs.update({name: path for output, name in outputs if output is args[0]})

        return hook

    handles = []
    for name, path, module in named_layers(model):
        if isinstance(module, _WRITERS):
            handles.append(module.register_forward_hook(wrote(name)))
        elif isinstance(module, _ACTIVATIONS):
            handles.append(module.register_forward_pre_hook(reads(path)))
    try:
        with torch.no_grad(), evaluating(model):
            model(*inputs_from(model, example_inputs))
    finally:
        for handle in handles:
            handle.remove()
    return pairs
