"""Shipped records: the digest of each is that of the code at the commit that it names."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from compactvision import records
from compactvision.records import provenance

PACKAGE = provenance.PACKAGE
SHIPPED = sorted(PACKAGE.glob("records/*/*.json"))


def git(*arguments: str) -> str:
    """Return what git prints in the package's folder."""
    command = ["git", "-C", str(PACKAGE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True).stdout


def content(name: str) -> bytes:
    """Return a file of a commit as it is stored: not all of them are texts."""
    return subprocess.run(["git", "-C", str(PACKAGE), "show", name], capture_output=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module", autouse=True)
def _history():
    """Skip without the whole history: in a download without git, or a shallow clone."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository here")
    if shallow != "false":
        pytest.skip("a shallow clone")


def test_records_are_shipped():
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_digest_is_that_of_the_commit(path: Path, tmp_path, monkeypatch):
    record = records.read(path)
    if record.training is None:
        claims = git("show", f"{record.commit}:./claims/{record.slug}.toml")
        files = tuple(tomllib.loads(claims)["chapter"]["files"])
    else:
        files = tuple(record.training.files)
    for name in git("ls-tree", "-r", "--name-only", str(record.commit), "--", *files).splitlines():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(f"{record.commit}:./{name}"))
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert not record.dirty
    assert records.method_digest(files) == record.method
