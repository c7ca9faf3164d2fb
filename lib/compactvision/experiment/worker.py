"""One seed of a chapter in a process of its own: clean random state, and a peak of memory that is its own.

Started by :mod:`compactvision.experiment.collect`; writes a record with this one seed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from compactvision import notebooks, records
from compactvision.experiment.noting import noting
from compactvision.experiment.run import collecting
from compactvision.notebooks.plain import PARAMETERS, SKIPPED
from compactvision.records import Record


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would include the parent's memory at the time of the start
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def notebook_digest(path: Path) -> str:
    """Return the digest of the code cells that a run executes."""
    return notebooks.code_digest(notebooks.read(path), without=("setup", SKIPPED))


def run_seed(slug: str, profile: str, device: str, seed: int, *, recording: bool) -> Record:
    """Run a chapter's notebook once in this process and return its record with one seed.

    Raises
    ------
    ValueError
        If the notebook starts no run, more than one, or another one than was asked for, or logs nothing.
    """
    path = notebooks.find(slug)
    began = time.perf_counter()
    with collecting(recording=recording) as session, noting(slug, profile) as noted:
        notebooks.run_cells(path, dict(zip(PARAMETERS, (profile, device, seed), strict=True)))
    seconds = time.perf_counter() - began
    if len(session.runs) != 1:
        raise ValueError(f"{path.name}: it calls experiment.start {len(session.runs)} times; exactly once is needed")
    run = session.runs[0]
    if (run.slug, run.profile, run.seed) != (slug, profile, seed):
        raise ValueError(f"{path.name}: it started {run!r}, which is not what its parameters say")
    if not run.values:
        raise ValueError(f"{path.name}: it logged no values")
    live = run.live_record()
    gpu = torch.cuda.max_memory_allocated() / 1024**2 if run.device.type == "cuda" else None
    one = replace(
        live.runs[0],
        seconds=round(seconds, 2),
        peak_memory_mb=round(peak_memory_mb(), 1),
        peak_gpu_memory_mb=None if gpu is None else round(gpu, 1),
    )
    depends = noted.names()
    dirty = live.dirty or bool(noted.rewritten(depends))
    return replace(live, dirty=dirty, runs=[one], notebook=notebook_digest(path), depends=depends)


def main(arguments: list[str]) -> int:
    """Run one seed and write its record to a file; returns the exit status."""
    parser = argparse.ArgumentParser()
    for name in ("slug", "profile", "device"):
        parser.add_argument(name)
    parser.add_argument("seed", type=int)
    parser.add_argument("output", type=Path)
    parser.add_argument("--recording", action="store_true")
    parser.add_argument("--threads", type=int, help="default: torch's own number")
    asked = parser.parse_args(arguments)
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    try:
        record = run_seed(asked.slug, asked.profile, asked.device, asked.seed, recording=asked.recording)
    except Exception:
        sys.stdout.flush()
        traceback.print_exc()
        return 1
    try:
        records.write(record, asked.output)
    except OSError as error:
        print(f"the record of seed {asked.seed} cannot be written: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
