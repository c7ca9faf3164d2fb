"""Filter fusion in a network: putting it in, running it through a training, taking it out."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import refuse_images
from compactvision.pruning.dcff import arguments, formulas
from compactvision.pruning.dcff.formulas import description
from compactvision.pruning.dcff.rules import FusionRule
from compactvision.surgery.layers import named_layers
from compactvision.training import State


class FusedConv2d(nn.Module):
    """Convolution that trains many filters and computes with few, each a mixture of all.

    Eq. (4), the fusion of :cite:`lin2021dcff`. The mixing is a constant for the gradient.

    Parameters
    ----------
    narrow : nn.Conv2d
        Gives shape, stride, padding, dtype and device; not grouped.
    filters : int
        Filters to train, at least ``narrow.out_channels``. They are drawn as PyTorch draws those of a convolution.
    generator : torch.Generator, optional
        Source of the filters; PyTorch's global one by default.

    Attributes
    ----------
    weight, bias : nn.Parameter
        Filters (c, n, k, k) and biases (c,) or None.
    mixing : Tensor
        Buffer (m, c); the first rows of an identity at the beginning.

    Raises
    ------
    ValueError
        If ``narrow`` is no convolution, grouped or pads otherwise than with zeros, or ``filters`` is too small.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.pruning import dcff
    >>> conv = dcff.FusedConv2d(nn.Conv2d(3, 4, 3), 9)
    >>> conv.weight.shape, conv(torch.zeros(1, 3, 8, 8)).shape
    (torch.Size([9, 3, 3, 3]), torch.Size([1, 4, 6, 6]))
    """

    mixing: Tensor

    def __init__(self, narrow: nn.Conv2d, filters: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        checks.instances(nn.Conv2d, narrow=narrow)
        checks.whole(filters=filters)
        checks.generators(generator=generator)
        if narrow.groups != 1 or narrow.padding_mode != "zeros":
            raise ValueError(f"narrow must be ungrouped and pad with zeros, got {narrow}")
        if filters < narrow.out_channels:
            raise ValueError(f"filters must be at least {narrow.out_channels}, got {filters}")
        self.in_channels, self.out_channels, self.filters = narrow.in_channels, narrow.out_channels, filters
        self.kernel_size, self.stride = narrow.kernel_size, narrow.stride
        self.padding, self.dilation = narrow.padding, narrow.dilation
        bound = 1 / math.sqrt(narrow.weight[0].numel())
        self.weight = _drawn((filters, *narrow.weight.shape[1:]), bound, narrow.weight, generator)
        self.bias = None if narrow.bias is None else _drawn((filters,), bound, narrow.weight, generator)
        self.register_buffer("mixing", torch.eye(self.out_channels, filters).to(narrow.weight))

    def mix_(self, mixing: Tensor) -> None:
        """Set the mixing (m, c); ``ValueError`` if its shape is another or an entry is not finite."""
        checks.tensors(mixing=mixing)
        if mixing.shape != self.mixing.shape or not mixing.isfinite().all():
            raise ValueError(f"mixing must be finite of shape {tuple(self.mixing.shape)}, got {description(mixing)}")
        self.mixing.copy_(mixing)

    def fused(self) -> tuple[Tensor, Tensor | None]:
        """Return the fused filters (m, n, k, k) and biases (m,)."""
        weight = (self.mixing @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return weight, None if self.bias is None else self.mixing @ self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n, H, W) to (B, m, H', W'); ``ValueError`` if ``x`` is something else."""
        refuse_images(x, self)
        arguments.reach(x, self)
        weight, bias = self.fused()
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def compact(self) -> nn.Conv2d:
        """Return the ordinary convolution that computes the same, with ``m`` filters."""
        with torch.no_grad():
            weight, bias = self.fused()
        sizes = self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation
        conv = nn.utils.skip_init(nn.Conv2d, *sizes, bias=bias is not None, dtype=weight.dtype, device=weight.device)
        conv.weight = nn.Parameter(weight)
        conv.bias = None if bias is None else nn.Parameter(bias)
        return conv

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"{self.in_channels}, {self.out_channels} of {self.filters}, kernel_size={self.kernel_size}"


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

    Examples
    --------
    >>> from compactvision import models
    >>> from compactvision.pruning import dcff
    >>> full, narrow = models.small_cnn(10, (32, 64)), models.small_cnn(10, (12, 25))
    >>> dcff.fuse(narrow, full).features[0]
    FusedConv2d(3, 12 of 32, kernel_size=(3, 3))
    """
    checks.networks(narrow=narrow, full=full)
    checks.generators(generator=generator)
    model = copy.deepcopy(narrow)
    found = {name: (path, module) for name, path, module in named_layers(model) if isinstance(module, nn.Conv2d)}
    chosen = (
        [name for name, (_, conv) in found.items() if conv.groups == 1] if layers is None else arguments.layers(layers)
    )
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
        model.set_submodule(path, fused.train(conv.training))
    return model


def compact(model: nn.Module) -> nn.Module:
    """Return a copy with an ordinary narrow convolution in place of each fused one; its outputs are the same.

    Parameters
    ----------
    model : nn.Module
        From :func:`fuse`; unchanged.

    Raises
    ------
    ValueError
        If it has no fused convolution.

    Examples
    --------
    >>> from compactvision import models
    >>> from compactvision.pruning import dcff
    >>> model = dcff.fuse(models.small_cnn(10, (12, 25)), models.small_cnn(10, (32, 64)))
    >>> dcff.compact(model).features[0]
    Conv2d(3, 12, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    small = copy.deepcopy(model)
    for _, path, conv in fused_layers(model):
        small.set_submodule(path, conv.compact().train(conv.training))
    return small


def fused_layers(model: nn.Module) -> Iterator[tuple[str, str, FusedConv2d]]:
    """Yield name, path and module of every fused convolution (``ValueError`` if there is none).

    Examples
    --------
    >>> from compactvision import models
    >>> from compactvision.pruning import dcff
    >>> model = dcff.fuse(models.small_cnn(10, (12, 25)), models.small_cnn(10, (32, 64)))
    >>> [name for name, _, _ in dcff.fused_layers(model)]
    ['features.0', 'features.4']
    """
    found = [each for each in named_layers(model) if isinstance(each[2], FusedConv2d)]
    if not found:
        raise ValueError("model has no fused convolution")
    yield from found


class DynamicFusion:
    """Callback of ``training.fit`` that sets the mixing of every :class:`FusedConv2d`.

    It does so before each epoch, from the filters as they are then; during an epoch the mixing is constant. At first
    the rows are in the order of the filters; later a filter that stays keeps its row. After training the model has the
    mixing of the last epoch.

    Parameters
    ----------
    rule : callable
        One of ``rules`` or another :data:`FusionRule`; its last argument is None in the first epoch.

    Attributes
    ----------
    scores, kept : list of dict of str to Tensor
        For each epoch and layer, scores (c,) and kept indices (m,), on the CPU.

    Raises
    ------
    ValueError
        If ``rule`` is no function; in training, if the model has no fused convolution or the rule gives something else.

    Examples
    --------
    >>> import torch
    >>> from compactvision import data, models, training
    >>> from compactvision.pruning import dcff
    >>> full, narrow = models.small_cnn(10, (8, 16)), models.small_cnn(10, (3, 6))
    >>> model, fusion = dcff.fuse(narrow, full), dcff.DynamicFusion(dcff.rules.exact)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    >>> batches = data.load("glyphs", n=32).batches(16, shuffle=True)
    >>> _ = training.fit(model, batches, epochs=2, optimizer=sgd, callbacks=[fusion], progress=False)
    >>> [len(epoch["features.0"]) for epoch in fusion.kept]
    [3, 3]
    """

    def __init__(self, rule: FusionRule) -> None:
        checks.functions(4, rule=rule)
        self.rule = rule
        self.scores: list[dict[str, Tensor]] = []
        self.kept: list[dict[str, Tensor]] = []

    def on_start(self, state: State) -> None:
        """Set the mixing of the first epoch."""
        checks.instances(State, state=state)
        self.scores, self.kept = [], []
        self._refresh(state, 0)

    def on_epoch(self, state: State) -> None:
        """Set the mixing of the next epoch, if there is one."""
        checks.instances(State, state=state)
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
        arguments.diary(state)
        for epoch in state["kept"]:
            if self.kept and epoch.keys() != self.kept[0].keys():
                raise ValueError(f"state: layers {sorted(epoch)} are not those of the model, {sorted(self.kept[0])}")
        if len(state["scores"]) != len(state["kept"]):
            raise ValueError(f"state has scores of {len(state['scores'])} epochs and kept of {len(state['kept'])}")
        self.scores, self.kept = list(state["scores"]), list(state["kept"])

    def _refresh(self, state: State, epoch: int) -> None:
        previous = self.scores[-1] if self.scores else {}
        scores, kept = {}, {}
        for name, _, conv in fused_layers(state.model):
            weight = conv.weight.detach()
            mixed, found = arguments.given(self.rule(weight, epoch, state.epochs, previous.get(name)), weight)
            chosen = formulas.choose(found, conv.out_channels)
            if self.kept:
                chosen = formulas.in_place(chosen, self.kept[-1][name].to(chosen.device))
            conv.mix_(mixed[chosen])
            scores[name], kept[name] = found.cpu(), chosen.cpu()
        self.scores.append(scores)
        self.kept.append(kept)


def _drawn(shape: tuple[int, ...], bound: float, like: Tensor, generator: torch.Generator | None) -> nn.Parameter:
    """Return a parameter drawn uniformly from -bound to bound."""
    device = None if generator is None else generator.device
    return nn.Parameter((bound * (2 * torch.rand(shape, generator=generator, device=device) - 1)).to(like))
