"""The rivals: random channels, the whole network tuned alike, lower resolution, sixteen bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from compactvision import measure
from compactvision.shrinking.arguments import RIVALS
from compactvision.shrinking.choice import Choice
from compactvision.shrinking.clock import seconds_of
from compactvision.shrinking.cutting import drawn_alike
from compactvision.shrinking.rivals import AtResolution, InFormat, resolution_within
from compactvision.shrinking.session import Session
from compactvision.shrinking.stages import mended

TITLES = {
    "random": "random channels, before tuning",
    "random_tuned": "random channels, tuned alike",
    "whole_tuned": "whole network, tuned alike",
    "resolution": "whole network at lower resolution",
    "resolution_tuned": "lower resolution, tuned alike",
    "bf16": "whole network in bf16",
}
ROWS = {
    "random": ("random", "random_tuned"),
    "whole_tuned": ("whole_tuned",),
    "resolution": ("resolution", "resolution_tuned"),
    "bf16": ("bf16",),
}


class Beside:
    """Measures the rivals that were asked for, each while there is time, and keeps their networks for timing."""

    def __init__(self, session: Session, choice: Choice, asked: Sequence[str]) -> None:
        self.session, self.choice, self.asked = session, choice, tuple(asked)
        self.networks: dict[str, nn.Module] = {}
        self.refused: dict[str, str] = {}
        self.dropped: dict[str, nn.Module | None] = {}  # refused for want of time alone
        self.seconds: dict[str, float] = {}
        self._prepare()

    def _prepare(self) -> None:
        """Build the networks whose structure decides the time."""
        session = self.session
        if "resolution" in self.asked:
            try:
                size = resolution_within(session.model, session.example, self.choice.plan.macs)
                self.networks["resolution"] = AtResolution(copy.deepcopy(session.model), size, session.example).eval()
            except (ValueError, RuntimeError, TypeError) as error:
                self.refused["resolution"] = str(error)
        if "bf16" in self.asked:
            self.networks["bf16"] = InFormat(session.model, torch.bfloat16).eval()

    def drop_last(self) -> bool:
        """Leave the least telling rival out for want of time, if there is one left."""
        left = self._asked_for()
        if left:
            self.refused[left[-1]] = "its time went into the small network"
            self.dropped[left[-1]] = self.networks.pop(left[-1], None)
        return bool(left)

    def _take_back(self, name: str, reserve: float) -> None:
        """Take a rival back that was dropped, where what came before it took less time than it was expected to."""
        if name not in self.dropped or not self.session.steps:
            return
        reason, network = self.refused.pop(name), self.dropped.pop(name)
        if network is not None:
            self.networks[name] = network
        self.seconds.pop(name, None)  # timed anew: the machine may be less busy now
        tuning = self.session.steps * self._step_seconds(name, self.choice.stages[-1].network)
        if self.session.clock.left() <= reserve + 1.2 * (tuning + self._evaluation_seconds(name)):
            self.refused[name] = reason
            self.networks.pop(name, None)

    def _asked_for(self) -> list[str]:
        return [name for name in RIVALS if name in self.asked and name not in self.refused]

    def step_seconds(self, small: nn.Module) -> float:
        """Return the time of one step of all rivals that are tuned; random channels cost what the small one does."""
        return sum(self._step_seconds(name, small) for name in self._asked_for())

    def _step_seconds(self, name: str, small: nn.Module) -> float:
        trained = {"random": small, "whole_tuned": self.session.model, "resolution": self.networks.get("resolution")}
        if name not in self.seconds:
            network = trained.get(name)
            self.seconds[name] = 0.0 if network is None else self.session.step_seconds(network)
        return self.seconds[name]

    def evaluation_seconds(self) -> float:
        """Return the time of all readings of the test batches."""
        return sum(self._evaluation_seconds(name) for name in self._asked_for())

    def _evaluation_seconds(self, name: str) -> float:
        return len(ROWS[name]) * self.session.seconds["test"] * (self._slowness() if name == "bf16" else 1.0)

    def _slowness(self) -> float:
        """Return how many times as long the network takes in sixteen bits, which some processors cannot do at speed."""
        if "slowness" not in self.seconds:
            inputs = self.session.fit[0][0][:2].to(self.session.example.device)
            with measure.evaluating(self.session.model), torch.no_grad():
                times = [
                    seconds_of(lambda network=network: network(inputs), 1)
                    for network in (self.networks["bf16"], self.session.model)
                ]
            self.seconds["slowness"] = times[0] / times[1]
        return self.seconds["slowness"]

    def measure(self, reserve: float) -> None:
        """Fill the table's rows."""
        for name in [name for name in RIVALS if name in self.asked]:
            self._take_back(name, reserve)
            for stage in ROWS[name]:
                if not self._from_journal(stage) and not self._refuse(name, stage, reserve):
                    try:
                        getattr(self, f"_{stage}")(reserve)
                    except (ValueError, RuntimeError, TypeError) as error:
                        self.networks.pop(name, None)
                        self.session.skip(stage, TITLES[stage], str(error).splitlines()[0])
                    else:
                        self._keep(stage)

    def _from_journal(self, stage: str) -> bool:
        held = self.session.journal.read(f"row_{stage}")
        if held is None:
            return False
        self.session.put(stage, TITLES[stage], **held)
        return True

    def _keep(self, stage: str) -> None:
        row = self.session.rows[stage]
        if row.metric is None or "stopped by the time" in row.remark:
            return
        held = {"metric": row.metric, "loss": row.loss, "parameters": row.parameters, "macs": row.macs}
        self.session.journal.keep(f"row_{stage}", {**held, "remark": row.remark})
        self.session.journal.forget_checkpoint(stage)

    def _refuse(self, name: str, stage: str, reserve: float) -> bool:
        reason = self.refused.get(name)
        if reason is None and self.session.clock.bounded:
            needed = self.session.seconds["test"] * (self._slowness() if name == "bf16" else 1.0)
            needed += self.session.seconds.get("mended", 0.0) if stage == "random" else 0.0
            reason = "the time was over" if self.session.clock.left() <= needed + reserve else None
        if reason is None and stage == "resolution_tuned" and self.session.rows["resolution"].metric is None:
            reason = "as before tuning"
        if reason is not None:
            self.session.skip(stage, TITLES[stage], reason)
        return reason is not None

    def _random(self, reserve: float) -> None:
        plan = drawn_alike(self.choice.by_rate, torch.Generator().manual_seed(self.session.seed))
        stages = mended(self.session, plan)
        self.drawn = stages[-1].network
        kept = [stage.name for stage in stages[1:] if stage.remark.startswith("kept")]
        remark = f"all groups at one rate; {' and '.join(kept) or 'nothing more'}"
        self._measured("random", self.drawn, remark)

    def _random_tuned(self, reserve: float) -> None:
        if not hasattr(self, "drawn"):  # its row came from the journal
            plan = drawn_alike(self.choice.by_rate, torch.Generator().manual_seed(self.session.seed))
            self.drawn = mended(self.session, plan)[-1].network
        self._tuned("random_tuned", self.drawn, reserve)

    def _whole_tuned(self, reserve: float) -> None:
        self._tuned("whole_tuned", copy.deepcopy(self.session.model), reserve)

    def _resolution(self, reserve: float) -> None:
        network = self.networks["resolution"]
        self._measured("resolution", network, f"{network.size[0]} x {network.size[1]} pixels")

    def _resolution_tuned(self, reserve: float) -> None:
        network = copy.deepcopy(self.networks["resolution"])
        self._tuned("resolution_tuned", network, reserve)

    def _bf16(self, reserve: float) -> None:
        self._measured("bf16", self.networks["bf16"], "")

    def _tuned(self, stage: str, network: nn.Module, reserve: float) -> None:
        if self.session.steps == 0:
            self.session.skip(stage, TITLES[stage], "no time for a step")
            return
        network, remark = self.session.tune(network, stage, reserve + self.session.seconds.get("test", 0.0))
        self._measured(stage, network, remark)

    def _measured(self, stage: str, network: nn.Module, remark: str) -> None:
        loss: Callable = self.session.loss_of
        held = {"metric": self.session.value(network), "loss": loss(network), **self.session.counted(network)}
        self.session.put(stage, TITLES[stage], remark=remark, **held)
