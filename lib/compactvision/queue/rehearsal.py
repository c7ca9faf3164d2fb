"""The list without a GPU: every job in this process, with tiny numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain

import torch

from compactvision import notebooks, records
from compactvision.experiment.run import Run, collecting
from compactvision.notebooks.plain import PARAMETERS
from compactvision.queue.entries import FULL, Entry
from compactvision.records import Record, SeedRun, Training


class _Started(Exception):  # noqa: N818 (what was waited for)
    """The notebook has started its run."""


class _First(list[Run]):
    def append(self, run: Run) -> None:
        super().append(run)
        raise _Started


def record(entry: Entry, seed: int) -> Record:
    """Run a chapter's notebook up to the start of its run: all cells compile, all imports are there.

    Raises
    ------
    ValueError
        If it starts no run, or another one than its parameters say.
    """
    path = notebooks.find(entry.slug)
    cells = len(notebooks.code_cells(notebooks.read(path)))
    files, began = ("queue/rehearsal.py",), time.perf_counter()
    with collecting(recording=True) as session:
        session.runs = _First()
        with suppress(_Started):
            notebooks.run_cells(path, dict(zip(PARAMETERS, (FULL, "cpu", seed), strict=True)))
    if [(run.slug, run.profile, run.seed) for run in session.runs] != [(entry.slug, FULL, seed)]:
        raise ValueError(f"{path.name}: it started {session.runs}, which is not what its parameters say")
    commit, dirty = records.commit()
    return Record(
        slug=entry.slug,
        profile="dry",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        dirty=dirty,
        method=records.method_digest(files),
        notebook=None,
        device=records.describe_device("cpu"),
        versions=records.versions(),
        data=[],
        runs=[SeedRun(seed, round(time.perf_counter() - began, 2), 0.0, {"run.cells": cells})],
        training=Training(entry.arm, list(files), {}),
    )


def in_order(entries: Sequence[Entry], work: Callable[[Entry, int], int]) -> dict[str, int]:
    """Do the first seed of every entry in the list's order, what an entry needs before it.

    Returns
    -------
    dict of str to int
        Exit status by name.
    """
    known = {entry.name: entry for entry in entries}
    done: dict[str, int] = {}

    def visit(entry: Entry) -> None:
        for name in chain(entry.needs, [entry.name]):
            if name in done or name not in known:
                continue
            if name == entry.name:
                torch.manual_seed(0)
                done[name] = work(entry, entry.seeds[0])
            else:
                visit(known[name])

    for entry in entries:
        visit(entry)
    return done
