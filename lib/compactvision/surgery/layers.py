"""Wrappers that let a layer read or write part of a stream, and layer names that ignore them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from compactvision import _checks as checks
from compactvision.models.layers import ChannelMap


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
        checks.instances(ChannelMap, selection=selection)
        checks.networks(layer=layer)
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
        checks.networks(layer=layer)
        checks.instances(ChannelMap, spread=spread)
        super().__init__(layer, spread)


def named_layers(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield (name, path, module) of every module, with names that stay the same when surgery wraps a layer.

    ``path`` is the module's name in ``model.named_modules()``. The layer inside a wrapper has the wrapper's own name,
    the channel map of :class:`Gathered` that name with ":in" and that of :class:`Scattered` with ":out"; the wrapper
    itself is left out. All others are named by their path.
    """
    checks.networks(model=model)
    inside: dict[str, str] = {}
    for path, module in model.named_modules():
        name = inside.get(path, path)
        if isinstance(module, Gathered):
            inside |= {f"{path}.0": f"{name}:in", f"{path}.1": name}
        elif isinstance(module, Scattered):
            inside |= {f"{path}.0": name, f"{path}.1": f"{name}:out"}
        else:
            yield name, path, module
