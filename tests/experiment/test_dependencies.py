"""A record is older exactly when something that it stands on has changed: tried in a copy of the tree."""

import ast
import hashlib
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

WEIGHTS = "lib/compactvision/models/weights/resnet20_glyphs.safetensors"
FULL_CLAIM = """
[[claim]]
id = "of-the-full-run"
text = "It is so."
source = "Table 2"
kind = "scaled"
profile = "full"
refuted_by = "It is not."
rule = { value = "net.accuracy", above = 0.5 }

"""
CELLS = {
    "tiny": """
from compactvision import models
from compactvision.pruning.dcff import published
from compactvision.surgery import criteria

net = models.pretrained("resnet20_glyphs")
scores = criteria.l1()(net)
run.log("net.accuracy", 0.9)
run.log("first.score", float(next(iter(scores.values())).sum()))
run.log("baseline.accuracy", 0.8 + 0.001 * SEED)
run.log("count", 12, band=0)
run.log("rates", len(published.PUBLISHED))
run.log("time.forward", 3.0 + SEED)
""",
    "other": """
from compactvision import proximal
import torch

shrunk = proximal.soft_threshold(torch.ones(3), 0.5)
run.log("net.accuracy", float(shrunk.mean()))
run.log("count", 12, band=0)
""",
}


@pytest.fixture(scope="module")
def _made(tmp_path_factory, repo: Path) -> Path:
    """Return a copy of the tree with two tiny chapters and their records, made and committed."""
    root = tmp_path_factory.mktemp("copy")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", "quick.json", "full.json", "trained-*.json")
    shutil.copytree(repo / "lib" / "compactvision", root / "lib" / "compactvision", ignore=skip)
    for path in (root / "lib/compactvision/claims").glob("*.toml"):
        path.unlink()
    (root / "lib" / "pyproject.toml").write_text("")
    (root / ".gitignore").write_text("__pycache__\n")
    (root / "notebooks").mkdir()
    fixture = repo / "tests" / "fixtures" / "book"
    for slug, source in CELLS.items():
        text = (fixture / "claims" / "tiny.toml").read_text()
        (root / "lib/compactvision/claims" / f"{slug}.toml").write_text(text)
        start = f'from compactvision import experiment, plots\nrun = experiment.start("{slug}", '
        start += "profile=PROFILE, device=DEVICE, seed=SEED)"
        cells = ['PROFILE = "quick"\nDEVICE = "cpu"\nSEED = 0', start, source, 'plots.table([[1]], ["A"], "B")']
        (root / "notebooks" / f"{slug}.ipynb").write_text(json.dumps(notebook(cells)))
    git(root, "init", "-q")
    commit(root)
    for slug in CELLS:
        done = command(root, "run", slug, "--seeds", "0", "1", "--save", "--device", "cpu")
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
    git(root, "add", "-A")
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
        timeout=400,
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
        return {slug for slug in CELLS if rules.is_older(records.load(slug, "quick"))}


def replaced(root: Path, file: str, before: str, after: str) -> None:
    """Write another text into a file of the copy's package."""
    path = root / "lib" / "compactvision" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def rewrite(root: Path, slug: str, before: str, after: str) -> None:
    """Write another text into the cells of a notebook."""
    path = root / "notebooks" / f"{slug}.ipynb"
    text = path.read_text()
    before, after = (json.dumps(part)[1:-1] for part in (before, after))
    assert before in text
    path.write_text(text.replace(before, after, 1))


def flip(path: Path) -> None:
    """Change the last byte of a file."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def record_of(root: Path, slug: str) -> Path:
    """Return the path of a chapter's record in the copy."""
    return root / "lib/compactvision/records" / slug / "quick.json"


def values_digest(content: dict) -> str:
    """Return the digest of the values in a record's JSON."""
    values = {str(run["seed"]): run["values"] for run in content["runs"]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


CHANGES = {
    "criterion": ("surgery/criteria.py", "weight.abs()", "-weight.abs()", {"tiny"}),
    "criterion-not-used": (
        "surgery/criteria.py",
        "weight.flatten(1).norm(dim=1)",
        "-weight.flatten(1).norm(dim=1)",
        set(),
    ),
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
    "table": ("pruning/dcff/rates.toml", "0.3", "0.4", {"tiny"}),
    "read-on-import": ("pruning/dcff/published.py", 'tuple(row["rates"])', 'tuple(row["rates"][1:])', {"tiny"}),
    "seeding": ("experiment/run.py", "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)", {"tiny", "other"}),
    "claims": ("claims/other.toml", "target = 12", "target = 13", {"other"}),
    "claims-of-the-other-profile": ("claims/other.toml", "[[claim]]", FULL_CLAIM + "[[claim]]", set()),
    "words": ("surgery/criteria.py", '"""', '"""A better word. ', set()),
    "words-of-a-function": (
        "proximal.py",
        "Return the proximal map of the l1 norm",
        "Return that of the l1 norm",
        set(),
    ),
    "comment": ("proximal.py", "# a zero is never -0.0", "# no zero is -0.0", set()),
    "annotation": ("proximal.py", "soft_threshold(x: Tensor, kappa: float)", "soft_threshold(x: Tensor, kappa)", set()),
    "error": ("proximal.py", "kappa must be a finite number", "kappa is to be a finite number", set()),
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
    flip(copy / WEIGHTS)
    assert older(copy) == {"tiny"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("0.5)", "0.25)", {"other"}),
        ("[[1]]", "[[2]]", set()),
        ("[[1]]", "[[float(shrunk.mean())]]", {"other"}),  # a call inside a drawing may change what follows
    ],
)
def test_a_cell_makes_its_record_older_unless_it_only_draws(copy, before, after, expected):
    rewrite(copy, "other", before, after)
    assert older(copy) == expected


@pytest.mark.parametrize("what", ["notebook", "claims", "weight", "code"])
def test_what_is_not_committed_is_stamped_dirty_and_confirms_nothing(copy, what):
    if what == "notebook":
        rewrite(copy, "other", "0.5)", "0.25)")
    elif what == "weight":
        flip(copy / WEIGHTS)
    else:
        file = {"claims": "claims/other.toml", "code": "proximal.py"}[what]
        replaced(copy, file, "12" if what == "claims" else "kappa", "13" if what == "claims" else "kappa ")
    stamp = "from compactvision import records; print(records.commit('other')[1], records.commit('tiny')[1])"
    told = command(copy, "-c", stamp).stdout.split()
    assert told == ["True", str(what in ("weight", "code"))]
    done = command(copy, "confirm", "other", "--device", "cpu")
    assert (done.returncode, "commit them first" in done.stderr) == (2, True)
    if what == "notebook":
        command(copy, "run", "other", "--record", "r.json", "--device", "cpu")
        assert json.loads((copy / "r.json").read_text())["dirty"] is True


def test_a_file_that_changes_while_it_runs_is_stamped_dirty_though_it_was_committed(copy):
    late = (
        "import pathlib, subprocess, compactvision\n"
        "path = pathlib.Path(compactvision.__file__).with_name('proximal.py')\n"
        "path.write_text(path.read_text() + '# late')\n"
        "subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qam', 'late'], check=True)\n"
    )
    rewrite(copy, "other", CELLS["other"], CELLS["other"] + late)
    commit(copy)
    command(copy, "run", "other", "--record", "r.json", "--device", "cpu")
    found = json.loads((copy / "r.json").read_text())
    git(copy, "reset", "-q", "--hard", "HEAD~2")
    assert found["dirty"] is True


def test_confirm_writes_what_ran_and_no_value_and_an_edit_is_refused(copy):
    replaced(copy, "surgery/criteria.py", "def l1(", "def l1(_x=1, ")
    commit(copy)
    assert older(copy) == {"tiny"}
    path = record_of(copy, "tiny")
    before = json.loads(path.read_text())
    done = command(copy, "confirm", "tiny", "--device", "cpu", "--seed", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "5 values compared; confirmed" in done.stdout + done.stderr
    assert older(copy) == set()
    after = json.loads(path.read_text())
    assert [after[name] for name in ("runs", "depends")] == [before[name] for name in ("runs", "depends")]
    assert after["confirmed"]["seed"] == 1
    assert after["confirmed"]["device"]["threads"] == 1
    assert "surgery/criteria.py:l1" in after["confirmed"]["depends"]
    git(copy, "checkout", "-q", "HEAD~1", "--", "lib/compactvision/surgery")  # the code that made it is no older code
    assert older(copy) == set()
    for change in (lambda one: one["confirmed"], lambda one: one):
        edited = json.loads(path.read_text())
        edited["runs"][0]["values"]["net.accuracy"] = 0.95
        own = change(edited)
        own["values"] = values_digest(edited)  # who computes all digests but one anew
        edited["digest"] = records.stored.content_digest(edited)
        (copy / "edited.json").write_text(json.dumps(edited))
        with pytest.raises(ValueError, match="the digest of other values"):
            records.read(copy / "edited.json")
    git(copy, "reset", "-q", "--hard", "HEAD~1")


def test_other_values_are_not_confirmed(copy):
    rewrite(copy, "other", "0.5)", "0.25)")
    commit(copy)
    before = record_of(copy, "other").read_text()
    done = command(copy, "confirm", "other", "--device", "cpu")
    assert done.returncode == 1
    assert "DIFFERS: net.accuracy: 0.75, the record has 0.5, allowed 0.02" in done.stdout
    assert record_of(copy, "other").read_text() == before
    assert older(copy) == {"other"}
    git(copy, "reset", "-q", "--hard", "HEAD~1")


READING = [
    ["list"],
    ["scorecard", "--json"],
    ["scorecard", "--pages", "pages"],
    ["-c", "from compactvision.claims import verdict_log; verdict_log.from_history(verdict_log.CHECKOUT)"],
]


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: " ".join(arguments[:2])[:20])
def test_what_only_reads_renews_no_digest(copy, arguments):
    replaced(copy, "surgery/criteria.py", "weight.abs()", "-weight.abs()")
    before = {path: path.read_bytes() for path in copy.rglob("records/*/*.json")}
    done = command(copy, *arguments)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in copy.rglob("records/*/*.json")} == before
    assert older(copy) == {"tiny"}


def test_nothing_but_runs_and_confirmations_writes_records(repo):
    writers, writing = set(), {"records.save", "records.write", "stored.save", "Confirmed"}
    for path in (repo / "lib" / "compactvision").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            called = {ast.unparse(part.func) for part in ast.walk(function) if isinstance(part, ast.Call)}
            if isinstance(function, ast.FunctionDef) and called & writing:
                writers.add(f"{path.stem}.{function.name}")
    assert writers == {
        "__main__._run",  # what `collect` returned
        "collect.collect",  # finished seeds in the cache
        "worker.main",  # of a seed
        "worker.work",  # of a job of the queue
        "confirm.confirm",
        "confirm.confirmed",
        "report.hand_out",  # finished jobs
        "report.keep",  # records that came from another machine
    }


def test_shipped_records_without_grounds_are_older():
    for slug in claims.slugs():
        for profile in records.PROFILES:
            record = records.load(slug, profile)
            if record is not None and not record.grounds:
                assert rules.is_older(record)
