"""What must hold for a record, whoever made it: the first thing that does not, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compactvision.records.record import Record, SeedRun, Training

PROFILES = ("quick", "full")
KINDS = ("trained", "scaled", "dry")
LARGEST = 1e100  # of a number; statistics over seeds stay finite
LONGEST = 100  # of a name
CLOCKS = timedelta(days=1)  # by which clocks of machines may differ
_SLUG = re.compile(r"[a-z][a-z0-9_]{0,99}")
_ARM = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_COMMIT = re.compile(r"[0-9a-f]{6,64}")


def is_slug(name: object) -> bool:
    """Tell whether something is of the form of a chapter's name: at most 100 small letters, digits and underscores."""
    return isinstance(name, str) and _SLUG.fullmatch(name) is not None


def is_arm(name: object) -> bool:
    """Tell whether something is of the form of an arm's name: words joined by dots and hyphens."""
    return isinstance(name, str) and _ARM.fullmatch(name) is not None


def first_problem(record: Record) -> str | None:
    """Return what is wrong with a record, None for a good one."""
    return next(_problems(record), None)


def created_problem(record: Record) -> str | None:
    """Return what is wrong with the time at which a record says it was made, None for a time that has been."""
    return time_problem(record.created)


def time_problem(created: object) -> str | None:
    """Return why something is no time that has been, in ISO 8601 with its zone; None for one."""
    try:
        made = datetime.fromisoformat(created)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"field 'created' is {created!r:.80}, not a date and time"
    if made.tzinfo is None:
        return f"field 'created' is {created!r}, without a time zone"
    if made > datetime.now(UTC) + CLOCKS:
        return f"field 'created' is {created!r}, which lies in the future"
    return None


def _problems(record: Record) -> Iterator[str]:
    yield from _of_names(record)
    yield from _of_origin(record)
    known = PROFILES if record.training is None else KINDS
    if record.profile not in known:
        yield f"profile is {record.profile!r}, known are {', '.join(known)}"
    if not record.runs:
        yield "it holds no seed in 'runs'"
    for run in record.runs:
        yield from _of_run(run)
    if record.seeds != sorted(set(record.seeds)):
        yield f"seeds {record.seeds} are not in order or repeat"
    shape = _shape(record.runs[0])
    for run in record.runs[1:]:
        if _shape(run) != shape:
            yield f"seed {run.seed}: names or lengths of its values differ from those of seed {record.seeds[0]}"
    for name, band in record.bands.items():
        if name not in shape:
            yield f"band {name!r} has no value"
        if not _is_number(band) or band < 0:
            yield f"band {name!r} is {band!r}, not a number >= 0"


def _of_names(record: Record) -> Iterator[str]:
    for name in ("slug", "profile", "created", "method", "commit", "notebook"):
        value = getattr(record, name)
        optional = name in ("commit", "notebook") or (name == "method" and record.training is None)
        if not _is_text(value) and not (optional and value is None):
            yield f"field {name!r} is {value!r}, not text"
    if not is_slug(record.slug):
        yield f"field 'slug' is {record.slug!r}, not the name of a chapter"
    if record.commit is not None and not _COMMIT.fullmatch(record.commit):
        yield f"field 'commit' is {record.commit!r}, not the hexadecimal name of a commit"
    if not isinstance(record.dirty, bool):
        yield f"field 'dirty' is {record.dirty!r}, not true or false"


def _of_origin(record: Record) -> Iterator[str]:
    device = record.device
    if not _is_text(device.kind) or not _is_text(device.name) or not _is_count(device.threads) or device.threads < 1:
        yield f"field 'device' is {device!r}, not a kind, a name and a number of threads"
    if not isinstance(record.versions, dict) or not all(map(_is_text, [*record.versions, *record.versions.values()])):
        yield f"field 'versions' is {record.versions!r}, not texts by name"
    for source in record.data:
        if not all(map(_is_text, (source.name, source.provenance, source.digest))):
            yield f"field 'data' holds {source!r}, whose fields are not all text"
    if not isinstance(record.bands, dict):
        yield f"field 'bands' is {record.bands!r}, not numbers by name"
    if record.credit is not None and not (_is_text(record.credit) and len(record.credit) <= LONGEST):
        yield f"field 'credit' is {record.credit!r:.80}, not a name of at most {LONGEST} letters"
    if record.training is not None:
        yield from _of_training(record.training)
    if record.depends is not None and not _are_digests(record.depends):
        yield f"field 'depends' is {record.depends!r:.80}, not digests by name"
    if record.confirmed is not None:
        yield from _of_confirmed(record)


def _of_confirmed(record: Record) -> Iterator[str]:
    one = record.confirmed
    assert one is not None
    if not _is_text(one.commit) or not _COMMIT.fullmatch(one.commit):
        yield f"confirmed: field 'commit' is {one.commit!r:.80}, not the hexadecimal name of a commit"
    problem = time_problem(one.created)
    if problem:
        yield f"confirmed: {problem}"
    if not _are_digests(one.depends) or not _are_digests(one.versions):
        yield "confirmed: fields 'depends' and 'versions' are not texts by name"
    if one.seed not in record.seeds:
        yield f"confirmed: seed {one.seed!r} is none of the record's"
    if one.values != record.values_digest():
        yield "confirmed: field 'values' is the digest of other values than the record holds"


def _are_digests(names: object) -> bool:
    return isinstance(names, dict) and bool(names) and all(map(_is_text, [*names, *names.values()]))


def _of_training(training: Training) -> Iterator[str]:
    if not is_arm(training.arm):
        yield f"training: field 'arm' is {training.arm!r}, not a name"
    if not isinstance(training.files, list) or not all(map(_is_text, training.files)):
        yield f"training: field 'files' is {training.files!r}, not a list of paths inside the package"
    if not isinstance(training.recipe, dict) or not all(
        isinstance(value, str | bool) or _is_number(value) for value in training.recipe.values()
    ):
        yield f"training: field 'recipe' is {training.recipe!r}, not numbers, texts and truth values by name"


def _of_run(run: SeedRun) -> Iterator[str]:
    if not _is_count(run.seed) or run.seed >= 2**32:
        yield f"seed {run.seed!r} is not a whole number from 0 to 2**32 - 1"
    for name in ("seconds", "peak_memory_mb", "peak_gpu_memory_mb"):
        value = getattr(run, name)
        optional = name == "peak_gpu_memory_mb" and value is None
        if not optional and not (_is_number(value) and value >= 0):
            yield f"seed {run.seed}: field {name!r} is {value!r}, not a number >= 0"
    if not isinstance(run.values, dict):
        yield f"seed {run.seed}: field 'values' is {run.values!r}, not numbers by name"
    for name, value in run.values.items():
        if not _is_value(value):
            yield f"seed {run.seed}: value {name!r} is {value!r}, not a finite number or a list of them"


def _shape(run: SeedRun) -> dict[str, int | None]:
    return {name: len(value) if isinstance(value, list) else None for name, value in run.values.items()}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_value(value: object) -> bool:
    return _is_number(value) or (isinstance(value, list) and all(map(_is_number, value)))
