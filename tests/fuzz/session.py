"""Many calls, in a process of their own: one that dies or hangs costs one call."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from .trial import attempt, chosen

PATIENCE = 60.0
"""Seconds of the clock after which a process is given up."""
MEMORY = 3 * 2**30
"""Bytes that a call may ask for."""


@dataclass(frozen=True)
class Trial:
    """A call and what came of it."""

    name: str
    bad: dict[str, str]
    outcome: str
    detail: str

    @property
    def line(self) -> str:
        """A line of Python that repeats it."""
        return f"again({self.name!r}, **{self.bad!r})"


def trials(names: Sequence[str], count: int, seed: int) -> Iterator[Trial]:
    """Make ``count`` calls of each function; what they write lies in folders that go with them."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        plan = [(name, bad) for name in names for bad in chosen(name, count, seed)]
    context = multiprocessing.get_context("fork")
    done = 0
    while done < len(plan):
        ours, theirs = context.Pipe()
        worker = context.Process(target=_work, args=(theirs, plan[done:]), daemon=True)
        worker.start()
        theirs.close()
        while done < len(plan):
            found = _answer(ours)
            name, bad = plan[done]
            done += 1
            if found is not None and found[0]:
                yield Trial(name, bad, *found)
            if found is None or found[0] == "killed":
                break
        worker.kill()
        worker.join()


def _answer(ours: Connection) -> tuple[str, str] | None:
    """Outcome of the next call, ("", "") where there was none; None for ("killed")."""
    try:
        return ours.recv() if ours.poll(PATIENCE) else ("killed", f"no answer in {PATIENCE:g} s")
    except (EOFError, OSError):
        return "killed", "the process ended"


def _work(theirs: Connection, plan: Sequence[tuple[str, dict[str, str]]]) -> None:
    torch.set_num_threads(1)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tempfile.tempdir = folder
        for name, bad in plan:
            theirs.send(attempt(name, bad) or ("", ""))
    os._exit(0)
