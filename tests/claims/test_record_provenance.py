"""Shipped records: the digest of each is that of the code at the commit that it names."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from compactvision import records
from compactvision.records import provenance

PACKAGE = provenance.PACKAGE
SHIPPED = sorted(PACKAGE.glob("records/*/*.json"))


def text_at(commit: str, name: str) -> str | None:
    """Return a file of the package as it was at a commit, None where git does not know it."""
    command = ["git", "-C", str(PACKAGE), "show", f"{commit}:./{name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def test_records_are_shipped():
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_digest_is_that_of_the_commit(path: Path, tmp_path, monkeypatch):
    record = records.read(path)
    claims = text_at(record.commit, f"claims/{record.slug}.toml")
    if claims is None:
        pytest.skip("the history of the repository is not here")
    files = tuple(tomllib.loads(claims)["chapter"]["files"])
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text_at(record.commit, name), encoding="utf-8")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert not record.dirty
    assert records.method_digest(files) == record.method
