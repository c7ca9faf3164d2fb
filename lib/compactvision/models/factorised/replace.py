"""A network with some of its layers replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import nn

from compactvision import _checks as checks


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
    checks.networks(model=model)
    checks.mappings(change=change)
    checks.functions(1, networks=True, **{f"change[{name!r}]": function for name, function in change.items()})
    unknown = [name for name in change if not name or name not in dict(model.named_modules(remove_duplicate=False))]
    if unknown:
        raise ValueError(f"change: the network has no layer {unknown[0]!r}")
    model = copy.deepcopy(model)
    made = {name: function(model.get_submodule(name)) for name, function in change.items()}
    checks.networks(**{f"change[{name!r}] gives what": layer for name, layer in made.items()})
    for name, layer in made.items():
        replace_(model, name, layer)
    return model


def replace_(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of another one, in place, at all paths where that one stands."""
    old = model.get_submodule(name)
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
