"""Gates learned on the logits of a frozen network, and the importance that they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import measure, surgery
from compactvision._failures import run
from compactvision.measure.batches import fitting
from compactvision.pruning.autobot.budget import Operations, budget_loss, count_operations
from compactvision.surgery.gating import Gate, check_gates

START = 0.9
"""Every gate before training."""


def binary_loss(gates: Sequence[Tensor]) -> Tensor:
    """Return how far gates are from 0 and 1: the mean over layers of each layer's mean distance, in [0, 0.5].

    The second term of Eq. (3); rounding counts as a constant.

    Parameters
    ----------
    gates : sequence of Tensor
        One (C,) for each group.

    Raises
    ------
    ValueError
        If there is no group, or one is no floating-point tensor or empty.

    Examples
    --------
    >>> import torch
    >>> from compactvision.pruning import autobot
    >>> autobot.binary_loss([torch.tensor([0.25]), torch.tensor([1.0, 0.0, 1.0])])
    tensor(0.1250)
    """
    checks.instances(Sequence, gates=gates)
    checks.floating(**{f"gates[{number}]": each for number, each in enumerate(gates)})
    if not gates or any(each.numel() == 0 for each in gates):
        raise ValueError(f"gates must hold at least one group and none that is empty, got {len(gates)}")
    return torch.stack([(each - each.detach().round()).abs().mean() for each in gates]).mean()


@dataclass(frozen=True, eq=False)
class LearnedGates:
    """Gates of a graph's units; called with the graph's network, an importance in which an open gate means keep.

    Attributes
    ----------
    graph : ChannelGraph
        Whose units they belong to.
    gates : Tensor
        (units,), on the CPU; 1 where no group is.
    step : int
        The iteration that they are from; the number of iterations where none qualified and the last ones were taken.
    history : list of dict
        For each iteration "loss", its terms "task", "budget" and "binary" without their weights, and "operations".

    Raises
    ------
    ValueError
        If ``gates`` has another shape or holds NaN, ``step`` is no whole number or ``history`` no list; when called, if
        the network is another one.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision import surgery
    >>> from compactvision.pruning import autobot
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    >>> graph = surgery.channel_graph(model, (3, 1, 1))
    >>> gates = torch.ones(graph.units).index_copy(0, graph.groups["0"].units, torch.tensor([0.9, 0.2, 0.1, 0.8]))
    >>> learned = autobot.LearnedGates(graph, gates)
    >>> learned(model)["0"]
    tensor([0.9000, 0.2000, 0.1000, 0.8000])
    >>> surgery.make_plan(graph, learned, keep_above=0.5).keep
    {'0': (0, 3)}
    """

    graph: surgery.ChannelGraph
    gates: Tensor
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_gates(self.graph, self.gates)
        checks.whole(step=self.step)
        checks.instances(list, history=self.history)
        checks.mappings(**{f"history[{step}]": terms for step, terms in enumerate(self.history)})
        if self.step < 0:
            raise ValueError(f"step must not be negative, got {self.step}")

    def __call__(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the gates of each layer's output channels, (C_out,), as scores for ``surgery.make_plan``."""
        if model is not self.graph.model:
            raise ValueError("model: these gates were learned for another network")
        units = {group.name: group.units for group in self.graph.groups.values()}
        units |= {name: layer.writes for name, layer in self.graph.layers.items()}
        return {name: self.gates[index] for name, index in units.items()}


def learn_gates(
    model: nn.Module,
    graph: surgery.ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    keep_macs: float = 0.5,
    operations: Operations | None = None,
    steps: int = 200,
    learning_rate: float = 0.6,
    beta: float = 6.0,
    gamma: float = 0.4,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    gate: Gate = surgery.multiply,
    behind: Mapping[str, Sequence[str]] | None = None,
    watch: Callable[[int, Tensor], None] | None = None,
) -> LearnedGates:
    """Learn the gates of a frozen network in evaluation mode, by Adam on their logits, Eq. (1).

    Minimised is Eq. (4), ``loss + beta * budget_loss + gamma * binary_loss``. Kept are the gates with the lowest loss
    of their batch among iterations whose index is above ``0.6 * steps``. The threshold search of the paper is
    ``surgery.make_plan(graph, learned, keep_macs=..., global_pruning=True)``.

    Parameters
    ----------
    model : nn.Module
        Weights, statistics, gradients and training flags stay as they are.
    graph : ChannelGraph
        Of this model; its groups are gated.
    batches : iterable of (Tensor, Tensor)
        Inputs and labels on the model's device; read anew, as the next epoch, where they run out. A generator, which
        can be read once, must give ``steps`` batches.
    keep_macs : float, default 0.5
        Budget: the share of the operations that stays, in (0, 1).
    operations : Operations, optional
        What is counted, such as ``count_operations(graph, convention="thop")``; by default the graph's MACs.
    steps : int, default 200
        Iterations.
    learning_rate : float, default 0.6
        Of the logits. A logit has to travel 4.4 for its gate to go from 0.9 to 0.1, so it is no misprint.
    beta, gamma : float, default 6 and 0.4
        Weights of the two terms; 0.4 for a term in [0, 0.5] is the 0.2 of the paper's logs for one in [0, 1].
    loss : callable, default cross-entropy
        Mean loss of a batch from (outputs, labels).
    gate, behind
        As for :func:`compactvision.surgery.gated`. The shared gate of a *grouped* stream sits in the paper behind the
        last ReLU of each block, which is what ``behind`` can ask for.
    watch : callable, optional
        Called in each iteration with its index and the gates (units,) that it uses.

    Returns
    -------
    LearnedGates
        An importance.

    Raises
    ------
    ValueError
        If an argument is of another kind, a number out of its range, the graph another model's or without a group,
        there is no batch, or the loss gives no finite number.

    Examples
    --------
    >>> from compactvision import data, models, surgery
    >>> from compactvision.pruning import autobot
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32), residual="scatter")
    >>> batches = data.load("glyphs", n=64).batches(16, shuffle=True)
    >>> learned = autobot.learn_gates(model, graph, batches, keep_macs=0.5, steps=4)
    >>> plan = surgery.make_plan(graph, learned, keep_macs=0.5, global_pruning=True)
    >>> 0.4 < plan.macs / graph.macs <= 0.5
    True
    """
    _check_training(model, graph, steps, keep_macs, learning_rate, beta, gamma)
    _check_parts(batches, operations, loss, gate, watch)
    device = next(model.parameters()).device
    operations = (count_operations(graph) if operations is None else operations).to(device)
    whole, sizes = operations.whole, [group.size for group in graph.groups.values()]
    target = keep_macs * whole
    index = torch.cat([group.units for group in graph.groups.values()]).to(device)
    logits = torch.full((sum(sizes),), math.log(START / (1 - START)), device=device, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=learning_rate)

    def current() -> tuple[Tensor, Tensor]:
        values = torch.sigmoid(logits)
        return values, torch.ones(graph.units, device=device).index_copy(0, index, values)

    history, best = [], (math.inf, steps, None)
    stream = _endless(batches)
    with measure.evaluating(model), torch.enable_grad():
        for step in range(steps):
            inputs, labels = next(stream)
            values, gates = current()
            with surgery.gated(model, graph, gates, gate=gate, behind=behind):
                task = _task(loss, run(model, inputs, name="batches"), labels)
            count = operations(gates)
            budget, binary = budget_loss(count, target, whole), binary_loss(values.split(sizes))
            total = task + beta * budget + gamma * binary
            terms = {"loss": total, "task": task, "budget": budget, "binary": binary, "operations": count}
            history.append({name: float(term.detach()) for name, term in terms.items()})
            if not math.isfinite(history[-1]["loss"]):
                raise ValueError(f"loss is {history[-1]['loss']} in iteration {step}")
            if watch is not None:
                watch(step, gates.detach())
            if step > 0.6 * steps and history[-1]["loss"] < best[0]:
                best = history[-1]["loss"], step, gates.detach()
            (logits.grad,) = torch.autograd.grad(total, logits)
            adam.step()
    _, step, gates = best
    return LearnedGates(graph, (current()[1].detach() if gates is None else gates).cpu(), step, history)


def _check_training(
    model: nn.Module,
    graph: surgery.ChannelGraph,
    steps: int,
    keep_macs: float,
    learning_rate: float,
    beta: float,
    gamma: float,
) -> None:
    checks.networks(model=model)
    checks.instances(surgery.ChannelGraph, graph=graph)
    checks.counts(steps=steps)
    checks.numbers(keep_macs=keep_macs, learning_rate=learning_rate, beta=beta, gamma=gamma)
    if model is not graph.model:
        raise ValueError("graph: it is that of another model")
    if not graph.groups:
        raise ValueError("graph: it has no group, so there is nothing to gate")
    if not 0 < keep_macs < 1:
        raise ValueError(f"keep_macs must be in (0, 1), the share that stays, got {keep_macs}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be finite and > 0, got {learning_rate}")
    for name, value in (("beta", beta), ("gamma", gamma)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and >= 0, got {value}")


def _check_parts(batches: Iterable, operations: object, loss: object, gate: object, watch: object) -> None:
    checks.batches(batches=batches)
    checks.instances((Operations, type(None)), operations=operations)
    checks.functions(2, networks=True, loss=loss, gate=gate)
    checks.functions(2, optional=True, watch=watch)


def _task(loss: Callable, outputs: object, labels: Tensor) -> Tensor:
    if loss is F.cross_entropy:
        fitting(outputs, labels)
    task = loss(outputs, labels)
    if not isinstance(task, Tensor) or task.numel() != 1:
        raise ValueError(f"loss must give a tensor with one number, got {checks.shown(task)}")
    return task


def _endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(epoch)
        found = False
        for batch in batches:
            found = True
            yield checks.pair(batch)
        if not found:
            raise ValueError(f"batches gave nothing in epoch {epoch}")
        epoch += 1
