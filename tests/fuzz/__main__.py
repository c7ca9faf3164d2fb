"""``python -m fuzz``: the table of a run, and the lines that repeat what ended raw."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from .judge import OUTCOMES
from .public import public
from .session import Trial, trials

LISTED = ("torch", "raw value", "raw type", "nonsense", "unnamed", "hang", "killed")


def main() -> int:
    """Run the fuzzer; return the exit status."""
    options = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--count", type=int, default=16, help="calls of each function")
    options.add_argument("--only", default="", help="part of the names of the functions")
    options.add_argument("--list", type=Path, help="file for the lines that repeat what ended badly")
    options.add_argument("--torch", type=int, help="status 1 where more errors than this come from inside torch")
    given = options.parse_args()
    names = [name for name in public() if given.only in name]
    start = time.monotonic()
    found = list(trials(names, given.count, given.seed))
    print(table(found))
    print(f"{len(found)} calls of {len(names)} functions, seed {given.seed}, {time.monotonic() - start:.0f} s")
    if given.list:
        given.list.write_text(listing(found), encoding="utf-8")
        print(f"what ended badly: {given.list}")
    raw = sum(trial.outcome == "torch" for trial in found)
    return int(given.torch is not None and raw > given.torch)


def table(found: Sequence[Trial]) -> str:
    """Outcomes by package and function."""
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in found:
        for row in ("ALL", package(trial.name), trial.name):
            by_name[row][trial.outcome] += 1
    packages = sorted({package(trial.name) for trial in found})
    rows = ["ALL", *packages, *sorted({trial.name for trial in found})]
    width = max(map(len, rows))
    lines = [f"{'':{width}} " + " ".join(f"{outcome:>9}" for outcome in OUTCOMES)]
    lines += [f"{row:{width}} " + " ".join(f"{by_name[row][o] or '.':>9}" for o in OUTCOMES) for row in rows]
    return "\n".join(lines)


def listing(found: Sequence[Trial]) -> str:
    """Everything that ended badly, worst first, as lines of Python."""
    lines = ['# PYTHONPATH=lib:tests .venv/bin/python -c "from fuzz import again; again(...)"']
    for outcome in LISTED:
        chosen = [trial for trial in found if trial.outcome == outcome]
        lines += ["", f"# {outcome}: {len(chosen)}", *(f"{trial.line}  # {trial.detail}" for trial in chosen)]
    return "\n".join(lines) + "\n"


def package(name: str) -> str:
    """The package of a function; of a family, the paper's."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] in ("pruning", "explanation") else 1])


if __name__ == "__main__":
    sys.exit(main())
