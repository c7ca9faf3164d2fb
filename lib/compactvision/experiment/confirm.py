"""One recorded seed run with today's code, and compared with what the record says of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from compactvision import records
from compactvision.claims import schema
from compactvision.experiment.collect import RunError, collect, forget
from compactvision.experiment.compare import processor
from compactvision.records import Confirmed, Record

EXACT = 1e-6
POINTS = 0.02
_TIMES = re.compile(r"(?:^|[._])(?:ms|times?|seconds|latency)(?:[._]|$)")


@dataclass(frozen=True)
class Comparison:
    """What one run gave beside the record: values that differ, timings (only told), and other circumstances."""

    differ: list[str]
    timings: list[str]
    notes: list[str]
    compared: int


def tolerance(record: Record, name: str, exact: set[str]) -> float | None:
    """Return how far a value may lie from that of the recorded seed; None for a timing.

    What an exact claim reads, what has a band of 0, and whole numbers that all seeds share: 1e-6 of the value. All
    else, as it may come of training: the range over the seeds, and at least two points where the values lie in
    [-1, 1], 2 % of the largest otherwise.
    """
    if _TIMES.search(name):
        return None
    columns = [value if isinstance(value, list) else [value] for value in record.values(name)]
    numbers = [number for column in columns for number in column]
    largest = max(map(abs, numbers))
    same = len(columns) > 1 and all(column == columns[0] for column in columns)
    if name in exact or record.bands.get(name) == 0 or (same and all(isinstance(one, int) for one in numbers)):
        return EXACT * max(1.0, largest)
    spread = max(max(places) - min(places) for places in zip(*columns, strict=True))
    return max(spread, POINTS * (1.0 if largest <= 1 else largest))


def compare(record: Record, live: Record, chapter: schema.Chapter) -> Comparison:
    """Compare a run of one seed with the record that holds this seed."""
    seed = live.seeds[0]
    old = next(run.values for run in record.runs if run.seed == seed)
    new = live.runs[0].values
    exact = {name for claim in chapter.claims if claim.kind == "exact" for name in claim.rule.names}
    differ = [f"{name}: only in the {'record' if name in old else 'run'}" for name in old if name not in new]
    differ += [f"{name}: only in the run" for name in new if name not in old]
    timings: list[str] = []
    for name in (name for name in old if name in new):
        before, after = (value if isinstance(value, list) else [value] for value in (old[name], new[name]))
        allowed = tolerance(record, name, exact)
        if len(before) != len(after):
            differ.append(f"{name}: {len(after)} numbers, the record has {len(before)}")
            continue
        worst = max(zip(before, after, strict=True), key=lambda pair: abs(pair[0] - pair[1]))
        told = f"{name}: {worst[1]:.9g}, the record has {worst[0]:.9g}"
        if allowed is None:
            timings.append(told)
        elif abs(worst[0] - worst[1]) > allowed:
            differ.append(f"{told}, allowed {allowed:.3g}")
    notes = []
    if record.device != live.device:
        notes.append(f"another machine: {processor(live.device)}; the record's: {processor(record.device)}")
    notes += [
        f"another {name}: {live.versions.get(name)}; the record's: {version}"
        for name, version in record.versions.items()
        if live.versions.get(name) != version
    ]
    return Comparison(differ, timings, notes, len(old) - len(timings))


def confirm(
    slug: str,
    *,
    profile: str = "quick",
    seed: int | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Run one recorded seed with today's code; where no value differs, the record says so from then on.

    Nothing else writes what a record stands on: no digest is renewed without a run.

    Raises
    ------
    ValueError
        If there is no such record or seed, or code, notebook or claims are not committed.
    RunError
        If the run fails.
    """
    chapter = schema.load(slug)
    record = records.load(slug, profile)
    if record is None:
        raise ValueError(f"slug: there is no {profile} record of {slug} to confirm")
    seed = record.seeds[0] if seed is None else seed
    if seed not in record.seeds:
        raise ValueError(f"seed: {seed!r} is none of the record's, {', '.join(map(str, record.seeds))}")
    if records.commit(slug)[1]:
        raise ValueError(f"slug: code, notebook or claims of {slug} differ from the commit; commit them first")
    live = collect(slug, profile=profile, seeds=[seed], device=device, recording=True, say=say)
    forget(slug, profile, device)
    found = compare(record, live, chapter)
    if not found.differ:
        records.save(confirmed(record, live))
    return found


def confirmed(record: Record, live: Record) -> Record:
    """Return a record with the note of a run that gave its values again."""
    if live.dirty or live.commit is None or not live.depends:
        raise RunError("the run was not made by committed code, so that it confirms nothing")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    own = Confirmed(live.commit, now, live.seeds[0], live.device, live.versions, live.depends, record.values_digest())
    return replace(record, confirmed=own)
