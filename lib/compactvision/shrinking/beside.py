"""The rivals: random channels, the whole network tuned alike, lower resolution, sixteen bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from compactvision.shrinking.choice import Choice
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
        self._prepare()

    def _prepare(self) -> None:
        """Build the networks whose structure decides the time."""
        session = self.session
        if "resolution" in self.asked:
            try:
                size = resolution_within(session.model, session.example, self.choice.plan.macs)
                self.networks["resolution"] = AtResolution(copy.deepcopy(session.model), size).eval()
            except (ValueError, RuntimeError, TypeError) as error:
                self.refused["resolution"] = str(error)
        if "bf16" in self.asked:
            self.networks["bf16"] = InFormat(session.model, torch.bfloat16).eval()

    def to_train(self, small: nn.Module) -> list[nn.Module]:
        """Return the networks that are tuned, for an estimate of the time; random channels cost what others do."""
        found = [small] if "random" in self.asked else []
        found += [self.session.model] if "whole_tuned" in self.asked else []
        return found + ([self.networks["resolution"]] if "resolution" in self.networks else [])

    def evaluations(self) -> int:
        """Return how often the test batches will be read."""
        return sum(len(ROWS[name]) for name in self.asked)

    def measure(self, reserve: float) -> None:
        """Fill the table's rows."""
        for name in self.asked:
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
        if reason is None and self.session.clock.left() <= self.session.seconds.get("test", 0.0) + reserve:
            reason = "the time was over"
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
