"""How a record stands to today's code, in words."""

from __future__ import annotations

from compactvision import records
from compactvision.claims.rules import is_older
from compactvision.records import PROFILES, Record, dependencies

OLDER = "made by older code"
TODAY = "of today's code"


def confirmation(record: Record) -> str | None:
    """Return "confirmed at 4d5e6f7a8, 2026-11-28" where a run gave the values again, None where none did."""
    own = record.confirmed
    return f"confirmed at {own.commit[:9]}, {own.created[:10]}" if own else None


def origin(record: Record) -> str:
    """Return whether a record is of today's code, was confirmed with it, or is of older code, last confirmed when."""
    told = confirmation(record)
    if is_older(record):
        return f"{OLDER}, last {told}" if told else OLDER
    return told if record.confirmed and told and not dependencies.changed(record.confirmed.depends) else TODAY


def origins(slug: str) -> str:
    """Return the profiles of a chapter's records, each with its origin; empty where there are none."""
    found = {profile: records.load(slug, profile) for profile in PROFILES}
    return "; ".join(f"{profile}, {origin(record)}" for profile, record in found.items() if record is not None)
