"""Carries a plan out: a network with fewer channels."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from compactvision import measure
from compactvision.measure.state import ExampleInputs
from compactvision.models.layers import ChannelMap
from compactvision.surgery.agreement import refuse_disagreement
from compactvision.surgery.graph import Layer
from compactvision.surgery.layers import Gathered, Scattered
from compactvision.surgery.plan import Plan, planned_modules


def prune(model: nn.Module, plan: Plan) -> nn.Module:
    """Return a copy of the model without the channels that the plan removes; the model itself is unchanged.

    In evaluation mode the copy computes what :func:`mask` makes the model compute, which is compared on the graph's
    example before the copy is returned. Kept weights and BatchNorm statistics are copies; training flags, devices,
    dtypes and ``requires_grad`` stay.

    Parameters
    ----------
    model : nn.Module
        The network that the plan was made for.
    plan : Plan
        What stays.

    Returns
    -------
    nn.Module
        Of the same class; layers that read or write part of a stream are wrapped in
        :class:`compactvision.surgery.Gathered` or :class:`compactvision.surgery.Scattered`.

    Raises
    ------
    ValueError
        If the plan does not fit the model, or the copy computes something else than the masked model, as where a number
        of channels is written into the network's ``forward``; the place is named.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32))
    >>> plan = surgery.keep_plan(graph, {"layer1.0.conv1": [0, 3, 5]})
    >>> surgery.prune(model, plan).layer1[0].conv1
    Conv2d(16, 3, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    small = cut(model, plan)
    refuse_disagreement(model, small, plan)
    return small


def cut(model: nn.Module, plan: Plan) -> nn.Module:
    """Return what :func:`prune` does without comparing it with the mask; for timings, which need no right outputs."""
    planned_modules(model, plan)
    small = copy.deepcopy(model)
    modules = planned_modules(small, plan)
    for name, layer in plan.graph.layers.items():
        read, written = plan.kept[layer.reads], plan.kept[layer.writes]
        if read.all() and written.all():
            continue
        module = modules[name]
        _CUTS[layer.kind](module, read.nonzero().flatten(), written.nonzero().flatten())
        wrapped = _wrapped(module, layer, read, written)
        if wrapped is not module:
            wrapped.train(module.training)
            _replace(small, module, wrapped)
    return small


def measured_latency(
    model: nn.Module, example_inputs: ExampleInputs, *, warmup: int = 3, repeats: int = 15, threads: int | None = None
) -> Callable[[Plan], float]:
    """Return a function that prunes a copy of the model as a plan says and times it, in milliseconds (median).

    Plans with equal widths are timed once. Arguments are those of :func:`compactvision.measure.latency`.
    """
    known: dict[tuple[int, ...], float] = {}

    def milliseconds(plan: Plan) -> float:
        key = tuple(plan.widths.values())
        if key not in known:
            small = cut(model, plan)
            known[key] = measure.latency(
                small, example_inputs, warmup=warmup, repeats=repeats, threads=threads
            ).median_ms
        return known[key]

    return milliseconds


def _replace(model: nn.Module, module: nn.Module, wrapped: nn.Module) -> None:
    """Put the wrapper in the module's place, under each of its names."""
    paths = [path for path, other in model.named_modules(remove_duplicate=False) if other is module]
    for path in paths:
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, wrapped)


def _cut_conv(conv: nn.Conv2d, read: Tensor, written: Tensor) -> None:
    conv.weight = _rows(conv.weight, written, read)
    conv.bias = _rows(conv.bias, written)
    conv.in_channels, conv.out_channels = read.numel(), written.numel()


def _cut_depthwise(conv: nn.Conv2d, read: Tensor, written: Tensor) -> None:
    conv.weight = _rows(conv.weight, written)
    conv.bias = _rows(conv.bias, written)
    conv.in_channels = conv.out_channels = conv.groups = written.numel()


def _cut_grouped(conv: nn.Conv2d, read: Tensor, written: Tensor) -> None:
    each = conv.in_channels // conv.groups
    conv.weight = _rows(conv.weight, written)
    conv.bias = _rows(conv.bias, written)
    conv.in_channels, conv.out_channels, conv.groups = read.numel(), written.numel(), read.numel() // each


def _cut_linear(linear: nn.Linear, read: Tensor, written: Tensor) -> None:
    linear.weight = _rows(linear.weight, written, read)
    linear.bias = _rows(linear.bias, written)
    linear.in_features, linear.out_features = read.numel(), written.numel()


def _cut_norm(norm: nn.BatchNorm2d, read: Tensor, written: Tensor) -> None:
    norm.weight, norm.bias = _rows(norm.weight, written), _rows(norm.bias, written)
    for name in ("running_mean", "running_var"):
        statistics = getattr(norm, name)
        if statistics is not None:
            setattr(norm, name, statistics[written.to(statistics.device)])
    norm.num_features = written.numel()


def _cut_map(channel_map: ChannelMap, read: Tensor, written: Tensor) -> None:
    position = {int(channel): index for index, channel in enumerate(read)}
    source = [position.get(int(entry), -1) for entry in channel_map.source[written.to(channel_map.source.device)]]
    channel_map.set_source(source, read.numel())


_CUTS: dict[str, Callable[[nn.Module, Tensor, Tensor], None]] = {
    "conv": _cut_conv,
    "grouped": _cut_grouped,
    "depthwise": _cut_depthwise,
    "linear": _cut_linear,
    "norm": _cut_norm,
    "map": _cut_map,
}


def _rows(parameter: nn.Parameter | None, rows: Tensor, columns: Tensor | None = None) -> nn.Parameter | None:
    """Return the kept rows (output channels) and columns (input channels) of a weight as a new parameter."""
    if parameter is None:
        return None
    values = parameter.detach()[rows.to(parameter.device)]  # an index tensor copies
    if columns is not None:
        values = values[:, columns.to(parameter.device)]
    return nn.Parameter(values, requires_grad=parameter.requires_grad)


def _wrapped(module: nn.Module, layer: Layer, read: Tensor, written: Tensor) -> nn.Module:
    if layer.insert == "gather" and not read.all():
        selection = ChannelMap(read.nonzero().flatten().tolist(), read.numel())
        return Gathered(_placed(selection, module), module)
    if layer.insert == "scatter" and not written.all():
        position = torch.cumsum(written, 0) - 1
        spread = ChannelMap(torch.where(written, position, -1).tolist(), int(written.sum()))
        return Scattered(module, _placed(spread, module))
    return module


def _placed(channel_map: ChannelMap, module: nn.Module) -> ChannelMap:
    """Move a channel map to where the module's parameters are."""
    tensor = next(iter((*module.parameters(), *module.buffers())), None)
    return channel_map if tensor is None else channel_map.to(tensor.device)
