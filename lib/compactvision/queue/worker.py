"""One job in a process of its own: it finishes and leaves a record, or is told to stop and leaves a checkpoint."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from compactvision import notebooks, records, training
from compactvision.experiment import resolve_device
from compactvision.experiment.worker import notebook_digest, peak_memory_mb, run_seed
from compactvision.queue import arms, rehearsal, state
from compactvision.queue.entries import FULL, Entry, find
from compactvision.queue.job import Job
from compactvision.queue.recipes import Scale
from compactvision.records import Record

FINISHED, FAILED, CONTINUES = 0, 1, 75
"""Exit statuses; the last is that of ``EX_TEMPFAIL``: call again."""


def work(
    entry: Entry,
    seed: int,
    scale: Scale,
    places: state.Places,
    device: torch.device,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Do one job in this process, or the next piece of it; returns the exit status."""
    folder = places.folder(entry, seed)
    state.prepare(folder, identity(entry, scale, device))
    try:
        if entry.kind == FULL:
            record = rehearsal.record(entry, seed) if scale.dry else _notebook(entry, seed, device)
        else:
            record = _trained(entry, seed, scale, places, device, stopping)
    except training.Stopped as stop:
        print(f"to be continued: {stop}", flush=True)  # noqa: T201 (the log of the job)
        return CONTINUES
    except Exception as error:
        traceback.print_exc()
        said = str(error).splitlines() or [""]
        state.write_progress(folder, {**state.progress(folder), "error": f"{type(error).__name__}: {said[0]}"})
        return FAILED
    records.write(record, folder / state.RECORD)
    (folder / state.CHECKPOINT).unlink(missing_ok=True)
    return FINISHED


def identity(entry: Entry, scale: Scale, device: torch.device) -> dict[str, object]:
    """Return what two pieces of one job must have in common."""
    where = records.describe_device(device.type)
    notebook = notebook_digest(notebooks.find(entry.slug)) if entry.kind == FULL else None
    code = {"code": state.code(), "notebook": notebook, "versions": records.versions()}
    return {**asdict(scale), **code, "device": [where.kind, where.name]}


def _trained(
    entry: Entry,
    seed: int,
    scale: Scale,
    places: state.Places,
    device: torch.device,
    stopping: Callable[[], bool],
) -> Record:
    torch.manual_seed(seed)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    job = Job(
        entry,
        arms.find(entry),
        seed,
        scale,
        places.folder(entry, seed),
        device,
        lambda name: places.result(find(name), seed),
        stopping,
    )
    return job.record(job.arm.run(job), peak_memory_mb())


def _notebook(entry: Entry, seed: int, device: torch.device) -> Record:
    """Run a seed of a chapter's notebook; nothing of it can be continued, so a stop ends the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return run_seed(entry.slug, FULL, device.type, seed, recording=True)


def main(arguments: Sequence[str]) -> int:
    """Do one job; SIGTERM or SIGINT lets it stop behind a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.queue.worker", description=main.__doc__)
    parser.add_argument("name")
    parser.add_argument("seed", type=int)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args(arguments)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.append(number))
    scale = Scale(asked.epochs, asked.images, asked.batch_size, asked.dry)
    places = state.Places(asked.work, asked.out, scale.kind)
    return work(find(asked.name), asked.seed, scale, places, resolve_device(asked.device), lambda: bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
