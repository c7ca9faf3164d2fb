"""Widths in place of operations: the scales of BatchNorm are the architecture, one for each channel.

Both sets of weights run with the same scales. Behind each step of the architecture stands a soft threshold, so that
scales become exactly zero; channels are then cut by the absolute value of their scales, over all layers together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from compactvision import _checks as checks
from compactvision import _failures as failures
from compactvision.measure.state import modes_kept
from compactvision.proximal import soft_threshold

from .arguments import refuse_negative, refuse_no_numbers, refuse_no_sequence
from .block import Block, Tensors, refuse_resonance
from .loop import PASSES, Recipe, cosine, endless
from .steps import Loss, rarts_


def scale_names(model: nn.Module) -> list[str]:
    """Return the names of the BatchNorm layers that have scales.

    Raises
    ------
    ValueError
        If there is none.
    """
    checks.materialised(model=model)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = [name for name, module in model.named_modules() if isinstance(module, kinds) and module.affine]
    if not found:
        raise ValueError("model has no BatchNorm with a scale")
    return found


def width_search(
    model: nn.Module,
    train: Iterable[tuple[Tensor, Tensor]],
    valid: Iterable[tuple[Tensor, Tensor]],
    *,
    passes: int,
    penalty: float = 0.01,
    layers: Sequence[str] | None = None,
    training_weight: float = 1.0,
    coupling: float = 1.0,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    recipe: Recipe | None = None,
) -> nn.Module:
    """Train with RARTS while unneeded channels lose their scales, and return the network.

    Parameters
    ----------
    model : nn.Module
        Where both sets of weights start; left as it was.
    train, valid : iterable of (Tensor, Tensor)
        Batches of the two halves, begun anew when they end.
    passes : int
        Budget; an iteration takes four.
    penalty : float, default 0.01
        Weight ``mu`` of the absolute values of the scales; the threshold is the step size times this.
    layers : sequence of str, optional
        BatchNorm layers whose scales are the architecture; all by default. The scales of others are weights.
    training_weight, coupling : float, default 1
        ``lambda`` and ``beta``.
    loss : callable, default cross-entropy
        Mean loss of a batch from (outputs, targets).
    recipe : loop.Recipe, optional
        Of the weights; scales take plain SGD with the same step size, no momentum and no decay.

    Returns
    -------
    nn.Module
        A copy of the model with ``w`` and the shared scales. Rank it with ``surgery.criteria.batch_norm_scale()``.

    Raises
    ------
    ValueError
        For unknown layers, a budget below one iteration, a negative number, a spring that is too stiff, batches
        that the model fails on, or a loss that is not finite.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.search import rarts
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    >>> batch = torch.randn(16, 3, 8, 8), torch.arange(16) % 2
    >>> found = rarts.width_search(model, [batch], [batch], passes=40, penalty=5.0)
    >>> bool((found[1].weight < 1).all())
    True
    """
    known = scale_names(model)
    if layers is not None:
        refuse_no_sequence(empty=True, layers=layers)
    names = list(known if layers is None else layers)
    checks.one_of(known, **{f"layers[{index}]": name for index, name in enumerate(names)})
    refuse_no_numbers(model=model)
    checks.batches(train=train, valid=valid)
    checks.counts(passes=passes)
    refuse_negative(penalty=penalty, training_weight=training_weight, coupling=coupling)
    checks.functions(2, loss=loss, networks=True)
    recipe = Recipe() if recipe is None else recipe
    checks.instances(Recipe, recipe=recipe)
    refuse_resonance(coupling, recipe.rate, recipe.momentum)
    iterations = passes // PASSES["rarts"]
    if not names or iterations < 1:
        raise ValueError(f"passes must pay for one iteration, {PASSES['rarts']}, and layers name one, got {passes}")
    result = copy.deepcopy(model)
    scales = {f"{name}.weight" for name in names}
    halves = [_Half(result, scales, loss) for _ in range(2)]
    tensors = tuple(dict(result.named_parameters())[name].detach().clone().requires_grad_() for name in sorted(scales))
    blocks = [recipe.weights(half.tensors) for half in halves]
    alpha = Block.descent(tensors, recipe.rate)
    with modes_kept(result):
        result.train()
        for index, pair in zip(range(iterations), zip(endless(train, "train"), endless(valid, "valid"))):
            rate = cosine(recipe, index / iterations)
            for block in (*blocks, alpha):
                block.optimizer.param_groups[0]["lr"] = rate
            losses = [half.on(batch, name) for half, batch, name in zip(halves, pair, ("train", "valid"), strict=True)]
            rarts_(
                blocks[0], blocks[1], alpha, losses[0], losses[1], training_weight=training_weight, coupling=coupling
            )
            with torch.no_grad():
                for tensor in tensors:
                    tensor.copy_(soft_threshold(tensor, rate * penalty))
    halves[0].write_into_(result, tensors)
    return result


class _Half:
    """One set of weights with its own running statistics; scales come from outside."""

    def __init__(self, model: nn.Module, scales: set[str], loss: Callable) -> None:
        self.model, self.loss = model, loss
        self.scales = sorted(scales)
        named = {name: tensor for name, tensor in model.named_parameters() if name not in scales}
        self.names = list(named)
        self.tensors: Tensors = tuple(tensor.detach().clone().requires_grad_() for tensor in named.values())
        self.buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def on(self, batch: Any, name: str) -> Loss:
        inputs, targets = checks.pair(batch)

        def value(weights: Tensors, alpha: Tensors) -> Tensor:
            given = dict(zip(self.names + self.scales, (*weights, *alpha), strict=True))
            with failures.explained([inputs, targets], name):
                return self.loss(functional_call(self.model, {**given, **self.buffers}, (inputs,)), targets)

        return value

    def write_into_(self, model: nn.Module, alpha: Tensors) -> None:
        found = dict(zip(self.names + self.scales, (*self.tensors, *alpha), strict=True))
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                tensor.copy_(found[name])
            for name, buffer in model.named_buffers():
                buffer.copy_(self.buffers[name])
