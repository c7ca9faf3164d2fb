"""The record of an experiment in memory; :mod:`compactvision.records.stored` has its form on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from compactvision.records.checks import first_problem
from compactvision.records.provenance import Device

Value = int | float | list[int | float]


@dataclass(frozen=True)
class DataSource:
    """A data set that a run used: name, where it came from in one line, and its digest."""

    name: str
    provenance: str
    digest: str


@dataclass(frozen=True)
class Training:
    """What tells the record of one trained network, an *arm*, from that of a notebook.

    The record's profile is then the kind of the training: "trained" with the paper's network, data and schedule,
    "scaled" where any of them is smaller, "dry" where only the way was tried.

    Attributes
    ----------
    arm : str
        Its name among the arms of the chapter.
    files : list of str
        What the record's ``method`` is the digest of, relative to the package.
    recipe : dict of str to number or str
        How it was trained.
    """

    arm: str
    files: list[str]
    recipe: dict[str, int | float | str]


@dataclass(frozen=True)
class Confirmed:
    """What tells that later code gives a record's values again: one of its seeds was run with it and compared.

    Attributes
    ----------
    commit, created : str
        The code, and when.
    seed : int
    device : Device
        Where; it may be another processor than the record's.
    versions : dict
    depends : dict of str to str
        As of a record, of this run.
    values : str
        Digest of the record's values, so that it cannot be put beside others.
    """

    commit: str
    created: str
    seed: int
    device: Device
    versions: dict[str, str]
    depends: dict[str, str]
    values: str


@dataclass(frozen=True)
class SeedRun:
    """What one seed gave.

    Attributes
    ----------
    seed : int
    seconds : float
        Wall-clock seconds of the notebook's cells.
    peak_memory_mb : float
        Largest resident memory of the process, in MiB.
    peak_gpu_memory_mb : float or None
        Largest memory that torch held on the accelerator, in MiB.
    values : dict
        Logged results by name: a number or a short list of numbers.
    """

    seed: int
    seconds: float
    peak_memory_mb: float
    values: dict[str, Value]
    peak_gpu_memory_mb: float | None = None


@dataclass(frozen=True)
class Record:
    """All seeds of one chapter and profile, with their origin.

    Attributes
    ----------
    slug, profile : str
        A profile of ``PROFILES``, or one of ``KINDS`` for the record of an arm.
    created : str
        Date and time in UTC, ISO 8601.
    commit : str or None
        The commit of the code, None outside a working copy; ``dirty`` tells that files differed from it.
    method : str or None
        Of an arm, and of records from before ``depends`` was noted: digest of the method's files.
    notebook : str or None
        Digest of the text of the notebook's code, where known.
    device : Device
    versions : dict
    data : list of DataSource
    bands : dict
        By name: how far a live seed may lie outside the range of the recorded seeds, absolute.
    runs : list of SeedRun
        One a seed, ordered by seed; all with the same names.
    training : Training or None
        Of an arm.
    depends : dict of str to str or None
        What ran or was read while it was made, each with its digest: see :mod:`compactvision.records.dependencies`.
        None for records from before that was noted.
    confirmed : Confirmed or None
        The latest run that gave its values again.
    credit : str or None
        Who ran it, where it was somebody outside this book.
    """

    slug: str
    profile: str
    created: str
    commit: str | None
    dirty: bool
    method: str | None
    notebook: str | None
    device: Device
    versions: dict[str, str]
    data: list[DataSource]
    runs: list[SeedRun]
    bands: dict[str, float] = field(default_factory=dict)
    training: Training | None = None
    depends: dict[str, str] | None = None
    confirmed: Confirmed | None = None
    credit: str | None = None

    def __post_init__(self) -> None:
        problem = _kind_problem(self) or first_problem(self)
        if problem:
            raise ValueError(f"record {self.slug}/{self.profile}: {problem}")

    def values_digest(self) -> str:
        """Return a SHA-256 digest of the values of all seeds."""
        values = {str(run.seed): run.values for run in self.runs}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def grounds(self) -> list[dict[str, str]]:
        """What the record stands on, where that was noted: of the runs that made it, of the one that confirmed it."""
        found = (self.depends, self.confirmed.depends if self.confirmed else None)
        return [depends for depends in found if depends is not None]

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return [run.seed for run in self.runs]

    @property
    def seconds(self) -> list[float]:
        """Seconds of each seed."""
        return [run.seconds for run in self.runs]

    @property
    def names(self) -> list[str]:
        """Names of the logged values, in the order in which they were logged."""
        return list(self.runs[0].values)

    def values(self, name: str) -> list[Value]:
        """Return the value of each seed; ``KeyError`` where the record has no such name."""
        if not isinstance(name, str) or name not in self.runs[0].values:
            raise KeyError(f"name: the record {self.slug}/{self.profile} has no value {name!r:.80}")
        return [run.values[name] for run in self.runs]

    def mean(self, name: str) -> Any:
        """Return the mean over seeds: a number, or a list where the values are lists."""
        return _over_seeds(self.values(name), fmean)

    def sd(self, name: str) -> Any:
        """Return the standard deviation over seeds (n - 1 in the denominator; 0 for a single seed)."""
        return _over_seeds(self.values(name), lambda column: stdev(column) if len(column) > 1 else 0.0)

    def range(self, name: str) -> tuple[Any, Any]:
        """Return the least and the greatest value over seeds, element by element for lists."""
        values = self.values(name)
        return _over_seeds(values, min), _over_seeds(values, max)


def _kind_problem(record: Record) -> str | None:
    """Return which part of a record is of another class than it says, None where all are right."""
    for name, kind in (("data", DataSource), ("runs", SeedRun)):
        items = getattr(record, name)
        if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
            return f"field {name!r} is {items!r:.80}, not a list of {kind.__name__}"
    if not isinstance(record.device, Device):
        return f"field 'device' is {record.device!r:.80}, not a Device"
    if not isinstance(record.training, Training | None):
        return f"field 'training' is {record.training!r:.80}, not a Training"
    if not isinstance(record.confirmed, Confirmed | None):
        return f"field 'confirmed' is {record.confirmed!r:.80}, not a Confirmed"
    if record.confirmed and not isinstance(record.confirmed.device, Device):
        return f"confirmed: field 'device' is {record.confirmed.device!r:.80}, not a Device"
    return None


def _over_seeds(values: list[Value], function: Any) -> Any:
    if isinstance(values[0], list):
        return [function(column) for column in zip(*values, strict=True)]
    return function(values)
