"""``compress``: from a trained network and a budget to a smaller one and an honest table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from compactvision import _checks as checks
from compactvision import measure
from compactvision.measure.state import placement
from compactvision.shrinking import arguments, timing
from compactvision.shrinking.beside import Beside
from compactvision.shrinking.choice import Choice, choose, restored
from compactvision.shrinking.clock import Clock
from compactvision.shrinking.cutting import Budget
from compactvision.shrinking.journal import Journal
from compactvision.shrinking.report import Report
from compactvision.shrinking.session import Session
from compactvision.surgery import ChannelGraph, Importance, channel_graph, prune
from compactvision.training.description import data, plain
from compactvision.training.digests import digest

STAGES = {
    "whole": "whole network",
    "cut": "right after the cut",
    "reconstructed": "reconstructed by least squares",
    "renewed": "BatchNorm renewed",
    "tuned": "tuned: the small network",
}


def compress(
    model: nn.Module,
    train_batches: Iterable,
    test_batches: Iterable,
    *,
    keep_macs: float | None = None,
    latency_ms: float | None = None,
    importance: str | Importance | None = None,
    metric: Callable[[nn.Module, Iterable], float] = measure.accuracy,
    loss: Callable = F.cross_entropy,
    minutes: float | None = None,
    epochs: float | None = None,
    learning_rate: float = 0.02,
    frozen_batch_norm: bool = False,
    rivals: Sequence[str] = arguments.RIVALS,
    select: Callable[[ChannelGraph], ChannelGraph] | None = None,
    journal: str | os.PathLike | None = None,
    seed: int = 0,
    plan_only: bool = False,
    progress: bool = False,
    say: Callable[[str], object] | None = None,
) -> tuple[nn.Module, Report]:
    """Return a smaller copy of a network, and a report that says at each stage what it cost, beside its rivals.

    Two plans are made for the budget, one that thins all groups of coupled channels at one rate and one by a scan of
    how much each group matters; the one with the lower loss on images of the training data is carried out. Layer-wise
    least squares and renewed BatchNorm statistics follow, each kept only if that loss falls by it; then tuning with
    Nesterov's SGD over one cycle of learning rates. The test batches decide nothing: they are only measured on.

    Parameters
    ----------
    model : nn.Module
        Trained; left as it was. Its device is used.
    train_batches, test_batches : iterable of (inputs, targets)
        Readable more than once: a DataLoader, a list, ``image_set.batches(...)``. Inputs are tensors (B, ...).
    keep_macs : float, optional
        Largest share of the MACs that may be left, in (0, 1].
    latency_ms : float, optional
        Milliseconds that one picture may take on the model's device, BatchNorm folded. One of the two is needed.
    importance : str or callable, optional
        A name in ``shrinking.CRITERIA`` or a :data:`compactvision.surgery.Importance`; by default "taylor", first-order
        Taylor scores from training images. "Which criterion should I take?": after a mild cut and tuning they end close
        together; the chapter *Your own network, smaller by this evening* compares them.
    metric : callable (model, test_batches) -> float, default accuracy
        Higher is better. What a segmenter or detector is judged by goes here.
    loss : callable (outputs, targets) -> scalar Tensor, default cross-entropy
        What tuning minimises, and what chooses between plans on training images (in evaluation mode).
    minutes : float, optional
        Time for everything. What chooses and mends looks at fewer images (at least 16) or is left out, tuning gets the
        steps that all networks can take and stops where the time ends, and what would come later is named as skipped in
        the table. Always made, however short the time: the graph, one plan and its cut, one look at the test batches
        before and one behind it, and the timing of both networks. The end is overrun by no more than the one of these
        that is under way, or a pass over the test batches, and by a fiftieth to time the rivals; finding a plan for
        ``latency_ms`` takes its own time.
    epochs : float, optional
        Passes over the training batches in tuning; by default 3, with ``minutes`` as many as there is time for, at most
        20.
    learning_rate : float, default 0.02
        Peak of the cycle.
    frozen_batch_norm : bool, default False
        Tune with BatchNorm's statistics as they are in place of each batch's, and leave them so: for small batches, and
        for pictures unlike those that the network was trained on. The report says where renewing them did harm.
    rivals : sequence of str
        Some of "random" (random channels, all groups at one rate, the same stages), "whole_tuned" (the whole network
        with the same tuning), "resolution" (the whole network on smaller pictures, chosen by MACs; also tuned) and
        "bf16". Empty gives all the time to the small network.
    select : callable, optional
        Restricts the graph, for instance ``lambda graph: graph.only(kinds="inner")``.
    journal : path, optional
        Folder in which finished stages and checkpoints are kept: called again with the same arguments, a run that was
        killed or stopped by the time goes on.
    seed : int, default 0
        Of random channels and of tuning.
    plan_only : bool, default False
        End behind the cut and what mends it: nothing is tuned, no rival is measured, and only these networks are timed.
    progress : bool, default False
        Whether tuning shows a bar.
    say : callable, optional
        Called with a line behind each stage.

    Returns
    -------
    (nn.Module, Report)
        The small network in evaluation mode, and the table.

    Raises
    ------
    ValueError
        If an argument is wrong, batches do not suit model, loss or metric, the network cannot be followed, the budget
        is out of reach (it says how near one can come), or the journal is that of another run.

    Examples
    --------
    >>> from compactvision import compress, data, models
    >>> train, test = data.load("glyphs", train=True, n=128), data.load("glyphs", train=False, n=64)
    >>> batches = train.batches(32, shuffle=True), test.batches(64)
    >>> small, report = compress(models.pretrained("resnet20_glyphs"), *batches, keep_macs=0.7, epochs=1, rivals=())
    >>> report.budget["met"], report["tuned"].macs < 0.71 * report["whole"].macs
    (True, True)
    """
    name, value = arguments.budget(keep_macs, latency_ms)
    rivals = tuple(rivals) if isinstance(rivals, Iterable) and not isinstance(rivals, str) else rivals
    given = {"metric": metric, "loss": loss, "minutes": minutes, "epochs": epochs, "learning_rate": learning_rate}
    given |= {"rivals": rivals, "select": select, "seed": seed, "say": say}
    arguments.check(model, train_batches, test_batches, **given)
    checks.flags(frozen_batch_norm=frozen_batch_norm, plan_only=plan_only, progress=progress)
    folder = arguments.folder(journal)
    run = {"budget": [name, value], "metric": plain(metric), "loss": plain(loss), "epochs": epochs}
    run |= {"learning_rate": learning_rate, "frozen_batch_norm": frozen_batch_norm, "seed": seed}
    run |= {"importance": plain(importance), "select": plain(select)}
    clock = Clock(minutes)
    session = Session(
        model, train_batches, test_batches, metric, loss, clock, epochs, learning_rate, seed, say or _quiet, progress
    )
    session.frozen_batch_norm = frozen_batch_norm
    session.journal = Journal(folder, run | _identity(session) if folder is not None else run)
    session.shorten()
    work = _Work(session, name, value, importance, select)
    work.begin()
    choice = work.choose()
    if plan_only:
        return work.start, work.report(choice, timing.timed(session, work.start, None))
    small, beside = work.finish(choice, rivals)
    return small, work.report(choice, timing.timed(session, small, beside))


def _quiet(text: str) -> None:
    """Say nothing."""


def _identity(session: Session) -> dict[str, Any]:
    return {
        "weights": digest(dict(session.model.state_dict())),
        "train_batches": data(session.train),
        "test_batches": data(session.test),
        "device": str(placement(session.model)[0]),
    }


@dataclass
class _Work:
    """The stages of the small network, in their order."""

    session: Session
    budget_name: str
    budget_value: float
    asked: str | Importance | None
    select: Callable[[ChannelGraph], ChannelGraph] | None

    def begin(self) -> None:
        """Measure the whole network and find what can be cut."""
        session = self.session
        graph = channel_graph(session.model, session.example)
        self.graph = graph if self.select is None else self.select(graph)
        if not isinstance(self.graph, ChannelGraph) or not self.graph.groups:
            reasons = ", ".join(f"{layer} ({why})" for layer, why in list(graph.fixed.items())[:3])
            raise ValueError(f"model has nothing that can be cut: {reasons or 'no layer with channels'}")
        device = placement(session.model)[0]
        self.importance = arguments.importance_of(self.asked, session.fit, session.loss, session.seed, device)
        held = session.journal.read("whole")
        if held is None:
            began = time.monotonic()
            held = {"metric": session.value(session.model), "loss": session.loss_of(session.model)}
            held["seconds"] = time.monotonic() - began
            session.journal.keep("whole", held)
        session.seconds["test"] = held.pop("seconds")
        session.put("whole", STAGES["whole"], **held, **session.counted(session.model))

    def choose(self) -> Choice:
        """Return the plan that is carried out, and measure the network at each stage before tuning."""
        session, budget = self.session, Budget(self.graph, self.budget_name, self.budget_value, self.session.example)
        self.budget = budget
        held = session.journal.read("choice")
        if held is not None:
            choice = restored(self.graph, held)
            self.start = session.journal.fill_("choice", prune(session.model, choice.plan))
            for stage, row in held["rows"].items():
                session.put(stage, STAGES[stage], **row)
            return choice
        choice = choose(session, budget, self.importance[1])
        self.start = choice.stages[-1].network
        rows: dict[str, dict] = {}
        counted = session.counted(self.start)
        changed = [stage.name for stage in choice.stages if stage.name == "cut" or stage.remark.startswith("kept")]
        for stage in choice.stages:
            late = stage.name != changed[-1] and session.clock.left() <= 2 * session.seconds["test"]
            said = [choice.scan if stage.name == "cut" else "", stage.remark]
            said.append("not measured: no time" if late and stage.name in changed else "")
            metric = session.value(stage.network) if stage.name in changed and not late else None
            remark = "; ".join(filter(None, said))
            rows[stage.name] = {"metric": metric, "loss": stage.loss, "remark": remark, **counted}
            session.put(stage.name, STAGES[stage.name], **rows[stage.name])
        session.journal.keep("choice", {**choice.stored(), "rows": rows}, self.start)
        return choice

    def finish(self, choice: Choice, rivals: Sequence[str]) -> tuple[nn.Module, Beside]:
        """Tune the small network, then measure the rivals."""
        session = self.session
        beside = Beside(session, choice, rivals)
        once = session.seconds["test"]
        session.steps = self._steps(beside)
        last = timing.seconds(session, beside) if session.clock.bounded else 0.0
        small = self._tuned(last + once)
        beside.measure(last)
        return small, beside

    def _steps(self, beside: Beside) -> int:
        """Return the steps of each tuning, so many that all end in time; rivals that leave no pass over are dropped."""
        session = self.session
        held = session.journal.read("steps")
        if held is not None:
            return int(held["steps"])
        steps, least = session.wanted_steps()
        if session.clock.bounded:
            own = session.step_seconds(self.start)
            last = session.seconds["test"] + timing.seconds(session, beside)
            while True:
                reserve = last + beside.evaluation_seconds()
                each = own + beside.step_seconds(self.start)
                fitting = max(0, int(0.85 * (session.clock.left() - reserve) / each))
                if fitting >= least or not beside.drop_last():
                    break
            steps = min(steps, fitting)
        if steps:
            session.journal.keep("steps", {"steps": steps})
        return steps

    def _tuned(self, reserve: float) -> nn.Module:
        session, small = self.session, self.start
        held = session.journal.read("tuned")
        if held is not None:
            session.put("tuned", STAGES["tuned"], **held)
            return session.journal.fill_("tuned", small)
        if session.steps == 0 or session.clock.left() <= reserve:
            session.put("tuned", STAGES["tuned"], remark="skipped: no time for a step", **session.counted(small))
            return small
        small, remark = session.tune(small, "tuned", reserve)
        measured = {"metric": session.value(small), "loss": session.loss_of(small), "remark": remark}
        row = session.put("tuned", STAGES["tuned"], **measured, **session.counted(small))
        if "stopped by the time" not in remark:
            session.journal.keep("tuned", {**measured, "parameters": row.parameters, "macs": row.macs}, small)
            session.journal.forget_checkpoint("tuned")
        return small

    def report(self, choice: Choice, runs: int) -> Report:
        """Return the table."""
        session, said = self.session, self.budget
        whole = self.graph.macs if said.name == "keep_macs" else said.whole_ms
        return Report(
            rows=tuple(session.rows.values()),
            metric="accuracy" if session.metric is measure.accuracy else plain_name(session.metric),
            images=_images(session) if session.metric is measure.accuracy else None,
            budget={
                "name": said.name,
                "asked": said.value,
                "reached": choice.reached,
                "met": said.met(choice.reached),
                "whole": whole,
            },
            plan={
                "widths": {name: [choice.plan.widths[name], group.size] for name, group in self.graph.groups.items()},
                "by": choice.by,
                "importance": self.importance[0],
                "kept_whole": dict(self.graph.fixed),
                "losses": choice.losses,
            },
            sensitivity={name: list(curve) for name, curve in choice.curves.items()},
            steps=session.steps,
            conditions={
                "device": str(session.example.device),
                "threads": torch.get_num_threads(),
                "runs": runs,
                "seconds": time.monotonic() - session.clock.began,
                "minutes": session.clock.seconds / 60 if session.clock.bounded else None,
                "torch": torch.__version__,
                "seed": session.seed,
            },
        )


def plain_name(function: Callable) -> str:
    """Return a function's name for the head of a column."""
    return getattr(function, "__name__", type(function).__name__).strip("<>")


def _images(session: Session) -> int:
    return sum(int(targets.numel()) for _, targets in session.test)
