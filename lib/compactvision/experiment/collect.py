"""All seeds of a chapter's run: each in a fresh process, kept as they finish, never two runs at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from compactvision import notebooks, records
from compactvision.claims import schema
from compactvision.experiment.run import resolve_device
from compactvision.experiment.worker import notebook_digest
from compactvision.records import PROFILES, DataSource, Record
from compactvision.records.dependencies import changed
from compactvision.records.places import cache_folder

Say = Callable[[str], None]


class RunError(RuntimeError):
    """A run that could not start or did not finish; the message is one line."""


def _lock(stream: IO[str]) -> bool:
    """Take the lock on an open file if nobody has it; it goes when the last process that has the file ends."""
    if os.name == "nt":  # pragma: no cover
        import msvcrt

        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def only_run(slug: str, profile: str) -> Iterator[int]:
    """Hold the lock of a run meanwhile: one for all full runs, one a chapter for quick ones.

    Yields the file descriptor, which a child process inherits, so that the lock outlives a killed parent.

    Raises
    ------
    RunError
        If another run holds it.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("full.lock" if profile == "full" else f"{slug}-{profile}.lock")
    with path.open("a+", encoding="utf-8", errors="replace") as stream:
        if not _lock(stream):
            stream.seek(0)
            raise RunError(f"another {profile} run is going on ({stream.read().strip()}); wait for it, or stop it")
        stream.truncate(0)
        stream.write(f"{slug}, process {os.getpid()}")
        stream.flush()
        yield stream.fileno()


def partial_path(slug: str, profile: str, device: str) -> Path:
    """Return the path of the finished seeds of a run that has not ended."""
    return cache_folder() / f"{slug}-{profile}-{device}.partial.json"


def _finished(path: Path, notebook: str) -> Record | None:
    """Return the finished seeds of an interrupted run, None where there are none or code or versions changed."""
    if not path.is_file():
        return None
    try:
        record = records.read(path)
    except ValueError:
        return None
    same = (record.notebook, record.versions) == (notebook, records.versions())
    return record if same and record.depends is not None and not changed(record.depends) else None


def merged(first: Record | None, second: Record) -> Record:
    """Return a record with the seeds of both; they come from the same code, device and versions."""
    if first is None:
        return second
    for name in ("slug", "profile", "method", "notebook", "device", "versions"):
        if getattr(first, name) != getattr(second, name):
            raise ValueError(f"{name}: {getattr(first, name)!r} and {getattr(second, name)!r} do not go together")
    mixed = set(first.depends or {}) & set(second.depends or {})
    for name in sorted(name for name in mixed if first.depends[name] != second.depends[name]):
        raise ValueError(f"depends: {name} has changed from one seed to the next")
    sources: list[DataSource] = list(dict.fromkeys([*first.data, *second.data]))
    runs = sorted([*first.runs, *second.runs], key=lambda run: run.seed)
    both = None if first.depends is None or second.depends is None else first.depends | second.depends
    depends = both and dict(sorted(both.items()))
    return replace(second, dirty=first.dirty or second.dirty, data=sources, runs=runs, depends=depends)


def _deaf_to_interrupts() -> None:
    """Leave Ctrl-C, which every process of a terminal hears, to the parent: it stops the seed and says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _one_seed(
    slug: str,
    profile: str,
    device: str,
    seed: int,
    recording: bool,
    output: Path,
    lock: int,
    threads: int | None = None,
) -> Record:
    command = [sys.executable, "-m", "compactvision.experiment.worker"]
    command += [slug, profile, device, str(seed), str(output)] + (["--recording"] if recording else [])
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    if threads:
        command += ["--threads", str(threads)]
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}  # NumPy's as well
    sys.stdout.flush()
    posix = os.name == "posix"
    process = subprocess.Popen(
        command, env=environment, pass_fds=(lock,) if posix else (), preexec_fn=_deaf_to_interrupts if posix else None
    )
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else "failed"
        raise RunError(f"seed {seed} of {slug} ({profile}) {how}; the seeds finished before are kept")
    record = records.read(output)
    output.unlink()
    return record


def collect(
    slug: str,
    *,
    profile: str = "quick",
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    recording: bool = False,
    say: Say = lambda text: None,
) -> Record:
    """Run a chapter's notebook for each seed in a fresh process, and return the record of all seeds.

    Finished seeds are kept in the cache folder, and are not run again after an interruption while code,
    device and versions are the same. :func:`forget` removes them once the record has been used.

    Parameters
    ----------
    slug : str
    profile : str
    seeds : sequence of int
    device : str
    recording : bool
        Whether a new record is made, so that ``run.check()`` compares nothing.
    say : callable
        Gets a line of progress now and then.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, or there is no notebook.
    RunError
        If another run is going on or a seed fails.
    """
    schema.load(slug)
    if profile not in PROFILES:
        raise ValueError(f"profile: {profile!r} is not one of {', '.join(PROFILES)}")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: {list(seeds)} is empty or names a seed twice")
    wrong = [seed for seed in seeds if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32]
    if wrong:
        raise ValueError(f"seeds: {wrong[0]!r} is not a whole number from 0 to 2**32 - 1")
    place = str(resolve_device(device))
    path = notebooks.find(slug)
    with only_run(slug, profile) as lock:
        partial = partial_path(slug, profile, place)
        done = _finished(partial, notebook_digest(path))
        for seed in seeds:
            if done is not None and seed in done.seeds:
                say(f"seed {seed}: finished before, not run again")
                continue
            say(f"seed {seed}: running {path.name} ({profile}, {place})")
            output = partial.with_suffix(f".{seed}.json")
            one = _one_seed(slug, profile, place, seed, recording, output, lock)
            done = merged(done, one)
            records.write(done, partial)
            say(f"seed {seed}: {one.runs[0].seconds:.1f} s, {one.runs[0].peak_memory_mb:,.0f} MiB")
    assert done is not None
    return replace(done, runs=[run for run in done.runs if run.seed in seeds])


def rerun(slug: str, *, profile: str, seed: int, device: str, threads: int = 0, say: Say = lambda text: None) -> Record:
    """Run one seed in a fresh process, with ``threads`` if not 0; nothing is kept, nor taken from an earlier run.

    Raises
    ------
    RunError
        As for :func:`collect`.
    """
    place = str(resolve_device(device))
    say(f"seed {seed}: running {notebooks.find(slug).name} ({profile}, {place})")
    with only_run(slug, profile) as lock:
        output = cache_folder() / f"{slug}-{profile}-{place}.{seed}.again.json"
        found = _one_seed(slug, profile, place, seed, True, output, lock, threads)
    say(f"seed {seed}: {found.runs[0].seconds:.1f} s, {found.runs[0].peak_memory_mb:,.0f} MiB")
    return found


def forget(slug: str, profile: str, device: str) -> None:
    """Remove the finished seeds of a run, after its record was written or shown."""
    partial_path(slug, profile, str(resolve_device(device))).unlink(missing_ok=True)
