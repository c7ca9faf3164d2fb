"""The one table: what the network was, what each stage made of it, and what it stands beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from compactvision import _checks as checks


@dataclass(frozen=True)
class Row:
    """One network, or one stage of it.

    Attributes
    ----------
    stage : str
        "whole", "cut", "reconstructed", "renewed", "tuned"; "random", "random_tuned", "whole_tuned", "resolution",
        "resolution_tuned", "bf16".
    title : str
        What it is, in words.
    metric : float or None
        On the test batches; None where it was not measured.
    loss : float or None
        On images of the training batches that least squares and BatchNorm have not seen; by it stages are chosen.
    parameters, macs : int or None
        Of the network; MACs of one image.
    ms : tuple of float or None
        Milliseconds of one image with BatchNorm folded: median and quartiles of runs in turn with the others.
    remark : str
        What there is to say, such as why it was skipped.
    """

    stage: str
    title: str
    metric: float | None = None
    loss: float | None = None
    parameters: int | None = None
    macs: int | None = None
    ms: tuple[float, float, float] | None = None
    remark: str = ""


@dataclass(frozen=True)
class Report:
    """What :func:`compactvision.compress` measured.

    Attributes
    ----------
    rows : tuple of Row
        The table.
    metric : str
        Name of the metric.
    images : int or None
        Test images, where the metric is the accuracy.
    budget : dict
        "name", "asked", "reached", "met" (within 1 % for MACs and 5 % for milliseconds) and "whole".
    plan : dict
        "widths" (for each group of channels those that stay and those that were), "by" ("rate" or "scan"),
        "importance", "kept_whole" (layers that cannot be cut, with the reason) and "losses" (of the two ways to plan).
    sensitivity : dict
        For each group the losses of the scan; empty where it was skipped.
    steps : int
        Steps of each tuning.
    conditions : dict
        Device, threads, runs, versions, minutes.
    """

    rows: tuple[Row, ...]
    metric: str
    images: int | None
    budget: dict[str, Any]
    plan: dict[str, Any]
    sensitivity: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    conditions: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, stage: str) -> Row:
        """Return the row of a stage; a ``ValueError`` says which there are."""
        for row in self.rows:
            if row.stage == stage:
                return row
        raise ValueError(f"stage must be one of {', '.join(row.stage for row in self.rows)}, got {stage!r}")

    def __str__(self) -> str:
        """Return the table as text, with what follows from it."""
        return self.to_markdown()

    def findings(self) -> list[str]:
        """Return what follows from the table, one sentence each: the budget, and each rival beside the result."""
        from compactvision.shrinking.words import findings

        return findings(self)

    def to_markdown(self) -> str:
        """Return the table, what follows from it, and under which conditions it was measured, as Markdown."""
        from compactvision.shrinking.words import markdown

        return markdown(self)

    def to_json(self) -> str:
        """Return everything as JSON; :meth:`from_json` reads it."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Report:
        """Return the report that :meth:`to_json` has written; a ``ValueError`` says that it is none."""
        checks.texts(text=text)
        try:
            held = json.loads(text)
            rows = tuple(Row(**{**row, "ms": None if row["ms"] is None else tuple(row["ms"])}) for row in held["rows"])
            return Report(**{**held, "rows": rows})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"text is no report: {error}") from error

    def plot(self) -> Any:
        """Return a figure: the metric of every network against its milliseconds, or MACs where those are missing."""
        from compactvision.shrinking.picture import draw

        return draw(self)

    def measured(self, stages: Sequence[str] = ()) -> list[Row]:
        """Return the rows that have a metric, of these stages or of all."""
        if isinstance(stages, (str, bytes)) or not isinstance(stages, Sequence):
            raise ValueError(f"stages must be several names of stages, got {checks.shown(stages)}")
        checks.texts(**{f"stages ({number})": stage for number, stage in enumerate(stages)})
        return [row for row in self.rows if row.metric is not None and (not stages or row.stage in stages)]
