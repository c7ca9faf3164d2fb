"""Which test runs which line, and how long it takes: recorded once for each state of package and tests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "lib" / "compactvision"
TESTS = REPOSITORY / "tests"
NOTED = "MUTANTS_TIMES"
WHERE = ("pruning", "explanation", "surgery", "test_examples.py")
"""Tests that are run, below ``tests``."""


@dataclass(frozen=True)
class Contexts:
    """``lines``: file below the package -> line -> tests; ``seconds``: of each test that passes."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def tests(self, path: str, first: int, last: int) -> list[str]:
        """Tests that run one of these lines, the fastest first; all of the file's where only the import runs them."""
        lines = self.lines.get(path, {})
        found = {test for line in range(first, last + 1) for test in lines.get(line, [])}
        if not found:
            found = {test for tests in lines.values() for test in tests}
        return sorted(found, key=lambda test: (self.seconds[test], test))


def digest() -> str:
    """Of everything that decides what a mutant does."""
    files = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.toml"), *TESTS.rglob("*.py")])
    files = [path for path in files if path.parent.name != "mutants"]
    return hashlib.sha256(b"".join(path.as_posix().encode() + path.read_bytes() for path in files)).hexdigest()[:16]


def contexts(folder: Path, where: tuple[str, ...], processes: int) -> Contexts:
    """Read what is recorded in a folder, or run the tests and record it."""
    file = folder / "contexts.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _run(folder, where, processes)
        file.write_text(json.dumps(_read(folder)), encoding="utf-8")
    kept = json.loads(file.read_text(encoding="utf-8"))
    lines = {path: {int(line): tests for line, tests in found.items()} for path, found in kept["lines"].items()}
    return Contexts(lines, kept["seconds"])


def _run(folder: Path, where: tuple[str, ...], processes: int) -> None:
    settings = folder / "coveragerc"
    settings.write_text(f"[run]\nsource = {PACKAGE}\ndata_file = {folder / 'coverage'}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", *(str(TESTS / place) for place in where), "-q", "-p", "no:cacheprovider",
               "-p", "mutants.record", "-n", str(processes), "--dist", "loadfile", "--cov", "--cov-context=test",
               f"--cov-config={settings}", "--cov-report="]  # fmt: skip
    paths = os.pathsep.join([str(REPOSITORY / "lib"), str(TESTS)])
    subprocess.run(command, env={**os.environ, "PYTHONPATH": paths, NOTED: str(folder / "seconds.json")}, check=False)


def _read(folder: Path) -> dict:
    from coverage import CoverageData

    seconds = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    data = CoverageData(str(folder / "coverage"))
    data.read()
    lines: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        found = {line: sorted({name.partition("|")[0] for name in names} & seconds.keys())
                 for line, names in data.contexts_by_lineno(file).items()}  # fmt: skip
        lines[Path(file).relative_to(PACKAGE).as_posix()] = {line: tests for line, tests in found.items() if tests}
    return {"lines": lines, "seconds": seconds}


_seconds: dict[str, float] = {}
_failed: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the seconds of a test; as a plugin of pytest."""
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if report.outcome != "passed":
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write them down, in the process that sees all tests."""
    if NOTED in os.environ and not hasattr(session.config, "workerinput"):
        passed = {name: round(took, 3) for name, took in _seconds.items() if name not in _failed}
        Path(os.environ[NOTED]).write_text(json.dumps(passed), encoding="utf-8")
