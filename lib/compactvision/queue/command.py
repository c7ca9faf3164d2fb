"""What the sub-commands of ``python -m compactvision queue`` do."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from compactvision import records
from compactvision.experiment import resolve_device
from compactvision.experiment.collect import only_run
from compactvision.queue import board, rehearsal, report
from compactvision.queue.entries import ENTRIES, Entry, find
from compactvision.queue.recipes import Scale
from compactvision.queue.runner import Runner, capacity, heeding_signals, launcher
from compactvision.queue.state import Places
from compactvision.queue.worker import FINISHED, work
from compactvision.records.places import cache_folder
from compactvision.records.provenance import sealed_commit

Say = Callable[[str], None]


def execute(asked: argparse.Namespace, say: Say) -> int:
    """Do what the queue's sub-command says; returns the exit status."""
    if asked.queue_command == "keep":
        for path in report.keep(asked.folder, asked.credit):
            say(f"written: {path}")
        return 0
    if asked.queue_command == "check":
        for path in asked.files:
            for line in board.looked_at(path):
                say(line)
        return 0
    if asked.queue_command == "commit":
        say(sealed_commit())
        return 0
    entries = _with_needs(asked.only) if asked.only else list(ENTRIES)
    scale = Scale(asked.epochs, asked.images, asked.batch_size, getattr(asked, "dry", False))
    work_folder = asked.work or cache_folder() / "queue"
    if scale.dry:
        with tempfile.TemporaryDirectory() as folder:
            return _rehearse(entries, scale, Places(Path(folder), asked.out or Path(folder) / "out", scale.kind), say)
    places = Places(work_folder, asked.out or work_folder / "out", scale.kind)
    if asked.queue_command == "status":
        say(report.status(entries, places))
        return 0
    return _run(entries, scale, places, asked, say)


def _with_needs(names: list[str]) -> list[Entry]:
    """Return the named entries and what they start from, in the list's order."""
    named = [find(name) for name in names]
    needed = {name for entry in named for name in entry.needs}
    return [entry for entry in ENTRIES if entry in named or entry.name in needed]


def _run(entries: list[Entry], scale: Scale, places: Places, asked: argparse.Namespace, say: Say) -> int:
    device = resolve_device(asked.device)
    with only_run("queue", scale.kind) as lock:
        launch = launcher(places, scale, str(device), 2 if device.type == "cuda" else None, lock)
        runner = Runner(entries, places, capacity(device.type, asked.processes), launch, asked.minutes, say)
        with heeding_signals(runner):
            outcome = runner.run()
    for path in report.hand_out(entries, places, say):
        say(f"written: {path}")
    say(report.status(entries, places))
    return int(bool(outcome.failed))


def _rehearse(entries: list[Entry], scale: Scale, places: Places, say: Say) -> int:
    device, threads = resolve_device("cpu"), torch.get_num_threads()
    torch.set_num_threads(1)  # steps this small gain nothing from more
    try:
        done = rehearsal.in_order(entries, lambda entry, seed: work(entry, seed, scale, places, device))
    finally:
        torch.set_num_threads(threads)
    say(report.status(entries, places))
    for path in report.hand_out(entries, places, say):
        records.read(path)
    failed = [name for name, status in done.items() if status != FINISHED]
    say(f"tried {len(done)} entries, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    sys.stdout.flush()
    return int(bool(failed))
