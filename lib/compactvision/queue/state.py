"""Where jobs lie, how far they are, and what is finished: all of it in files, so that any later call can tell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compactvision import records
from compactvision.queue.entries import ENTRIES, FULL, Entry
from compactvision.records import Record
from compactvision.records.provenance import text_digest
from compactvision.records.texts import write_text

RECORD, CHECKPOINT, RESULT = "record.json", "fit.pt", "result.safetensors"
PROGRESS, IDENTITY = "progress.json", "identity.json"
CODE = (
    "data",
    "explanation",
    "measure",
    "models",
    "pruning",
    "queue",
    "surgery",
    "training",
    "hooks.py",
    "proximal.py",
)


@dataclass(frozen=True)
class Places:
    """Where to look for what is done.

    Attributes
    ----------
    work : Path
        Jobs' folders; has to outlast a call.
    out : Path
        Finished records and results; also those of an earlier machine, brought along.
    kind : str
        "trained", "scaled" or "dry": each kind has its folders, so that none is taken for another.
    """

    work: Path
    out: Path
    kind: str

    def folder(self, entry: Entry, seed: int) -> Path:
        """Return the folder of one job."""
        return self.work / self.kind / f"{entry.slug}-{entry.arm}-{seed}"

    def record_path(self, entry: Entry) -> Path:
        """Return where the entry's record goes in ``out``."""
        name = f"{FULL}.json" if self._is_notebooks(entry) else f"{self.kind}-{entry.arm}.json"
        return self.out / "records" / entry.slug / name

    def result_path(self, entry: Entry, seed: int) -> Path:
        """Return where tensors that a job kept go in ``out``."""
        return self.out / "results" / f"{self.kind}-{entry.slug}-{entry.arm}-{seed}.safetensors"

    def result(self, entry: Entry, seed: int) -> Path | None:
        """Return where tensors that a job kept are, None if it has not finished or kept none."""
        own = self.folder(entry, seed)
        found = [own / RESULT] if (own / RECORD).is_file() else []
        found.append(self.result_path(entry, seed))
        return next((path for path in found if path.is_file()), None)

    def record(self, entry: Entry, seed: int) -> Record | None:
        """Return a record that holds the seed: of the work folder, of ``out``, or shipped with the package."""
        for path in (self.folder(entry, seed) / RECORD, self.record_path(entry)):
            record = _read(path)
            if record is not None and seed in record.seeds:
                return record
        return None if self.kind != "trained" else _shipped(entry, seed)

    def finished(self, entry: Entry, seed: int, entries: Iterable[Entry] = ENTRIES) -> bool:
        """Tell whether a job need not be done: there is a record, and tensors where an open entry starts from them."""
        if self.record(entry, seed) is None:
            return False
        entries = tuple(entries)
        wanted = [other for other in entries if entry.name in other.needs and seed in other.seeds]
        if self.result(entry, seed) is not None:
            return True
        return all(self.finished(other, seed, entries) for other in wanted)

    def _is_notebooks(self, entry: Entry) -> bool:
        return entry.kind == FULL and self.kind != "dry"


def _read(path: Path) -> Record | None:
    try:
        return records.read(path)
    except (OSError, ValueError):
        return None


def _shipped(entry: Entry, seed: int) -> Record | None:
    if entry.kind == FULL:
        found = [records.load(entry.slug, FULL)]
        found = [record for record in found if record is not None and record.device.kind == "cuda"]
    else:
        found = [r for r in records.load_arms(entry.slug) if r.training is not None and r.training.arm == entry.arm]
    return next((record for record in found if seed in record.seeds), None)


def progress(folder: Path) -> dict[str, Any]:
    """Return how far a job is, empty for one that never began. ``seconds_before`` are those of its former pieces."""
    content = _json(folder / PROGRESS)
    return {**content, "seconds_before": content.get("seconds", 0.0)} if content else {}


def write_progress(folder: Path, content: dict[str, Any]) -> None:
    """Write how far a job is."""
    write_text(folder / PROGRESS, json.dumps(content, indent=1) + "\n")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@cache
def code() -> str:
    """Return the digest of the code behind all arms."""
    return text_digest(CODE)


def prepare(folder: Path, identity: dict[str, Any]) -> None:
    """Make a job's folder, or take up what is there; what other code, versions, device or scale left is set aside."""
    found = _json(folder / IDENTITY)
    if found and found != identity:
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / IDENTITY, json.dumps(identity, indent=1) + "\n")
