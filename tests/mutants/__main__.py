"""``python -m mutants``: a sample of mutants, how many are killed, and the survivors."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import changes, hunt, record
from .changes import Mutant

FAMILIES = ("pruning", "explanation", "surgery")
JUDGED = Path(__file__).with_name("judged.toml")
KILLED = (hunt.KILLED, hunt.TIMED)


def main() -> int:
    """Take the sample, run what has no result yet, print the table."""
    options = argparse.ArgumentParser(prog="mutants", description=__doc__)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="part of the files' paths below the package")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--tests", nargs="+", default=record.WHERE, help="below tests")
    options.add_argument("--work", type=Path, default=record.REPOSITORY / ".mutants", help="for what is recorded")
    given = options.parse_args()
    start = time.monotonic()
    folder = given.work / f"{record.digest()}{'' if given.tests == record.WHERE else '-some'}"
    contexts = record.contexts(folder, tuple(given.tests), given.processes)
    print(f"{len(contexts.seconds)} tests recorded, {time.monotonic() - start:.0f} s", flush=True)
    chosen = sample(given.only, given.count, given.seed)
    kept = folder / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    left = [mutant for mutant in chosen if mutant.key not in results]
    for mutant, outcome, tests in hunt.hunted(left, contexts, given.processes):
        results[mutant.key] = [outcome, tests]
        kept.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print(f"{outcome:15} {tests:4} tests  {mutant.key}", flush=True)
    print(report(chosen, results, judged()))
    print(f"{len(left)} of {len(chosen)} mutants run, {time.monotonic() - start:.0f} s")
    return 0


def sample(only: str, count: int, seed: int) -> list[Mutant]:
    """Draw mutants of the files whose path has a part."""
    files = sorted(
        path.relative_to(record.PACKAGE).as_posix() for f in FAMILIES for path in record.PACKAGE.rglob(f"{f}/**/*.py")
    )
    found = [mutant for path in files if only in path for mutant in changes.mutants(record.PACKAGE, path)]
    return random.Random(seed).sample(found, min(count, len(found)))


def judged() -> dict[str, str]:
    """Key of a mutant -> why it computes the same."""
    return {
        row["key"]: row["reason"] for row in tomllib.loads(JUDGED.read_text(encoding="utf-8")).get("equivalent", [])
    }


def report(chosen: Iterable[Mutant], results: Mapping[str, list], reasons: Mapping[str, str]) -> str:
    """Outcomes by file, and the survivors with what was changed."""
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    lines = []
    for mutant in chosen:
        outcome = results[mutant.key][0]
        word = "killed" if outcome in KILLED else "equivalent" if mutant.key in reasons else "survived"
        by_file[mutant.path][word] += 1
        by_file["ALL"][word] += 1
        if word != "killed":
            lines += [f"{mutant.path}:{mutant.line} {outcome}, {results[mutant.key][1]} tests", f"  - {mutant.old}",
                      f"  + {mutant.new}", f"  key: {mutant.key}"]  # fmt: skip
            lines += [f"  judged equivalent: {reasons[mutant.key]}"] if word == "equivalent" else []
    words = ("killed", "survived", "equivalent")
    width = max(map(len, by_file))
    table = [f"{'':{width}} " + " ".join(f"{word:>10}" for word in words)]
    table += [
        f"{file:{width}} " + " ".join(f"{by_file[file][w] or '.':>10}" for w in words) for file in sorted(by_file)
    ]
    killed, survived = by_file["ALL"]["killed"], by_file["ALL"]["survived"]
    share = f"killed: {killed} of {killed + survived}, {100 * killed / max(killed + survived, 1):.1f} %"
    return "\n".join([*lines, "", *table, share])


if __name__ == "__main__":
    sys.exit(main())
