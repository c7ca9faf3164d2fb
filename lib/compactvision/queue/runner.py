"""Works through the list: several jobs at once as processes on one card, until the minutes are over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from compactvision.queue.entries import FULL, Entry
from compactvision.queue.recipes import Scale
from compactvision.queue.state import Places
from compactvision.queue.worker import CONTINUES, FINISHED

Say = Callable[[str], None]
MARGIN = 45.0  # seconds before the end at which jobs are told to stop; less in a call of few minutes
GRACE = 30.0  # seconds that they have for it
AT_ONCE = 4
WORTH_STARTING = 60.0  # a job that would have less time is not started


class Process(Protocol):
    """What the runner asks of a job's process; ``subprocess.Popen`` has it."""

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""

    def terminate(self) -> None:
        """Tell it to stop."""

    def kill(self) -> None:
        """End it."""


Launch = Callable[[Entry, int], Process]
Key = tuple[str, int]


@dataclass(frozen=True)
class Capacity:
    """What fits on the card at once: GiB of its memory, and processes."""

    memory: float
    processes: int


@dataclass
class Outcome:
    """What became of the jobs of one call, by name and seed.

    Attributes
    ----------
    finished, continuing, failed : list
    """

    finished: list[Key] = field(default_factory=list)
    continuing: list[Key] = field(default_factory=list)
    failed: list[Key] = field(default_factory=list)


class Runner:
    """One call of the queue.

    Parameters
    ----------
    entries : sequence of Entry
        Most valuable first. A job that does not fit beside those that run is passed by until it does.
    places : Places
    capacity : Capacity
    launch : callable (entry, seed) -> Process
    minutes : float
        All that the call may take.
    say : callable
        Gets lines of progress.
    clock, sleep : callable
        Seconds, and how to wait.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        places: Places,
        capacity: Capacity,
        launch: Launch,
        minutes: float,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0 < minutes < float("inf"):
            raise ValueError(f"minutes: {minutes} is not a finite number above 0")
        self.entries, self.places, self.capacity, self.launch = entries, places, capacity, launch
        self.say, self.clock, self.sleep = say, clock, sleep
        margin = min(15 * minutes, MARGIN)
        self.stop_at = clock() + 60 * minutes - margin
        self.grace = min(margin / 2, GRACE)
        self.running: dict[Key, tuple[Entry, Process]] = {}
        self.outcome = Outcome()
        self.told = False  # by a signal, to stop at once

    def run(self) -> Outcome:
        """Work until nothing is left that can run, or the time is over, and return what became of the jobs."""
        while True:
            self._reap()
            if self.told or self.clock() >= self.stop_at:
                break
            self._start_fitting()
            if not self.running:
                break
            self.sleep(0.2)
        self._stop()
        return self.outcome

    def next_job(self) -> tuple[Entry, int] | None:
        """Return the first job of the list that may start now and fits, None if there is none."""
        left = self.stop_at - self.clock()
        if left < WORTH_STARTING and self.running:
            return None
        free = self.capacity.memory - sum(entry.memory for entry, _ in self.running.values())
        if len(self.running) >= self.capacity.processes:
            return None
        tried = [*self.running, *self.outcome.finished, *self.outcome.continuing, *self.outcome.failed]
        for entry in self.entries:
            if entry.memory > free or (entry.kind == FULL and 60 * entry.minutes > left):
                continue
            for seed in entry.seeds:
                if (entry.name, seed) not in tried and self._open(entry, seed):
                    return entry, seed
        return None

    def _open(self, entry: Entry, seed: int) -> bool:
        if self.places.finished(entry, seed, self.entries):
            return False
        known = {other.name: other for other in self.entries}
        return all(name in known and self.places.result(known[name], seed) is not None for name in entry.needs)

    def _start_fitting(self) -> None:
        while (job := self.next_job()) is not None:
            entry, seed = job
            self.running[entry.name, seed] = entry, self.launch(entry, seed)
            self.say(f"started {entry.name}, seed {seed} ({len(self.running)} at once)")

    def _reap(self) -> None:
        for key, (entry, process) in list(self.running.items()):
            status = process.poll()
            if status is None:
                continue
            del self.running[key]
            name, seed = key
            if status == FINISHED:
                self.outcome.finished.append(key)
                self.say(f"finished {name}, seed {seed}")
            elif status in (CONTINUES, -signal.SIGTERM, -signal.SIGKILL):
                self.outcome.continuing.append(key)
                self.say(f"to be continued: {name}, seed {seed}")
            else:
                self.outcome.failed.append(key)
                self.say(f"failed {name}, seed {seed} (status {status}): {log_path(self.places, entry, seed)}")

    def _stop(self) -> None:
        for _, process in self.running.values():
            process.terminate()
        end = self.clock() + self.grace
        while self.running and self.clock() < end:
            self.sleep(0.1)
            self._reap()
        for _, process in self.running.values():
            process.kill()
        while self.running:
            self.sleep(0.1)
            self._reap()


@contextmanager
def heeding_signals(runner: Runner) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the call as the end of its minutes would."""
    before = {}

    def tell(number: int, frame: object) -> None:
        runner.told = True

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launcher(places: Places, scale: Scale, device: str, threads: int | None, lock: int | None = None) -> Launch:
    """Return what starts a job as a process of its own, its output appended to its log.

    The process inherits the open file ``lock``, so that a job which outlives a killed call keeps the next one out.
    """
    options = ["--work", str(places.work), "--out", str(places.out), "--device", device]
    for name in ("epochs", "images", "batch_size"):
        value = getattr(scale, name)
        options += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    options += ["--dry"] if scale.dry else []
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)

    def launch(entry: Entry, seed: int) -> subprocess.Popen:
        folder = places.work / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with log_path(places, entry, seed).open("a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "compactvision.queue.worker", entry.name, str(seed), *options]
            inherited = () if lock is None or os.name != "posix" else (lock,)
            return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, pass_fds=inherited)

    return launch


def log_path(places: Places, entry: Entry, seed: int) -> Path:
    """Return the log of a job; it outlasts the job's folder."""
    return places.work / "logs" / f"{places.kind}-{entry.slug}-{entry.arm}-{seed}.txt"


def capacity(device_kind: str, processes: int | None) -> Capacity:
    """Return what fits on this machine: nine tenths of the card's free memory, and by default ``AT_ONCE`` jobs.

    More jobs at once fill the card better, but each takes longer, and what is not finished when the machine goes back
    begins anew on the next. On a CPU one job at a time.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes: {processes} is not at least 1")
    if device_kind != "cuda":
        return Capacity(float("inf"), processes or 1)
    import torch

    free, _ = torch.cuda.mem_get_info()
    return Capacity(0.9 * free / 2**30, processes or max(1, min(AT_ONCE, (os.cpu_count() or 2) // 2)))
