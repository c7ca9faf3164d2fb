"""A record is older exactly when something that it stands on has changed: tried in a copy of the tree."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from compactvision import claims, records
from compactvision.claims import rules
from compactvision.records import places

CELLS = {
    "net.accuracy": """
from compactvision import models
from compactvision.surgery import criteria

net = models.pretrained("resnet20_glyphs")
scores = criteria.l1()(net)
run.log("net.accuracy", 0.9)
run.log("first.score", float(next(iter(scores.values())).sum()))
run.log("baseline.accuracy", 0.8)
run.log("count", 12, band=0)
run.log("time.forward", 3.0)
""",
    "other": """
from compactvision import proximal
import torch

shrunk = proximal.soft_threshold(torch.ones(3), 0.5)
run.log("net.accuracy", float(shrunk.sum()))
run.log("count", 12, band=0)
""",
}


@pytest.fixture(scope="module")
def _made(tmp_path_factory, repo: Path) -> Path:
    """Return a copy of the tree with two tiny chapters and their records, made and committed."""
    root = tmp_path_factory.mktemp("copy")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(repo / "lib" / "compactvision", root / "lib" / "compactvision", ignore=skip)
    (root / "lib" / "pyproject.toml").write_text("")
    (root / "notebooks").mkdir()
    fixture = repo / "tests" / "fixtures" / "book"
    for slug, source in zip(("tiny", "other"), CELLS.values(), strict=True):
        text = (fixture / "claims" / "tiny.toml").read_text()
        (root / "lib/compactvision/claims" / f"{slug}.toml").write_text(text)
        start = f'from compactvision import experiment, plots\nrun = experiment.start("{slug}", '
        start += "profile=PROFILE, device=DEVICE, seed=SEED)"
        cells = ['PROFILE = "quick"\nDEVICE = "cpu"\nSEED = 0', start, source, 'plots.table([[1]], ["A"], "B")']
        (root / "notebooks" / f"{slug}.ipynb").write_text(json.dumps(notebook(cells)))
    git(root, "init", "-q")
    commit(root)
    for slug in ("tiny", "other"):
        done = command(root, "run", slug, "--seeds", "0", "1", "2", "--save", "--device", "cpu")
        assert "written: " in done.stdout, done.stdout + done.stderr
    commit(root)
    return root


def notebook(cells: list[str]) -> dict:
    """Return a notebook of code cells, the first with the parameters."""
    tags = [["parameters"], *([[]] * (len(cells) - 1))]
    made = [
        {"cell_type": "code", "metadata": {"tags": tag}, "source": cell, "outputs": [], "execution_count": None}
        for tag, cell in zip(tags, cells, strict=True)
    ]
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def git(root: Path, *arguments: str) -> None:
    """Call git in the copy."""
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *name, *arguments], check=True, capture_output=True, timeout=60)


def commit(root: Path) -> None:
    """Commit all of the copy."""
    git(root, "add", "-A", "-f")
    git(root, "commit", "-qm", "state")


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Call the copy's command line."""
    environment = {**os.environ, "PYTHONPATH": str(root / "lib"), "COMPACTVISION_CACHE": str(root / ".cache")}
    environment.pop("COMPACTVISION_BOOK", None)
    return subprocess.run(
        [sys.executable, *(["-m", "compactvision"] if arguments[0] != "-c" else []), *arguments],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
    )


@pytest.fixture
def copy(_made: Path) -> Iterator[Path]:
    """Return the copy, put back afterwards."""
    yield _made
    git(_made, "checkout", "-q", ".")
    git(_made, "clean", "-fdq", "-e", ".cache")


def older(root: Path) -> set[str]:
    """Return which of the two chapters' records are made by older code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COMPACTVISION_BOOK", raising=False)
        patch.setattr(places, "PACKAGE", root / "lib" / "compactvision")
        patch.setattr(places, "CHECKOUT", root)
        return {s for s in ("tiny", "other") if rules.is_older(records.load(s, "quick"), claims.load(s))}


def replaced(root: Path, file: str, before: str, after: str) -> None:
    """Write another text into a file of the copy's package."""
    path = root / "lib" / "compactvision" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


CHANGES = {
    "criterion": ("surgery/criteria.py", "weight.abs()", "-weight.abs()", {"tiny"}),
    "default": (
        "proximal.py",
        "soft_threshold(x: Tensor, kappa: float)",
        "soft_threshold(x: Tensor, kappa: float = 1)",
        {"other"},
    ),
    "constant": (
        "models/shipped.py",
        "partial(small.small_cnn, widths=(12, ",
        "partial(small.small_cnn, widths=(13, ",
        {"tiny"},
    ),
    "claims": ("claims/other.toml", "target = 12", "target = 13", {"other"}),
    "words": ("surgery/criteria.py", '"""', '"""A better word. ', set()),
    "drawing": ("plots/__init__.py", '"""', 'X = 1\n"""', set()),
}


def test_nothing_changed_and_a_new_file_make_none_older(copy):
    assert older(copy) == set()
    (copy / "lib/compactvision/surgery/new_file.py").write_text("def l1():\n    return 1\n")
    assert older(copy) == set()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_exactly_its_records_older(copy, name):
    file, before, after, expected = CHANGES[name]
    replaced(copy, file, before, after)
    assert older(copy) == expected


def test_a_weight_makes_exactly_its_records_older(copy):
    path = copy / "lib/compactvision/models/weights/resnet20_glyphs.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert older(copy) == {"tiny"}


@pytest.mark.parametrize(("before", "after", "expected"), [("0.5)", "0.25)", {"other"}), ("[[1]]", "[[2]]", set())])
def test_a_cell_makes_its_record_older_unless_it_draws(copy, before, after, expected):
    path = copy / "notebooks" / "other.ipynb"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    assert older(copy) == expected


def test_an_uncommitted_notebook_is_stamped_dirty_and_confirms_nothing(copy):
    path = copy / "notebooks" / "other.ipynb"
    path.write_text(path.read_text().replace("0.5)", "0.25)"))
    done = command(copy, "run", "other", "--record", str(copy / "r.json"), "--device", "cpu")
    assert json.loads((copy / "r.json").read_text())["dirty"] is True, done.stderr
    done = command(copy, "confirm", "other", "--device", "cpu")
    assert done.returncode == 2
    assert "commit them first" in done.stderr


def test_confirm_writes_what_ran_and_no_value_and_an_edit_is_refused(copy):
    replaced(copy, "surgery/criteria.py", "def l1(", "def l1(_x=1, ")
    commit(copy)
    assert older(copy) == {"tiny"}
    path = copy / "lib/compactvision/records/tiny/quick.json"
    before = json.loads(path.read_text())
    done = command(copy, "confirm", "tiny", "--device", "cpu", "--seed", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    assert older(copy) == set()
    after = json.loads(path.read_text())
    assert after["runs"] == before["runs"]
    assert after["confirmed"]["seed"] == 1
    assert "surgery/criteria.py:l1" in after["confirmed"]["depends"]
    after["runs"][0]["values"]["net.accuracy"] = 0.95
    after["digest"] = records.stored.content_digest(after)  # even who computes the outer digest anew
    path.write_text(json.dumps(after))
    done = command(copy, "list")
    assert done.returncode == 2
    assert "the digest of other values" in done.stderr
    git(copy, "reset", "-q", "--hard", "HEAD~1")


def test_other_values_are_not_confirmed(copy):
    path = copy / "notebooks" / "other.ipynb"
    path.write_text(path.read_text().replace("0.5)", "0.25)"))
    commit(copy)
    before = (copy / "lib/compactvision/records/other/quick.json").read_text()
    done = command(copy, "confirm", "other", "--device", "cpu")
    assert done.returncode == 1
    assert "DIFFERS: net.accuracy: 2.25, the record has 1.5, allowed" in done.stdout
    assert (copy / "lib/compactvision/records/other/quick.json").read_text() == before
    assert older(copy) == {"other"}
    git(copy, "reset", "-q", "--hard", "HEAD~1")


def test_shipped_records_say_older_or_what_they_stand_on():
    for slug in claims.slugs():
        for profile in records.PROFILES:
            record = records.load(slug, profile)
            if record is not None and record.latest_depends is None:
                assert rules.is_older(record, claims.load(slug))
