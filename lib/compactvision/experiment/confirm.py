"""One recorded seed run with today's code, and compared with what the record says of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from compactvision import records
from compactvision.claims import schema
from compactvision.claims.rules import judge
from compactvision.experiment.collect import RunError, rerun
from compactvision.experiment.compare import processor
from compactvision.records import Confirmed, Record, Value

EXACT = 1e-6
POINTS = 0.02
_TIMES = re.compile(r"(?:^|[._])(?:ms|times?\d*|seconds|latency)(?:[._]|$)")


@dataclass(frozen=True)
class Comparison:
    """What one run gave beside the record, in lines: what is refused, and what is only told.

    Attributes
    ----------
    compared : int
        Values that had to agree.
    differ, moved, timings, notes : list of str
        Beyond what is allowed; changed within it; clocks; and other circumstances.
    """

    compared: int = 0
    differ: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    timings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return all of it, a line each, what is refused last."""
        told = {"note": self.notes, "timing": self.timings, "moved": self.moved, "DIFFERS": self.differ}
        return [f"{kind}: {line}" for kind, own in told.items() for line in own]


def _numbers(value: Value) -> list[int | float]:
    return value if isinstance(value, list) else [value]


def tolerance(record: Record, name: str, exact: set[str]) -> list[float] | None:
    """Return how far each number of a value may lie from that of the recorded seed; None for a timing.

    What an exact claim reads, what has a band of 0, and whole numbers that all seeds share: 1e-6, of the value where it
    is above 1. All else, as it may come of training: the range over the seeds, and at least two points where the values
    lie in [-1, 1], 2 % of the largest otherwise. A timing is what is named so and differs from seed to seed.
    """
    columns = [_numbers(value) for value in record.values(name)]
    same = len(columns) > 1 and all(column == columns[0] for column in columns)
    if _TIMES.search(name) and not same:
        return None
    whole = same and all(isinstance(one, int) for one in columns[0])
    if name in exact or record.bands.get(name) == 0 or whole:
        return [EXACT * max(1.0, *map(abs, column)) for column in zip(*columns, strict=True)]
    largest = max(abs(number) for column in columns for number in column)
    least = POINTS * (1.0 if largest <= 1 else largest)
    return [max(max(column) - min(column), least) for column in zip(*columns, strict=True)]


def compare(record: Record, live: Record, chapter: schema.Chapter) -> Comparison:
    """Compare a run of one seed with the record that holds this seed."""
    seed = live.seeds[0]
    (old,) = (run.values for run in record.runs if run.seed == seed)
    new = live.runs[0].values
    exact = {name for claim in chapter.claims if claim.kind == "exact" for name in claim.rule.names}
    found = Comparison(notes=_circumstances(record, live))
    found.differ.extend(f"{name}: only in the record" for name in old if name not in new)
    found.differ.extend(f"{name}: only in the run" for name in new if name not in old)
    both = [name for name in old if name in new]
    for name in both:
        _place(found, name, _numbers(old[name]), _numbers(new[name]), tolerance(record, name, exact))
    alone = replace(record, runs=[run for run in record.runs if run.seed == seed], confirmed=None)
    found.differ.extend(_turned(alone, live, chapter))
    return replace(found, compared=len(both) - len(found.timings))


def _place(found: Comparison, name: str, old: list, new: list, allowed: list[float] | None) -> None:
    """Enter a value where it belongs: nowhere if it is the same."""
    if len(old) != len(new):
        found.differ.append(f"{name}: {len(new)} numbers, the record has {len(old)}")
        return
    room = allowed or [float("inf")] * len(old)
    apart = [
        (abs(before - after) / least, before, after, least) for before, after, least in zip(old, new, room, strict=True)
    ]
    share, before, after, least = max(apart)
    told = f"{name}: {after:.9g}, the record has {before:.9g}"
    if allowed is None:
        found.timings.append(told)
    elif share > 1:
        found.differ.append(f"{told}, allowed {least:.3g}")
    elif any(abs(one[1] - one[2]) > EXACT * max(1.0, abs(one[1])) for one in apart):
        found.moved.append(f"{told}, within {least:.3g}")


def _turned(old: Record, new: Record, chapter: schema.Chapter) -> Iterator[str]:
    """Yield exact claims that the record's seed decides otherwise than the run: 1e-6 may be more than they allow."""
    for claim in chapter.claims:
        if claim.kind == "exact" and claim.profile == old.profile and set(claim.rule.names) <= set(new.names):
            before, after = judge(claim, old), judge(claim, new)
            if before.level != after.level:
                yield f"{claim.id}: {after.word}, by the record {before.word} ({after.reason})"


def _circumstances(record: Record, live: Record) -> list[str]:
    told = []
    if record.device != live.device:
        told.append(f"another machine: {processor(live.device)}; the record's: {processor(record.device)}")
    for name in sorted(record.versions | live.versions):
        before, after = record.versions.get(name, "none"), live.versions.get(name, "none")
        if before != after:
            told.append(f"another {name}: {after}; the record's: {before}")
    data = {source.name: source.digest for source in record.data}
    told += [f"other data: {s.name}" for s in live.data if data.get(s.name, s.digest) != s.digest]
    return told


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def confirm(
    slug: str,
    *,
    profile: str = "quick",
    seed: int | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Run one recorded seed with today's code; where no value differs, the record says so from then on.

    Nothing else writes what a record stands on: no digest is renewed without a run. The run uses as many threads as the
    record's, where the machine has as many cores: sums over more threads end in other digits.

    Raises
    ------
    ValueError
        If there is no such record or seed, or code, notebook or claims are not committed.
    RunError
        If the run fails, or its code changed while it ran.
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
    threads = record.device.threads if record.device.threads <= _cores() else 0
    live = rerun(slug, profile=profile, seed=seed, device=device, threads=threads, say=say)
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
