"""Records and claim files made by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from compactvision.records import Device, Record, SeedRun


def make_record(values: list[dict], *, profile: str = "quick", slug: str = "tiny", **others) -> Record:
    """Return a record with one seed for each dict of values."""
    fields = {
        "slug": slug,
        "profile": profile,
        "created": "2026-11-21T10:00:00+00:00",
        "commit": "0123456789abcdef",
        "dirty": False,
        "method": "m",
        "notebook": None,
        "device": Device("cpu", "A processor", 2),
        "versions": {"torch": "2.11.0"},
        "data": [],
        "runs": [SeedRun(seed, 10.0 + seed, 500.0, dict(one)) for seed, one in enumerate(values)],
        "bands": {},
    }
    return Record(**(fields | others))


@pytest.fixture(name="make_record")
def _make_record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty book in a temporary folder."""
    for name in ("claims", "records", "notebooks"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("COMPACTVISION_BOOK", str(tmp_path))
    return tmp_path
