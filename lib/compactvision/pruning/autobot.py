"""AutoBot: gates that a frozen network learns to close until it meets a budget (Castells and Yeom 2021).

Each channel that may go is multiplied by a gate in (0, 1), the sigmoid of a free number. Nothing else is trained. The
loss asks for three things at once: answers as good as before, so many operations, and gates at 0 or 1::

    graph = surgery.channel_graph(model, (3, 32, 32), residual="scatter")
    flops = budget.count(model, graph, (3, 32, 32))
    learnt = autobot.learn(model, graph, batches, flops, target=0.5 * flops.whole)
    plan = budget.cut(graph, learnt.gates, flops, target=0.5 * flops.whole)
    small = surgery.prune(model, plan)

Which layers are gated, and which share a gate, is what the graph's groups say. A tensor of gates has one entry for each
unit of the graph, 1 where no group is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import measure, surgery
from compactvision.pruning.autobot_budget import Flops, budget_loss, check_gates, check_target, ungated

START = 0.9
"""Every gate before training."""

FOLLOWING = ("norm", "depthwise")  # layers that pass each channel on by itself

Gate = Callable[[Tensor, Tensor], Tensor]
"""From activations (B, C, ...) and gates (C,) to gated activations."""


def multiply(x: Tensor, gates: Tensor) -> Tensor:
    """Return each channel times its gate, ``gates[c] * x[:, c]``, the gate of :cite:`castells2021autobot`.

    Parameters
    ----------
    x : Tensor
        Activations (B, C) or (B, C, H, W).
    gates : Tensor
        (C,).
    """
    return x * gates.to(x).view(1, -1, *[1] * (x.ndim - 2))


@contextmanager
def gated(
    model: nn.Module,
    graph: surgery.ChannelGraph,
    gates: Tensor,
    *,
    gate: Gate = multiply,
    behind: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[nn.Module]:
    """Multiply channels by their gates inside a ``with`` block, where a gate of 0 is the same as removing the channel.

    A unit is gated in front of every layer that reads it, hence behind BatchNorm and ReLU; a branch that writes into
    part of a stream (``residual="scatter"``) behind its BatchNorm, before the sum. Pooling lets gates through, so for
    chains, inner widths, concatenations and branches this is where the paper has them. The shared gate of a *grouped*
    stream sits in the paper behind the last ReLU of each block, which multiplies the stream once a block; ask for that
    with ``behind``. For gates of 0 and 1 both are the same.

    Parameters
    ----------
    model : nn.Module
        Not touched beyond hooks, which are removed on exit.
    graph : ChannelGraph
        Of this model.
    gates : Tensor
        (units,), in [0, 1], which is not checked.
    gate : callable, default :func:`multiply`
        What a gate does.
    behind : mapping of str to sequence of str, optional
        For a group: paths of modules whose output carries its channels, gated there and not at the readers.

    Raises
    ------
    ValueError
        If ``gates`` has another shape or holds NaN, a group or path is unknown, or a module's output has another number
        of channels than the group.
    """
    check_gates(graph, gates)
    modules, behind = dict(model.named_modules()), behind or {}
    silent = ungated(graph)  # units that no reader has to gate
    open_, at_readers = silent.clone(), gates
    with ExitStack() as stack:
        for name, paths in behind.items():
            units = graph.group_of(name).units
            silent[units] = True
            at_readers = at_readers.index_fill(0, units.to(gates.device), 1.0)
            for path in paths:
                if path not in modules:
                    raise ValueError(f"behind[{name!r}]: the model has no module {path!r}")
                stack.callback(modules[path].register_forward_hook(_on_output(units, gates, gate)).remove)
        for layer in graph.layers.values():
            module = modules[layer.path]
            if layer.kind not in FOLLOWING and not silent[layer.reads].all():
                stack.callback(module.register_forward_pre_hook(_on_input(layer.reads, at_readers, gate)).remove)
            if layer.insert == "scatter" and not open_[layer.writes].all():
                stack.callback(module.register_forward_hook(_on_output(layer.writes, gates, gate)).remove)
        yield model


def binary_loss(gates: Sequence[Tensor]) -> Tensor:
    """Return how far gates are from 0 and 1: the mean over layers of each layer's mean distance, in [0, 0.5].

    Implements the third term of the loss of :cite:`castells2021autobot`; rounding counts as a constant.

    Parameters
    ----------
    gates : sequence of Tensor
        One (C,) for each group.

    Raises
    ------
    ValueError
        If there is no group.
    """
    if not gates:
        raise ValueError("gates must hold at least one group, got none")
    return torch.stack([(each - each.detach().round()).abs().mean() for each in gates]).mean()


@dataclass(frozen=True, eq=False)
class Learnt:
    """What :func:`learn` found.

    Attributes
    ----------
    gates : Tensor
        (units,), on the CPU.
    step : int
        The iteration that they are from; the number of iterations where none qualified and the last ones were taken.
    history : list of dict
        For each iteration "loss", its terms "task", "budget" and "binary" without their weights, and "flops".
    """

    gates: Tensor
    step: int
    history: list[dict[str, float]]


def learn(
    model: nn.Module,
    graph: surgery.ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    flops: Flops,
    target: float,
    *,
    steps: int = 200,
    rate: float = 0.6,
    beta: float = 6.0,
    gamma: float = 0.4,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    gate: Gate = multiply,
    behind: Mapping[str, Sequence[str]] | None = None,
    watch: Callable[[int, Tensor], None] | None = None,
) -> Learnt:
    """Learn the gates of a frozen network in evaluation mode, by Adam on their logits.

    Minimised is ``loss + beta * budget_loss + gamma * binary_loss``. Kept are the gates with the lowest loss of their
    batch among iterations whose index is above ``0.6 * steps``. Implements the training of :cite:`castells2021autobot`.

    Parameters
    ----------
    model : nn.Module
        Weights, statistics, gradients and training flags stay as they are.
    graph : ChannelGraph
        Its groups are gated.
    batches : iterable of (Tensor, Tensor)
        Inputs and targets on the model's device; read anew, as the next epoch, where they run out. A generator, which
        can be read once, must give ``steps`` batches.
    flops : Flops
        From :func:`compactvision.pruning.autobot_budget.count`.
    target : float
        Budget, in the unit of ``flops``, between 0 and ``flops.whole``.
    steps : int, default 200
        Iterations.
    rate : float, default 0.6
        Learning rate of the logits; that large is meant.
    beta, gamma : float, default 6 and 0.4
        Weights of the two terms; 0.4 for a term in [0, 0.5] is the 0.2 of the paper's logs for one in [0, 1].
    loss : callable, default cross-entropy
        Mean loss of a batch from (outputs, targets).
    gate, behind
        As for :func:`gated`.
    watch : callable, optional
        Called in each iteration with its index and the gates (units,) that it uses.

    Raises
    ------
    ValueError
        If a number is out of its range, the graph has no group, there is no batch, or the loss is not finite.
    """
    _check_training(graph, steps, rate, beta, gamma)
    whole, device = flops.whole, next(model.parameters()).device
    check_target(target, whole)
    flops, sizes = flops.to(device), [group.size for group in graph.groups.values()]
    index = torch.cat([group.units for group in graph.groups.values()]).to(device)
    logits = torch.full((sum(sizes),), math.log(START / (1 - START)), device=device, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=rate)

    def spread() -> tuple[Tensor, Tensor]:
        values = torch.sigmoid(logits)
        return values, torch.ones(graph.units, device=device).index_copy(0, index, values)

    history, best = [], (math.inf, steps, None)
    stream = _endless(batches)
    with measure.evaluating(model), torch.enable_grad():
        for step in range(steps):
            inputs, targets = next(stream)
            values, gates = spread()
            with gated(model, graph, gates, gate=gate, behind=behind):
                task = loss(model(inputs), targets)
            operations = flops(gates)
            budget, binary = budget_loss(operations, target, whole), binary_loss(values.split(sizes))
            total = task + beta * budget + gamma * binary
            terms = {"loss": total, "task": task, "budget": budget, "binary": binary, "flops": operations}
            history.append({name: float(term.detach()) for name, term in terms.items()})
            if not math.isfinite(history[-1]["loss"]):
                raise ValueError(f"loss is {history[-1]['loss']} in iteration {step}")
            if watch is not None:
                watch(step, gates.detach())
            if step > 0.6 * steps and history[-1]["loss"] < best[0]:
                best = history[-1]["loss"], step, gates.detach().cpu()
            (logits.grad,) = torch.autograd.grad(total, logits)
            adam.step()
    _, step, gates = best
    return Learnt(spread()[1].detach().cpu() if gates is None else gates, step, history)


def _check_training(graph: surgery.ChannelGraph, steps: int, rate: float, beta: float, gamma: float) -> None:
    if not graph.groups:
        raise ValueError("graph: it has no group, so there is nothing to gate")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    for name, value in (("rate", rate), ("beta", beta), ("gamma", gamma)):
        if not 0 <= value < math.inf or (name == "rate" and value == 0):
            raise ValueError(f"{name} must be finite and {'> 0' if name == 'rate' else '>= 0'}, got {value}")


def _on_input(units: Tensor, gates: Tensor, gate: Gate) -> Callable:
    chosen = gates[units.to(gates.device)]
    return lambda module, args: (gate(args[0], chosen), *args[1:])


def _on_output(units: Tensor, gates: Tensor, gate: Gate) -> Callable:
    chosen = gates[units.to(gates.device)]

    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        if output.shape[1] != len(chosen):
            raise ValueError(f"behind: a module gives {output.shape[1]} channels, its group has {len(chosen)}")
        return gate(output, chosen)

    return hook


def _endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(epoch)
        found = False
        for batch in batches:
            found = True
            yield batch
        if not found:
            raise ValueError(f"batches gave nothing in epoch {epoch}")
        epoch += 1
