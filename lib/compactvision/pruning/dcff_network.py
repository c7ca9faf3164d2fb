"""Dynamic-coded filter fusion of a whole network: putting it in, running it through a training, taking it out.

:func:`fuse` makes a narrow network train many filters, :func:`compact` the ordinary narrow network of the result.
A *rule* says for one layer and epoch how its filters are mixed and how they score. :func:`exact` has the formulas as
they are written, :func:`official` those of the published code (Lin et al. 2021); the others are controls.
:class:`DynamicFusion` applies a rule to all layers before each epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from compactvision.pruning.dcff import (
    FusedConv2d,
    choose,
    distances,
    importance,
    in_place,
    mixing,
    slow_temperature,
    temperature,
)
from compactvision.surgery.layers import named_layers
from compactvision.training import State

Rule = Callable[[Tensor, int, int, Tensor | None], tuple[Tensor, Tensor]]
"""From filters (c, ...), epoch, number of epochs and the scores of the epoch before to mixing (c, c), scores (c,)."""


def fuse(
    narrow: nn.Module, full: nn.Module, *, layers: Iterable[str] | None = None, generator: torch.Generator | None = None
) -> nn.Module:
    """Return a copy of a narrow network whose convolutions train as many filters as those of a full one have.

    Parameters
    ----------
    narrow : nn.Module
        Gives the widths: pruned by ``surgery``, whatever its residual form, or built narrow. Unchanged.
    full : nn.Module
        Network with convolutions of the same names (those of ``surgery.named_layers``); only their widths are read.
    layers : iterable of str, optional
        Convolutions to fuse; by default all that are not grouped.
    generator : torch.Generator, optional
        Source of the filters. Other layers keep what ``narrow`` has.

    Raises
    ------
    ValueError
        If there is nothing to fuse, a name is unknown, or ``full`` lacks a layer or has fewer filters there.
    """
    model = copy.deepcopy(narrow)
    found = {name: (path, module) for name, path, module in named_layers(model) if isinstance(module, nn.Conv2d)}
    chosen = [name for name, (_, conv) in found.items() if conv.groups == 1] if layers is None else list(layers)
    filters = {name: module.out_channels for name, _, module in named_layers(full) if isinstance(module, nn.Conv2d)}
    if not chosen:
        raise ValueError("layers: there is no convolution to fuse")
    for name in chosen:
        if name not in found or name not in filters:
            raise ValueError(f"layers: {name!r} is no convolution of {'narrow' if name not in found else 'full'}")
        path, conv = found[name]
        try:
            fused = FusedConv2d(conv, filters[name], generator=generator)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
        _replace_(model, path, fused)
    return model


def compact(model: nn.Module) -> nn.Module:
    """Return a copy with an ordinary narrow convolution in place of each fused one; its outputs are the same."""
    small = copy.deepcopy(model)
    for _, path, conv in fused_layers(model):
        _replace_(small, path, conv.compact())
    return small


def fused_layers(model: nn.Module) -> Iterator[tuple[str, str, FusedConv2d]]:
    """Yield name, path and module of every fused convolution (``ValueError`` if there is none)."""
    found = [each for each in named_layers(model) if isinstance(each[2], FusedConv2d)]
    if not found:
        raise ValueError("model has no fused convolution")
    yield from found


def exact(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule: the formulas as they are written, with this book's slow temperature in place of the published one."""
    apart = distances(weight)
    warmth = slow_temperature(apart, epoch, epochs)
    return mixing(apart, warmth), importance(apart, warmth)


def official(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule: the method as the published code runs it, with the published temperatures."""
    apart, warmth = distances(weight), temperature(epoch, epochs)
    return mixing(apart, warmth), importance(apart, warmth, mode="official", previous=previous)


def unmixed(rule: Rule) -> Rule:
    """Return a control: the choice of a rule, but single filters from the first epoch on."""

    def single(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed, scores = rule(weight, epoch, epochs, previous)
        return torch.eye(len(mixed)).to(mixed), scores

    return single


def largest(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule, a control: in each epoch the single filters with the largest L1 norm."""
    scores = weight.detach().double().abs().flatten(1).sum(1)
    return torch.eye(len(weight)).to(scores), scores


def first(weight: Tensor, epoch: int, epochs: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rule, a control: always the first filters, which were drawn by lot: a narrow network trained from scratch."""
    scores = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
    return torch.eye(len(weight)).to(scores), scores


class DynamicFusion:
    """Callback of ``training.fit`` that sets the mixing of every :class:`compactvision.pruning.dcff.FusedConv2d`.

    It does so before each epoch, from the filters as they are then; during an epoch the mixing is constant. At first
    the rows are in the order of the filters; later a filter that stays keeps its row. After training the model has the
    mixing of the last epoch.

    Parameters
    ----------
    rule : callable
        See ``Rule``; the last argument is None in the first epoch.

    Attributes
    ----------
    scores, kept : list of dict of str to Tensor
        For each epoch and layer, scores (c,) and kept indices (m,), on the CPU.

    Raises
    ------
    ValueError
        If ``rule`` is not callable; at the start of training, if the model has no fused convolution.
    """

    def __init__(self, rule: Rule) -> None:
        if not callable(rule):
            raise ValueError(f"rule must be callable, got {rule!r}")
        self.rule = rule
        self.scores: list[dict[str, Tensor]] = []
        self.kept: list[dict[str, Tensor]] = []

    def on_start(self, state: State) -> None:
        """Set the mixing of the first epoch."""
        self.scores, self.kept = [], []
        self._refresh(state, 0)

    def on_epoch(self, state: State) -> None:
        """Set the mixing of the next epoch, if there is one."""
        if state.epoch + 1 < state.epochs:
            self._refresh(state, state.epoch + 1)

    def swaps(self) -> list[dict[str, int]]:
        """Return for each epoch and layer how many kept filters were not kept in the epoch before; 0 in the first."""
        before = [*self.kept[:1], *self.kept[:-1]]
        return [
            {name: len(set(kept.tolist()) - set(old[name].tolist())) for name, kept in now.items()}
            for old, now in zip(before, self.kept, strict=True)
        ]

    def state_dict(self) -> dict:
        """Return scores and kept indices of all epochs, for a checkpoint."""
        return {"scores": list(self.scores), "kept": list(self.kept)}

    def load_state_dict(self, state: dict) -> None:
        """Take over the scores and indices of a checkpoint; the mixing itself is among the model's buffers."""
        for epoch in state["kept"]:
            if self.kept and epoch.keys() != self.kept[0].keys():
                raise ValueError(f"state: layers {sorted(epoch)} are not those of the model, {sorted(self.kept[0])}")
        self.scores, self.kept = list(state["scores"]), list(state["kept"])

    def _refresh(self, state: State, epoch: int) -> None:
        previous = self.scores[-1] if self.scores else {}
        scores, kept = {}, {}
        for name, _, conv in fused_layers(state.model):
            mixed, found = self.rule(conv.weight.detach(), epoch, state.epochs, previous.get(name))
            chosen = choose(found, conv.out_channels)
            if self.kept:
                chosen = in_place(chosen, self.kept[-1][name].to(chosen.device))
            conv.mix_(mixed[chosen])
            scores[name], kept[name] = found.cpu(), chosen.cpu()
        self.scores.append(scores)
        self.kept.append(kept)


def _replace_(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    module.train(model.get_submodule(path).training)
    setattr(model.get_submodule(parent), child, module)
