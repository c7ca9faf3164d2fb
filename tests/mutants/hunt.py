"""Runs the tests of a mutant in a process of its own, on a copy of the package."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from .changes import Mutant
from .record import PACKAGE, TESTS, Contexts

BUDGET = 120.0
"""Seconds of tests for a mutant, by their recorded times."""
SLOWER = 6
"""How much longer than recorded they may take, besides half a minute, before the mutant counts as killed."""
KILLED, SURVIVED, TIMED, UNTESTED, PARTLY = "killed", "survived", "killed by time", "run by no test", "survived so far"


def hunted(mutants: Sequence[Mutant], contexts: Contexts, processes: int) -> Iterator[tuple[Mutant, str, int]]:
    """Yield each mutant with its outcome and the number of its tests, as they come."""
    waiting, running = list(reversed(mutants)), {}
    with tempfile.TemporaryDirectory() as folder:
        free = [_copied(Path(folder) / str(number)) for number in range(processes)]
        while waiting or running:
            while waiting and free:
                mutant = waiting.pop()
                every = contexts.tests(mutant.path, mutant.line, mutant.last)
                tests, seconds = _within(every, contexts)
                if not tests:
                    yield mutant, UNTESTED, 0
                    continue
                place = free.pop()
                limit = time.monotonic() + 30 + SLOWER * seconds
                running[_start(mutant, place, tests)] = (mutant, place, tests, len(every), limit)
            for process in list(running):
                mutant, place, tests, total, limit = running[process]
                outcome = _outcome(process, limit)
                if outcome is not None:
                    del running[process]
                    free.append(place)
                    yield mutant, PARTLY if outcome == SURVIVED and len(tests) < total else outcome, len(tests)
            time.sleep(0.05)


def _copied(place: Path) -> Path:
    shutil.copytree(PACKAGE, place / "lib" / "compactvision", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def _within(tests: Sequence[str], contexts: Contexts) -> tuple[list[str], float]:
    chosen, seconds = [], 0.0
    for test in tests:
        if chosen and seconds + contexts.seconds[test] > BUDGET:
            break
        chosen.append(test)
        seconds += contexts.seconds[test]
    return chosen, seconds


def _start(mutant: Mutant, place: Path, tests: Sequence[str]) -> int:
    """Fork a process that runs the tests; torch is imported already, the package is not."""
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        os.setpgid(0, 0)
        _silence()
        text = (PACKAGE / mutant.path).read_text(encoding="utf-8")
        file = place / "lib" / "compactvision" / mutant.path
        file.write_text(mutant.applied(text), encoding="utf-8")
        try:
            status = _tested(place, tests)
        finally:
            file.write_text(text, encoding="utf-8")
    finally:
        os._exit(status)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _tested(place: Path, tests: Sequence[str]) -> int:
    import sys

    sys.dont_write_bytecode = True
    sys.path[:] = [str(place / "lib"), str(TESTS), *sys.path]
    os.environ |= {"PYTHONPATH": str(place / "lib"), "PYTEST_XDIST_WORKER": "gw0", "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(place)
    torch.set_num_threads(1)
    files = sorted({str(TESTS / test.partition("::")[0]) for test in tests})
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", f"--basetemp={place / 'tmp'}"]
    arguments += ["-c", str(TESTS / "pytest.ini"), f"--rootdir={TESTS}"]
    return int(pytest.main([*arguments, *files], plugins=[_Chosen(tests, place)]))


class _Chosen:
    """Plugin: run these tests alone, in this order, and the copy of the package."""

    def __init__(self, tests: Sequence[str], place: Path) -> None:
        self.order = {test: number for number, test in enumerate(tests)}
        self.place = place

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        import compactvision

        if not Path(compactvision.__file__).is_relative_to(self.place):
            os._exit(4)
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda i: self.order[i.nodeid])


def _outcome(process: int, limit: float) -> str | None:
    """What a process came to; None while it runs."""
    if time.monotonic() > limit:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return TIMED
    ended, status = os.waitpid(process, os.WNOHANG)
    if not ended:
        return None
    code = os.waitstatus_to_exitcode(status)
    if code in (4, 5):
        raise RuntimeError("a mutant's tests were not found, or ran the package itself")
    return SURVIVED if code == 0 else KILLED
