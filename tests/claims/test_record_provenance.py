"""Shipped records: the digests of each are those of the code at the commits that it names."""

import io
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
from compactvision import records
from compactvision.records import dependencies, places, provenance

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
    if record.method is None:
        pytest.skip("it names what ran, not files")
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


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_ran_is_as_in_the_commit(path: Path, tmp_path, monkeypatch):
    record = records.read(path)
    grounds = [(record.commit, record.depends)] if record.depends else []
    grounds += [(record.confirmed.commit, record.confirmed.depends)] if record.confirmed else []
    for commit, depends in grounds:
        root = tmp_path / str(commit)
        archive = subprocess.run(
            [
                "git",
                "-C",
                str(PACKAGE.parents[1]),
                "archive",
                str(commit),
                "lib/compactvision",
                "lib/pyproject.toml",
                "notebooks",
            ],
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(root, filter="data")
        monkeypatch.setattr(places, "PACKAGE", root / "lib" / "compactvision")
        monkeypatch.setattr(places, "CHECKOUT", root)
        assert dependencies.changed(depends) == []
