"""A network with some of its layers replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import nn


def with_layers(model: nn.Module, change: Mapping[str, Callable[[nn.Module], nn.Module]]) -> nn.Module:
    """Return a copy of a network in which each named layer is what its function makes of it.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    change : mapping of str to callable (nn.Module) -> nn.Module
        By the layer's path in ``model.named_modules()``. A layer that stands at several paths is replaced at all.

    Raises
    ------
    ValueError
        If the network has no layer of that name, or the name is that of the network itself.

    Examples
    --------
    >>> from torch import nn
    >>> from compactvision.models.factorised import TTConv2d, with_layers
    >>> model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
    >>> with_layers(model, {"0": lambda conv: TTConv2d.from_layer(conv, (4, 4))})[0].ranks
    (4, 4)
    """
    model = copy.deepcopy(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    unknown = [name for name in change if not name or name not in modules]
    if unknown:
        raise ValueError(f"change: the network has no layer {unknown[0]!r}")
    made = {id(modules[name]): function(modules[name]) for name, function in change.items()}
    for name, module in modules.items():
        if id(module) in made:
            parent, _, child = name.rpartition(".")
            setattr(modules[parent], child, made[id(module)])
    return model
