"""The record of an experiment: its form in memory and on disk."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from compactvision.records.places import records_folder
from compactvision.records.provenance import Device

SCHEMA = 1
PROFILES = ("quick", "full")
KINDS = ("trained", "scaled", "dry")
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
    method : str
        Digest of the method's files; ``notebook`` that of the notebook's code, where known.
    device : Device
    versions : dict
    data : list of DataSource
    bands : dict
        By name: how far a live seed may lie outside the range of the recorded seeds, absolute.
    runs : list of SeedRun
        One a seed, ordered by seed; all with the same names.
    training : Training or None
        Of an arm.
    """

    slug: str
    profile: str
    created: str
    commit: str | None
    dirty: bool
    method: str
    notebook: str | None
    device: Device
    versions: dict[str, str]
    data: list[DataSource]
    runs: list[SeedRun]
    bands: dict[str, float] = field(default_factory=dict)
    training: Training | None = None

    def __post_init__(self) -> None:
        problem = _first_problem(self)
        if problem:
            raise ValueError(f"record {self.slug}/{self.profile}: {problem}")

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
        if name not in self.runs[0].values:
            raise KeyError(f"the record {self.slug}/{self.profile} has no value {name!r}")
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


def _over_seeds(values: list[Value], function: Any) -> Any:
    if isinstance(values[0], list):
        return [function(column) for column in zip(*values, strict=True)]
    return function(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_value(value: object) -> bool:
    return _is_number(value) or (isinstance(value, list) and all(_is_number(item) for item in value))


def _first_problem(record: Record) -> str | None:
    known = PROFILES if record.training is None else KINDS
    if record.profile not in known:
        return f"profile is {record.profile!r}, known are {', '.join(known)}"
    if not record.runs:
        return "it holds no seed"
    if record.seeds != sorted(set(record.seeds)):
        return f"seeds {record.seeds} are not in order or repeat"
    shape = {name: _length(value) for name, value in record.runs[0].values.items()}
    for run in record.runs:
        for name, value in run.values.items():
            if not _is_value(value):
                return f"seed {run.seed}: value {name!r} is {value!r}, not a finite number or a list of them"
        if {name: _length(value) for name, value in run.values.items()} != shape:
            return f"seed {run.seed}: names or lengths of its values differ from those of seed {record.seeds[0]}"
    for name, band in record.bands.items():
        if name not in shape:
            return f"band {name!r} has no value"
        if not _is_number(band) or band < 0:
            return f"band {name!r} is {band!r}, not a number >= 0"
    return None


def _length(value: Value) -> int | None:
    return len(value) if isinstance(value, list) else None


def to_json(record: Record) -> str:
    """Return the record as JSON text: the same text for the same record, one value a line."""
    content = {"schema": SCHEMA, **asdict(record)}
    if record.training is None:
        del content["training"]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _build(kind: type, content: object, where: str) -> Any:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} is not an object")
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    missing = sorted(known - set(content))
    if missing:
        raise ValueError(f"{where}: field {missing[0]!r} is missing")
    return kind(**content)


def from_json(text: str, where: str) -> Record:
    """Return the record that JSON text holds; ``ValueError`` naming ``where`` and the field if it is malformed."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise ValueError(f"{where}: field 'schema' is not {SCHEMA}")
    for name in ("runs", "data"):
        if not isinstance(content.get(name), list):
            raise ValueError(f"{where}: field {name!r} is not a list")
    content["runs"] = [_build(SeedRun, run, f"{where}: run {i}") for i, run in enumerate(content["runs"])]
    content["data"] = [_build(DataSource, item, f"{where}: data {i}") for i, item in enumerate(content["data"])]
    content["device"] = _build(Device, content.get("device"), f"{where}: device")
    training = content.setdefault("training", None)
    if training is not None:
        content["training"] = _build(Training, training, f"{where}: training")
    return _build(Record, content, where)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill or a full disk leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> Record:
    """Read a record; ``ValueError`` naming file and field where it is malformed."""
    return from_json(path.read_text(encoding="utf-8"), path.name)


def write(record: Record, path: Path) -> None:
    """Write a record atomically."""
    write_text(path, to_json(record))


def path_of(slug: str, profile: str, arm: str | None = None) -> Path:
    """Return the path of a chapter's record of a profile, or of one of its arms."""
    return records_folder() / slug / (f"{profile}.json" if arm is None else f"{profile}-{arm}.json")


def load(slug: str, profile: str) -> Record | None:
    """Return the shipped record of a chapter and profile, None where there is none.

    Raises
    ------
    ValueError
        If the profile is unknown or the file is malformed or belongs to another chapter.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: {profile!r} is not one of {', '.join(PROFILES)}")
    path = path_of(slug, profile)
    if not path.is_file():
        return None
    record = from_json(path.read_text(encoding="utf-8"), f"records/{slug}/{path.name}")
    if (record.slug, record.profile) != (slug, profile):
        raise ValueError(f"records/{slug}/{path.name}: it is the record of {record.slug}/{record.profile}")
    return record


def load_arms(slug: str, kind: str = "trained") -> list[Record]:
    """Return the shipped records of a chapter's arms, by the arms' names.

    Raises
    ------
    ValueError
        If the kind is unknown, or a file is malformed or belongs elsewhere.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    found = []
    for path in sorted((records_folder() / slug).glob(f"{kind}-*.json")):
        where = f"records/{slug}/{path.name}"
        record = from_json(path.read_text(encoding="utf-8"), where)
        arm = record.training.arm if record.training else None
        if (record.slug, f"{record.profile}-{arm}") != (slug, path.stem):
            raise ValueError(f"{where}: it is the record of {record.slug}/{record.profile}, arm {arm}")
        found.append(record)
    return found


def save(record: Record) -> Path:
    """Write a record to its place and return the path."""
    path = path_of(record.slug, record.profile, record.training.arm if record.training else None)
    write(record, path)
    return path
