"""What a file says of each layer that surgery may cut, and how a fresh layer is brought into that shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models import factorised
from compactvision.models.attention_forms import FORMS
from compactvision.models.factorised.replace import replace_
from compactvision.models.layers import ChannelMap
from compactvision.models.scored_linear import ScoredLinear
from compactvision.surgery.layers import Gathered, Scattered

Description = Mapping[str, object]
Take = Callable[[str, tuple[int, ...]], Tensor]  # (name of a tensor of the layer, its shape) -> that of the file
_WRAPPERS = {"Gathered": Gathered, "Scattered": Scattered}


@dataclass(frozen=True)
class _Kind:
    """One kind of layer: what is said of it, and how that is applied to a fresh one, in place."""

    types: tuple[type[nn.Module], ...]
    describe: Callable[[nn.Module], dict[str, object]]
    restore_: Callable[[nn.Module, Description, Take], None]


@runtime_checkable
class SelfDescribing(Protocol):
    """A layer that says of itself how it is built anew; surgery saves and loads every layer that does.

    ``layer_name`` is its class in files, ``description()`` what is expressible as JSON and gives its shapes, and
    ``from_description`` a layer of these shapes, whose values are loaded afterwards. The latter refuses what is no
    description by a ``ValueError``; it is called on the meta device, where tensors cost nothing.
    """

    layer_name: ClassVar[str]

    def description(self) -> dict[str, Any]:
        """Return what :meth:`from_description` needs."""

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Return a layer of the described shapes."""


def known_layers(layers: Iterable[type] = ()) -> dict[str, type]:
    """Return the classes of self-describing layers by name: those of this package, and the given ones.

    Raises
    ------
    ValueError
        If one does not describe itself, or its name is taken.
    """
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Iterable):
        raise ValueError(f"layers must be classes of layers, got {checks.shown(layers)}")
    own = [getattr(factorised, name) for name in factorised.__all__] + [ScoredLinear, *FORMS]
    found = {each.layer_name: each for each in own if isinstance(each, type) and hasattr(each, "layer_name")}
    for each in layers:
        if not all(hasattr(each, name) for name in ("layer_name", "description", "from_description")):
            raise ValueError(f"layers: {each!r} has not layer_name, description and from_description")
        if found.setdefault(each.layer_name, each) is not each:
            raise ValueError(f"layers: the name {each.layer_name!r} of {each!r} is taken")
    return found


def describe(module: nn.Module) -> dict[str, object] | None:
    """Return what has to be known to give a fresh layer its shape, or None for a module without channels."""
    if isinstance(module, (Gathered, Scattered)):
        return {"wrapper": type(module).__name__}
    if isinstance(module, SelfDescribing):
        return {"layer": module.layer_name, "settings": module.description()}
    kind = _kind_of(module)
    return None if kind is None else kind.describe(module)


def restore_(
    model: nn.Module, name: str, layer: Description, tensors: Mapping[str, Tensor], layers: Mapping[str, type]
) -> None:
    """Give one layer of a fresh network the described shape and the tensors of the file; nothing else is allocated.

    ``layers`` are the classes of self-describing layers by name; such a layer takes the place of the fresh one.

    Raises
    ------
    ValueError
        If the network has no such layer, or the description, the tensors and the layer do not go together.
    """
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"the network that was built has no layer {name!r}") from None
    if "wrapper" in layer:
        _wrap_(model, name, module, layer)
        return
    if "layer" in layer:
        _put_(model, name, layer, tensors, layers)
        return
    kind = _kind_of(module)
    if kind is None:
        raise ValueError(f"layer {name!r} is a {type(module).__name__} in the network that was built")
    try:
        kind.restore_(module, layer, _taker(module, name, tensors))
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None


def same_kind(found: Tensor, expected: Tensor) -> bool:
    """Tell whether a tensor may stand for another: floating point of 16 to 64 bit, or the same type of integers."""
    if expected.is_floating_point():
        return found.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return found.dtype == expected.dtype


def _kind_of(module: nn.Module) -> _Kind | None:
    return next((kind for kind in _KINDS if isinstance(module, kind.types)), None)


def _wrap_(model: nn.Module, name: str, module: nn.Module, layer: Description) -> None:
    wrapper = _WRAPPERS.get(str(layer["wrapper"]))
    if wrapper is None or len(layer) > 1 or not name:
        raise ValueError(f"layer {name!r}: 'wrapper' is {layer['wrapper']!r}, not one of {', '.join(_WRAPPERS)}")
    if isinstance(module, wrapper):
        return
    placeholder = ChannelMap([0], 1)
    wrapped = Gathered(placeholder, module) if wrapper is Gathered else Scattered(module, placeholder)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, wrapped)


def _put_(
    model: nn.Module, name: str, layer: Description, tensors: Mapping[str, Tensor], layers: Mapping[str, type]
) -> None:
    """Put a layer that describes itself in the place of the fresh one, on the meta device until it is filled."""
    kind, settings = layers.get(str(layer["layer"])), layer.get("settings")
    if kind is None:
        raise ValueError(f"layer {name!r} is a {layer['layer']!r}, which is none of {', '.join(layers)}: give layers=")
    if not isinstance(settings, dict) or len(layer) > 2 or not name:
        raise ValueError(f"layer {name!r}: its description is not one of a {layer['layer']!r}")
    try:
        with torch.device("meta"):
            made = kind.from_description(settings)
        state, take = made.state_dict(), _taker(made, name, tensors)
        for path, _ in (*made.named_parameters(), *made.named_buffers()):
            if path not in state:
                raise ValueError(f"a {layer['layer']!r} holds {path!r}, which files do not")
        for path, tensor in state.items():
            take(path, tuple(tensor.shape))
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None
    replace_(model, name, made)


def _taker(module: nn.Module, layer: str, tensors: Mapping[str, Tensor]) -> Take:
    """Return a function that finds a tensor of the layer in the file, and compares it with what is said and built."""

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        found = tensors.get(f"{layer}.{name}" if layer else name)
        if found is None:
            raise ValueError(f"tensor {name!r} is missing")
        if tuple(found.shape) != shape:
            raise ValueError(f"tensor {name!r} has the shape {tuple(found.shape)}, its description says {shape}")
        built = getattr(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
        if built is not None and not same_kind(found, built):
            raise ValueError(f"tensor {name!r} is of type {found.dtype}, in the network that was built {built.dtype}")
        return found

    return take


def _checked(layer: Description, counts: tuple[str, ...], bias: bool = False) -> list[int]:
    """Return the counts that a description must have, in order; it may say ``bias`` where that is allowed."""
    unknown = sorted(set(layer) - set(counts) - ({"bias"} if bias else set()))
    if unknown:
        raise ValueError(f"its description has the unknown field {unknown[0]!r}")
    for name in counts:
        value = layer.get(name)
        if type(value) is not int or not 0 < value < 2**31:
            raise ValueError(f"{name!r} is {value!r}, not a whole number of at least 1 and below 2**31")
    if type(layer.get("bias", True)) is not bool:
        raise ValueError(f"'bias' is {layer['bias']!r}, not true or false")
    return [layer[name] for name in counts]


def _set_(module: nn.Module, take: Take, **shapes: tuple[int, ...]) -> None:
    """Replace the tensors that the layer has by those of the file."""
    for name, shape in shapes.items():
        built = getattr(module, name)
        if built is not None:
            found = take(name, shape)
            setattr(module, name, nn.Parameter(found) if isinstance(built, nn.Parameter) else found)


def _grow_bias_(module: nn.Conv2d | nn.Linear, layer: Description) -> None:
    if layer.get("bias", False) and module.bias is None:  # surgery may have made one
        module.bias = nn.Parameter(torch.zeros(0))
    if module.bias is not None and not layer.get("bias", False):
        raise ValueError("it has a bias in the network that was built, none in its description")


def _bias(module: nn.Conv2d | nn.Linear) -> dict[str, object]:
    return {} if module.bias is None else {"bias": True}


def _conv(module: nn.Conv2d) -> dict[str, object]:
    return {"in": module.in_channels, "out": module.out_channels, "groups": module.groups} | _bias(module)


def _restore_conv_(module: nn.Conv2d, layer: Description, take: Take) -> None:
    read, written, groups = _checked(layer, ("in", "out", "groups"), bias=True)
    each = module.in_channels // module.groups, module.out_channels // module.groups
    whole = groups == module.groups or (module.groups > 1 and (read, written) == (groups * each[0], groups * each[1]))
    if not whole or read % groups or written % groups:  # surgery takes whole groups away
        raise ValueError(
            f"'groups' is {groups} for {read} and {written} channels, in the network that was built {module.groups} "
            f"for {module.in_channels} and {module.out_channels}"
        )
    _grow_bias_(module, layer)
    _set_(module, take, weight=(written, read // groups, *module.kernel_size), bias=(written,))
    module.in_channels, module.out_channels, module.groups = read, written, groups


def _linear(module: nn.Linear) -> dict[str, object]:
    return {"in": module.in_features, "out": module.out_features} | _bias(module)


def _restore_linear_(module: nn.Linear, layer: Description, take: Take) -> None:
    read, written = _checked(layer, ("in", "out"), bias=True)
    _grow_bias_(module, layer)
    _set_(module, take, weight=(written, read), bias=(written,))
    module.in_features, module.out_features = read, written


def _norm(module: nn.BatchNorm2d) -> dict[str, object]:
    return {"out": module.num_features}


def _restore_norm_(module: nn.BatchNorm2d, layer: Description, take: Take) -> None:
    (channels,) = _checked(layer, ("out",))
    names = ("weight", "bias", "running_mean", "running_var")
    _set_(module, take, **dict.fromkeys(names, (channels,)))
    module.num_features = channels


def _map(module: ChannelMap) -> dict[str, object]:
    return {"in": module.in_channels, "out": module.out_channels, "stride": module.stride}


def _restore_map_(module: ChannelMap, layer: Description, take: Take) -> None:
    read, written, stride = _checked(layer, ("in", "out", "stride"))
    if stride != module.stride:
        raise ValueError(f"'stride' is {stride}, in the network that was built {module.stride}")
    module.set_source(take("source", (written,)).tolist(), read)


_KINDS = (
    _Kind((nn.Conv2d,), _conv, _restore_conv_),
    _Kind((nn.Linear,), _linear, _restore_linear_),
    _Kind((nn.BatchNorm1d, nn.BatchNorm2d), _norm, _restore_norm_),
    _Kind((ChannelMap,), _map, _restore_map_),
)
