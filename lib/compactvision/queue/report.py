"""What the queue tells and hands out: the state of each job, and finished records."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from compactvision import records
from compactvision.claims import schema
from compactvision.claims.rules import refuse_impossible
from compactvision.experiment.collect import merged
from compactvision.queue import state
from compactvision.queue.entries import BASELINES, FULL, Entry
from compactvision.queue.state import Places
from compactvision.records import Record


def status(entries: Sequence[Entry], places: Places) -> str:
    """Return a line for each job, what is done and what is left, and what the rest would take."""
    lines, left, done = [], 0.0, 0
    for entry in entries:
        for seed in entry.seeds:
            told, share = _state(entry, seed, entries, places)
            done += share == 0
            left += share * entry.minutes
            lines.append(
                f"  {entry.name + f', seed {seed}':42} {entry.kind:8} {share * entry.minutes:5.0f} min "
                f"{entry.memory:4.0f} GiB  {told}"
            )
    jobs = len(lines)
    lines.append(f"{done} of {jobs} jobs are done; the others would take {left:.0f} minutes of an H100, one at a time.")
    return "\n".join([f"The queue ({places.kind}), most valuable first:", *lines])


def _state(entry: Entry, seed: int, entries: Sequence[Entry], places: Places) -> tuple[str, float]:
    """Return the state of a job in words, and the share of it that is left."""
    if places.finished(entry, seed, entries):
        return "done", 0.0
    known = {other.name: other for other in entries}
    waits = [name for name in entry.needs if name not in known or places.result(known[name], seed) is None]
    found = state.progress(places.folder(entry, seed))
    if found.get("error"):
        return f"failed: {found['error']}", 1.0
    if found.get("total"):
        steps, total, seconds = (found.get(name, 0) for name in ("steps", "total", "seconds"))
        return f"at step {steps:,} of {total:,}, {seconds:.0f} s so far", 1 - min(steps / total, 1)
    if waits:
        return f"waits for {', '.join(waits)}", 1.0
    return "open", 1.0


def hand_out(entries: Sequence[Entry], places: Places, say: Callable[[str], None]) -> list[Path]:
    """Write the records of finished seeds, and what their jobs kept, to ``out``; returns the records' paths."""
    written = []
    for entry in entries:
        found = _records(entry, places, say)
        if found is not None:
            path = places.record_path(entry)
            records.write(found, path)
            written.append(path)
        for seed in entry.seeds:
            kept, there = places.folder(entry, seed) / state.RESULT, places.result_path(entry, seed)
            if kept.is_file() and (kept.parent / state.RECORD).is_file() and not there.is_file():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(kept, there)
    return written


def _records(entry: Entry, places: Places, say: Callable[[str], None]) -> Record | None:
    """Return the record of the seeds that the work folder holds, None without any."""
    whole = None
    for seed in entry.seeds:
        path = places.folder(entry, seed) / state.RECORD
        if not path.is_file():
            continue
        try:
            whole = merged(whole, records.read(path))
        except ValueError as error:
            say(f"left out: {entry.name}, seed {seed}: {error}")
    return whole


def keep(folder: Path, credit: str | None = None) -> list[Path]:
    """Write records that came back from a machine to their places in the repository, and return these.

    ``credit`` is the name of who ran them, which stands on the board.

    Raises
    ------
    ValueError
        If there is none, or one is malformed, was changed, is of an unknown chapter, of changed code, or of a dry run,
        or holds values that cannot be. Then none is written.
    """
    found = [records.read(path, str(path.relative_to(folder))) for path in sorted(folder.rglob("*.json"))]
    if not found:
        raise ValueError(f"folder: {folder} holds no record")
    for record in found:
        refuse(record)
    names = [(record.slug, record.profile, record.training and record.training.arm) for record in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"folder: it holds two records of {'/'.join(filter(None, twice))}")
    named = [replace(record, credit=credit) for record in found] if credit is not None else found
    return [records.save(record) for record in named]


def refuse(record: Record, argument: str = "folder") -> None:
    """Raise ``ValueError`` for a record that has no place in the repository, or holds values that cannot be."""
    where = f"{argument}: the record {record.slug}/{record.profile} is"
    if record.slug in schema.slugs():
        refuse_impossible(schema.load(record.slug), record)
    elif record.slug != BASELINES:
        raise ValueError(f"{where} of an unknown chapter")
    if record.profile == "dry" or record.dirty or record.commit is None:
        why = "a dry run" if record.profile == "dry" else "code that was not committed"
        raise ValueError(f"{where} of {why}")
    if record.training is None and record.profile != FULL:
        raise ValueError(f"{where} not of the queue")
