"""Tries one network: cut at half the widths, compared, trained a step, saved, loaded, exported, also as ONNX."""

from __future__ import annotations

import copy
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import measure, surgery
from compactvision.awkward.catalogue import Network
from compactvision.shrinking import onnx_file
from compactvision.surgery.blocks import KINDS
from compactvision.surgery.outputs import output_tensors
from compactvision.surgery.recording import IMAGES, OUTPUT

LEAST_GONE = 0.3
"""Share of the MACs that has to go at half the widths for a network to count as cut."""

BOUND = 1e-9
"""Largest difference of masked and cut outputs in float64, relative to the largest output."""


@dataclass
class _Cut:
    """A network, its smaller one, and what the mask computes on some images."""

    small: nn.Module
    masked: list[Tensor]
    way: str
    groups: int
    kept: dict[str, int] = field(default_factory=dict)


def attempt(network: Network, then: Callable[[nn.Module, Tensor], object] | None = None) -> dict[str, Any]:
    """Return a row of the table: what came of cutting a network at half its widths.

    Parameters
    ----------
    network : Network
        Built with random weights and BatchNorm statistics, in float64.
    then : callable (small, images) -> object, optional
        Called with the cut network, in float64, where it passed all.

    Returns
    -------
    dict
        ``cut``, whether it passed all; else ``reason``, why not. As far as it came: ``way`` ("channels", "attention"),
        ``macs_left`` and ``parameters_left`` (shares), ``groups``, ``kept`` (operations that hold layers whole, with
        the number of layers), ``difference`` of masked and cut outputs, ``trained``, ``loaded``, ``exported``.
    """
    row: dict[str, Any] = {"source": network.source, "name": network.name, "size": network.size, "cut": False}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            passed = _fill(row, network)
    except ValueError as error:
        row["reason"] = str(error)
        return row
    if then is not None:
        then(*passed)
    return row


def _fill(row: dict[str, Any], network: Network) -> tuple[nn.Module, Tensor]:
    model = shaken_(network.build()).double()
    images = torch.randn(2, 3, network.size, network.size, dtype=torch.float64)
    whole = measure.macs(model, images[:1]), measure.parameters(model)
    found = _by_blocks(model, images) or _by_channels(model, images)
    left = measure.macs(found.small, images[:1]), measure.parameters(found.small)
    row |= {"way": found.way, "macs_left": left[0] / whole[0], "parameters_left": left[1] / whole[1]}
    row |= {"groups": found.groups, "kept": found.kept}
    if row["macs_left"] > 1 - LEAST_GONE:
        raise ValueError(f"only {1 - row['macs_left']:.1%} of the MACs can go at half the widths")
    row["difference"] = _difference(found.small, found.masked, images)
    if not row["difference"] <= BOUND:
        raise ValueError(f"masked and cut outputs differ by {row['difference']:.1e}")
    row["trained"] = trains(found.small, images)
    row["loaded"] = loads(found.small, network, images)
    row["exported"] = exports(found.small, images)
    row["cut"] = row["trained"] and row["loaded"] and row["exported"]
    if not row["cut"]:
        raise ValueError(f"cut, but not {', '.join(key for key in ('trained', 'loaded', 'exported') if not row[key])}")
    return found.small, images


def shaken_(model: nn.Module) -> nn.Module:
    """Give whatever is the same number throughout (statistics, scales, shifts, a head of zeros) values that differ."""
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1 and (tensor == tensor.flatten()[0]).all():
                positive = name.endswith(("var", "weight", "scale", "gamma"))
                nn.init.uniform_(tensor, *((0.5, 1.5) if positive else (-0.5, 0.5)))
    return model


def _by_blocks(model: nn.Module, images: Tensor) -> _Cut | None:
    """Cut half of each kind of dimension in each block of a transformer; None where there is no block."""
    try:
        blocks = surgery.find_blocks(model)
    except ValueError:
        return None
    keep = {
        name: {kind: torch.arange(site.shape[-1]).expand(site.shape) % 2 == 0
               for kind, site in block.sites.items() if kind in KINDS[:3]}
        for name, block in blocks.items()
    }  # fmt: skip
    with torch.no_grad():
        masked = output_tensors(surgery.mask_dimensions(model, keep)(images))
    return _Cut(surgery.cut_dimensions(model, keep), masked, "attention", 3 * len(blocks))


def _by_channels(model: nn.Module, images: Tensor) -> _Cut:
    graph = surgery.channel_graph(model, images[:1])
    kept = Counter(_operation(reason) for reason in graph.fixed.values() if reason != OUTPUT)
    if not graph.groups:
        raise ValueError(f"nothing can be cut; whole for {_listed(kept)}")
    scores = {name: values for name, values in surgery.criteria.l1()(model).items() if name in graph.layers}
    plan = surgery.make_plan(graph, scores, keep=0.5)
    small = surgery.prune(model, plan)
    with torch.no_grad(), surgery.mask(model, plan):
        masked = output_tensors(model(images))
    return _Cut(small, masked, "channels", len(graph.groups), dict(kept.most_common()))


def _operation(reason: str) -> str:
    """Return the operation that keeps a layer whole, from the reason that the graph gives."""
    called = re.search(r"calls '(\w+)'", reason)
    if called:
        return called.group(1)
    return "a constant" if reason == IMAGES else "another dimension" if "another dimension" in reason else "one channel"


def _listed(kept: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in kept.most_common())


def _difference(small: nn.Module, masked: list[Tensor], images: Tensor) -> float:
    with torch.no_grad():
        found = output_tensors(small(images))
    pairs = zip(found, masked, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def trains(small: nn.Module, images: Tensor) -> bool:
    """Return whether one step of SGD in training mode changes a copy of the network and leaves finite numbers."""
    model = copy.deepcopy(small).float().train()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = sum(output.square().mean() for output in output_tensors(model(images.float())))
    loss.backward()
    optimizer.step()
    finite = all(parameter.isfinite().all() for parameter in model.parameters())
    moved = any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    return bool(loss.isfinite()) and finite and moved


def loads(small: nn.Module, network: Network, images: Tensor) -> bool:
    """Return whether the saved and loaded network gives the same outputs, bit by bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.safetensors")
        surgery.save(small, path)
        again = surgery.load(path, build=network.build)
    with torch.no_grad():
        pairs = zip(output_tensors(small(images)), output_tensors(again(images)), strict=True)
        return all(torch.equal(*pair) for pair in pairs)


def exports(small: nn.Module, images: Tensor) -> bool:
    """Return whether ``torch.export`` takes the network, and what it makes gives the same outputs."""
    model, one = copy.deepcopy(small).float().eval(), images[:1].float()
    try:
        exported: Callable = torch.export.export(model, (one,)).module()
    except Exception:  # whatever the exporter raises, there is no export
        return False
    with torch.no_grad():
        pairs = zip(output_tensors(exported(one)), output_tensors(model(one)), strict=True)
        return all(torch.allclose(*pair, rtol=1e-3, atol=1e-4) for pair in pairs)


def by_onnx(small: nn.Module, images: Tensor) -> float | str:
    """Return how far the answers of an ONNX file are from the network's, or why there is no file."""
    absent = onnx_file.missing()
    if absent is not None:
        return f"{absent} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            return onnx_file.export(copy.deepcopy(small).float().eval(), images.float(), Path(folder, "small.onnx"))
        except ValueError as error:
            return str(error)
