"""One live run of a chapter: started with checked arguments, logging values, compared with the record."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

import compactvision
from compactvision import records
from compactvision.claims import schema
from compactvision.claims.origin import confirmation
from compactvision.claims.rules import is_older
from compactvision.records import PROFILES, DataSource, Device, Record, SeedRun, Value

DEVICES = ("auto", "cpu", "cuda", "mps")
LONGEST_LIST = 512


@runtime_checkable
class _DataSet(Protocol):
    name: str
    provenance: str

    def digest(self) -> str: ...


@dataclass
class Session:
    """What the command line keeps of the runs that a notebook starts; ``recording`` switches the check off."""

    recording: bool = False
    runs: list[Run] = field(default_factory=list)


_session: ContextVar[Session | None] = ContextVar("session", default=None)


@contextmanager
def collecting(*, recording: bool = False) -> Iterator[Session]:
    """Collect the runs that are started inside the block."""
    session = Session(recording)
    token = _session.set(session)
    try:
        yield session
    finally:
        _session.reset(token)


def resolve_device(device: str) -> torch.device:
    """Return the device that a name stands for; "auto" takes the GPU where there is one.

    Raises
    ------
    ValueError
        If the name is unknown, or names a device that this machine lacks: nothing falls back silently.
    """
    kind, _, index = str(device).partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise ValueError(f"device: {device!r} is not one of {', '.join(DEVICES)}")
    if kind == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: {device!r} was asked for, but torch finds {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device: 'mps' was asked for, but torch finds none on this machine")
    return torch.device(device)


def stamp(device: str = "auto") -> str:
    """Return one line: versions of the package, torch and Python, the commit, and the device."""
    name, dirty = records.commit()
    code = f" ({name[:9]}{', changed since' if dirty else ''})" if name else ""
    found = records.versions()
    where = records.describe_device(resolve_device(device).type)
    place = where.kind if where.kind == "cpu" else f"{where.kind} {where.name}"
    return (
        f"compactvision {compactvision.__version__}{code} · torch {found['torch']} · "
        f"Python {found['python']} · {place}, {where.threads} threads"
    )


def start(slug: str, *, profile: str = "quick", device: str = "auto", seed: int = 0) -> Run:
    """Start a chapter's run: check the arguments, and seed Python, NumPy and torch.

    A run on the CPU that has a record uses no more threads than that record did: sums over another number of threads
    end in other digits, and after a few epochs a network is another one.

    Parameters
    ----------
    slug : str
        The chapter, "foundations" for example.
    profile : str
        "quick" or "full".
    device : str
        "auto" (the GPU where there is one, else the CPU), "cpu", "cuda" or "mps".
    seed : int
        From 0 to 2**32 - 1.

    Raises
    ------
    ValueError
        Naming the argument that is unknown or out of range, or the device that is not there.
    """
    chapter = schema.load(slug)
    if profile not in PROFILES:
        raise ValueError(f"profile: {profile!r} is not one of {', '.join(PROFILES)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed: {seed!r} is not a whole number from 0 to 2**32 - 1")
    place = resolve_device(device)
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries used by a chapter may draw from the global state)
    torch.manual_seed(seed)
    run = Run(chapter, profile, place, seed)
    session = _session.get()
    if session is not None:
        run.recording = session.recording
        session.runs.append(run)
    if not run.recording:
        _with_the_threads_of(run.record(), place)
    return run


def _with_the_threads_of(told: Record | None, place: torch.device) -> None:
    """Use no more CPU threads than the record did: a training on another number ends in another network."""
    if told is not None and place.type == told.device.kind == "cpu" and told.device.threads < torch.get_num_threads():
        torch.set_num_threads(told.device.threads)


class Run:
    """A live run, made by :func:`start`.

    Attributes
    ----------
    slug, profile : str
    device : torch.device
    seed : int
    quick : bool
        Whether the profile is "quick".
    values : dict
        What was logged, by name.
    bands : dict
        Declared tolerances, by name.
    recording : bool
        True while a new record is being made: :meth:`check` then compares nothing.
    """

    def __init__(self, chapter: schema.Chapter, profile: str, device: torch.device, seed: int) -> None:
        self.chapter = chapter
        self.slug = chapter.slug
        self.profile = profile
        self.device = device
        self.seed = seed
        self.values: dict[str, Value] = {}
        self.bands: dict[str, float] = {}
        self.sources: list[DataSource] = []
        self.recording = False
        self._started = time.perf_counter()

    @property
    def quick(self) -> bool:
        """Whether the profile is "quick"."""
        return self.profile == "quick"

    def __repr__(self) -> str:
        return f"Run({self.slug!r}, profile={self.profile!r}, device={str(self.device)!r}, seed={self.seed})"

    def stamp(self) -> str:
        """Return one line: chapter, profile and seed, whether the record is confirmed, versions, commit and device."""
        record = self.record()
        told = confirmation(record) if record is not None and not is_older(record) else None
        made = f"record {told} · " if told else ""
        return f"{self.slug} · {self.profile} · seed {self.seed} · {made}{stamp(str(self.device))}"

    def log(self, name: str, value: Any, *, band: float | None = None) -> Value:
        """Keep a result under a dotted name and return it as plain numbers.

        Parameters
        ----------
        name : str
            For example "resnet56.parameters"; each name once a run.
        value : number, bool, or a list, array or tensor of one dimension with at most 512 numbers
        band : float, optional
            How far a live seed may lie outside the range of the record's seeds, absolute, in the value's
            unit; :meth:`check` looks at values with a band only.

        Raises
        ------
        ValueError
            Naming a value that was logged before, is not finite, has more dimensions, or a negative band.
        """
        if not isinstance(name, str) or not name or name != name.strip():
            raise ValueError(f"name: {name!r} is not a name such as 'resnet56.parameters'")
        if name in self.values:
            raise ValueError(f"name: {name!r} was logged before in this run; experiment.start begins a new one")
        plain = _plain(name, value)
        if band is not None:
            if isinstance(band, bool) or not isinstance(band, int | float) or not 0 <= band < math.inf:
                raise ValueError(f"band: {name!r} has the band {band!r}, not a finite number >= 0")
            self.bands[name] = float(band)
        self.values[name] = plain
        return plain

    def data(self, image_set: _DataSet) -> None:
        """Note the name, provenance and digest of a data set in the record; a second time changes nothing.

        Raises
        ------
        ValueError
            If it is no data set: one of the three is missing.
        """
        if isinstance(image_set, type) or not isinstance(image_set, _DataSet):
            raise ValueError(f"image_set must have a name, a provenance and a digest, got {image_set!r:.80}")
        source = DataSource(image_set.name, image_set.provenance, image_set.digest())
        if source not in self.sources:
            self.sources.append(source)

    def record(self, profile: str | None = None) -> Record | None:
        """Return the shipped record of a profile (default: the run's), None where there is none yet."""
        return records.load(self.slug, self.profile if profile is None else profile)

    def live_record(self) -> Record:
        """Return what was logged so far as a record with this one seed."""
        name, dirty = records.commit(self.slug)
        one = SeedRun(self.seed, time.perf_counter() - self._started, 0.0, dict(self.values))
        where: Device = records.describe_device(self.device.type)
        return Record(
            slug=self.slug,
            profile=self.profile,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=name,
            dirty=dirty,
            method=None,
            notebook=None,
            device=where,
            versions=records.versions(),
            data=list(self.sources),
            runs=[one],
            bands=dict(self.bands),
        )

    def check(self) -> str:
        """Compare the live values that have a band with the record of this profile.

        What was trained may come out otherwise on another processor or for another seed: outside its band it is noted.
        What is exact (a band of 0, or a value that an exact claim reads) must agree everywhere. Where
        ``COMPACTVISION_STRICT`` is set, as it is when the book is tested and when outputs are stored, nothing may lie
        outside.

        Returns
        -------
        str
            What was compared, in words; each value outside its band, with both processors.

        Raises
        ------
        AssertionError
            Naming each exact value that lies outside the range of the record's seeds, each value that the record
            lacks, and in a strict run each value beyond the range widened by its band.
        """
        from compactvision.experiment.compare import against_record

        return against_record(self)


def _plain(name: str, value: Any) -> Value:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return _plain_number(name, value)
    if not 0 < len(value) <= LONGEST_LIST:
        raise ValueError(f"value: {name!r} has {len(value)} numbers; 1 to {LONGEST_LIST} can be logged")
    return [_plain_number(name, item) for item in value]


def _plain_number(name: str, value: Any) -> int | float:
    if isinstance(value, torch.Tensor | np.generic) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, int | float):
        raise ValueError(f"value: {name!r} is {value!r:.80}, not a number or a list of numbers")
    if not math.isfinite(value):
        raise ValueError(f"value: {name!r} is {value!r}, not finite")
    return value
