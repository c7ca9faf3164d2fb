"""The record of an experiment on disk: JSON that carries a digest of its own content, each file at its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from compactvision.records.arguments import instances, path_from, texts
from compactvision.records.checks import KINDS, PROFILES, created_problem, is_arm, is_slug
from compactvision.records.places import records_folder
from compactvision.records.provenance import Device
from compactvision.records.record import Confirmed, DataSource, Record, SeedRun, Training
from compactvision.records.texts import parse_json, read_text, write_text

SCHEMA = 1


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest of a record's content but for the digest itself, whatever its layout.

    It tells an edit by hand and a damage; it is no signature, which would keep out who computes it anew.
    """
    own = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(record: Record) -> str:
    """Return the record as JSON text: the same text for the same record, one value a line, its digest last."""
    content = {"schema": SCHEMA, **asdict(record)}
    if record.training is None:
        del content["training"]
    for name in ("depends", "confirmed", "credit"):
        if content[name] is None:
            del content[name]
    if record.depends is not None:
        content["values"] = record.values_digest()
    content["digest"] = content_digest(content)
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _build(kind: type, content: object, where: str) -> Any:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} is not an object")
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    missing = sorted(known - set(content))
    if missing:
        raise ValueError(f"{where}: field {missing[0]!r} is missing")
    return kind(**content)


def from_json(text: str, where: str) -> Record:
    """Return the record that JSON text holds.

    Raises
    ------
    ValueError
        Naming ``where``, and what is wrong: the field that is malformed, or that the content is not what was written.
    """
    content = parse_json(text, where)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{where}: field 'schema' is not {SCHEMA}")
    if "digest" not in content:
        raise ValueError(f"{where}: field 'digest' is missing; records of older releases have to be made anew")
    if content["digest"] != content_digest(content):
        raise ValueError(f"{where}: was changed by hand or damaged, its content has another digest than it says")
    del content["schema"], content["digest"]
    for name in ("runs", "data"):
        if not isinstance(content.get(name), list):
            raise ValueError(f"{where}: field {name!r} is not a list")
    content["runs"] = [_build(SeedRun, run, f"{where}: run {i}") for i, run in enumerate(content["runs"])]
    content["data"] = [_build(DataSource, item, f"{where}: data {i}") for i, item in enumerate(content["data"])]
    content["device"] = _build(Device, content.get("device"), f"{where}: device")
    content.setdefault("credit", None)
    training = content.setdefault("training", None)
    if training is not None:
        content["training"] = _build(Training, training, f"{where}: training")
    values = content.pop("values", None)
    if (content.setdefault("depends", None) is None) != (values is None):
        raise ValueError(f"{where}: fields 'depends' and 'values' go together")
    confirmed = content.setdefault("confirmed", None)
    if confirmed is not None:
        found: Confirmed = _build(Confirmed, confirmed, f"{where}: confirmed")
        content["confirmed"] = replace(found, device=_build(Device, found.device, f"{where}: confirmed: device"))
    try:
        record = _build(Record, content, where)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    problem = created_problem(record)
    if problem:
        raise ValueError(f"{where}: {problem}")
    if values is not None and values != record.values_digest():
        raise ValueError(f"{where}: field 'values' is the digest of other values than the record holds")
    return record


def read(path: Path, where: str | None = None) -> Record:
    """Read a record.

    Raises
    ------
    ValueError
        If ``path`` is none; naming the file (``where`` says how) and what is wrong: see :func:`from_json`.
    OSError
        If it is not there or cannot be read.
    """
    path = path_from(path)
    where = path.name if where is None else where
    texts(where=where)
    return from_json(read_text(path, where), where)


def write(record: Record, path: Path) -> None:
    """Write a record atomically.

    Raises
    ------
    ValueError
        If ``record`` is no record or ``path`` no path.
    OSError
        If the file cannot be written.
    """
    instances(Record, record=record)
    write_text(path_from(path), to_json(record))


def path_of(slug: str, profile: str, arm: str | None = None) -> Path:
    """Return the path of a chapter's record of a profile, or of one of its arms.

    Raises
    ------
    ValueError
        If one of the three is no such name.
    """
    known = PROFILES if arm is None else KINDS
    if profile not in known:
        raise ValueError(f"profile: {profile!r:.80} is not one of {', '.join(known)}")
    if arm is not None and not is_arm(arm):
        raise ValueError(f"arm: {arm!r:.80} is not the name of an arm")
    return _folder(slug) / (f"{profile}.json" if arm is None else f"{profile}-{arm}.json")


def _folder(slug: str) -> Path:
    if not is_slug(slug):
        raise ValueError(f"slug: {slug!r} is not the name of a chapter")
    return records_folder() / slug


def load(slug: str, profile: str) -> Record | None:
    """Return the shipped record of a chapter and profile, None where there is none.

    Raises
    ------
    ValueError
        If the profile is unknown or the file is malformed, was changed, or belongs to another chapter.
    OSError
        If the file cannot be read.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: {profile!r} is not one of {', '.join(PROFILES)}")
    path = path_of(slug, profile)
    if not path.exists():
        return None
    record = read(path, f"records/{slug}/{path.name}")
    if (record.slug, record.profile) != (slug, profile):
        raise ValueError(f"records/{slug}/{path.name}: it is the record of {record.slug}/{record.profile}")
    return record


def load_arms(slug: str, kind: str = "trained") -> list[Record]:
    """Return the shipped records of a chapter's arms, by the arms' names.

    Raises
    ------
    ValueError
        If the kind is unknown, or a file is malformed, was changed, or belongs elsewhere.
    OSError
        If a file cannot be read.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    found = []
    for path in sorted(_folder(slug).glob(f"{kind}-*.json")):
        where = f"records/{slug}/{path.name}"
        record = read(path, where)
        arm = record.training.arm if record.training else None
        if (record.slug, f"{record.profile}-{arm}") != (slug, path.stem):
            raise ValueError(f"{where}: it is the record of {record.slug}/{record.profile}, arm {arm}")
        found.append(record)
    return found


def save(record: Record) -> Path:
    """Write a record to its place and return the path."""
    path = path_of(record.slug, record.profile, record.training.arm if record.training else None)
    write(record, path)
    return path
