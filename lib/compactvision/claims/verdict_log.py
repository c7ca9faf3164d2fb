"""What verdicts were and what they became: read from the history of claims and records, kept in one file.

``python -m compactvision.claims.verdict_log`` in a clone with its history writes ``book/verdict-log.json`` anew. Each
past state of claims and records is judged by today's rules, so that a change in the log is one of claim or record.
Where the rules themselves have changed, ``--rule WHY`` notes each verdict that is another for it, as it stood in the
log before; these entries are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compactvision.claims.decision import LEVELS
from compactvision.claims.rules import SYMBOLS, WORDS, judge, verdicts
from compactvision.claims.schema import TRAINED, Claim, claim_of, load, slugs
from compactvision.plots.display import markdown_table
from compactvision.records import Record, stored
from compactvision.records.places import CHECKOUT, notebooks_folder
from compactvision.records.texts import parse_json, read_text, write_text

NAME = "verdict-log.json"
CLAIMS, RECORDS = "lib/compactvision/claims", "lib/compactvision/records"
EMPTY = "No change of a verdict is noted yet."


@dataclass(frozen=True)
class Change:
    """One verdict that became another: day, chapter, claim, levels before and after, and what was committed."""

    day: str
    slug: str
    claim: str
    before: str
    after: str
    why: str


def path() -> Path | None:
    """Return the place of the log in the book that is at hand, None where there is none."""
    folder = notebooks_folder()
    return folder.parent / "book" / NAME if folder else None


def read() -> dict[str, Any]:
    """Return the log, empty without one.

    ``changes`` are those of claims and records, ``rules`` those that a change of the rules brought, and ``state`` is
    the level of every claim after the last of them.
    """
    place = path()
    if place is None or not place.is_file():
        return {"changes": [], "rules": [], "state": {}}
    content = parse_json(read_text(place), place.name)
    if not isinstance(content, dict) or not isinstance(content.get("changes"), list):
        raise ValueError(f"{place.name}: no log of verdicts")
    return {"rules": [], **content}


def page() -> str:
    """Return the log in MyST Markdown, newest first."""
    rows = []
    log = read()
    newest = [*reversed(log["rules"]), *reversed(log["changes"])]
    for entry in sorted(newest, key=lambda entry: entry["day"], reverse=True):
        change = Change(**entry)
        chapter = load(change.slug) if change.slug in slugs() else None
        claims = {claim.id: claim for claim in chapter.claims} if chapter else {}
        claim = claims.get(change.claim)
        kind = "scaled" if claim is None else claim.kind
        steps = [f"{SYMBOLS[level]} {WORDS[kind][level]}" for level in (change.before, change.after)]
        title = chapter.title.partition(":")[0] if chapter else change.slug
        rows.append([change.day, title, claim.text if claim else change.claim, " → ".join(steps), change.why])
    if not rows:
        return EMPTY + "\n"
    return markdown_table(rows, ("Day", "Chapter", "Claim", "Verdict", "What was committed")) + "\n"


def state() -> dict[str, dict[str, str]]:
    """Return today's level of every claim by chapter."""
    return {slug: {found.claim.id: found.level for found in verdicts(slug)} for slug in slugs()}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout


def _commits(root: Path) -> Iterator[tuple[str, str, set[str]]]:
    """Yield hash, day and changed chapters of the commits that touched claims or records, oldest first."""
    log = _git(
        root, "log", "--first-parent", "-m", "--reverse", "--name-only", "--format=%x00%H %cs", "--", CLAIMS, RECORDS
    )
    for block in log.split("\0")[1:]:
        head, *names = block.strip().splitlines()
        files = [Path(name) for name in names if name]
        touched = {
            file.stem if file.suffix == ".toml" else file.parent.name
            for file in files
            if file.suffix in (".toml", ".json")
        }
        if touched:
            commit, day = head.split()
            yield commit, day, touched


def _reason(root: Path, commit: str, slug: str) -> str:
    """Return the last subject, not of a merge, that a commit brought for a chapter."""
    places = (f"{CLAIMS}/{slug}.toml", f"{RECORDS}/{slug}")
    try:
        said = _git(root, "log", "--no-merges", "-1", "--format=%s", f"{commit}^1..{commit}", "--", *places)
    except ValueError:  # the first commit has no parent
        said = ""
    return said.strip() or _git(root, "log", "-1", "--format=%s", commit).strip()


def _levels(root: Path, commit: str, slug: str) -> dict[str, str]:
    """Return the level of each claim of a chapter in a commit; claims and records of another form are left out."""
    try:
        claims = _claims(_git(root, "show", f"{commit}:{CLAIMS}/{slug}.toml"), f"{slug}.toml")
    except ValueError:  # the chapter is not there, or no longer
        return {}
    names = _git(root, "ls-tree", "-r", "--name-only", commit, f"{RECORDS}/{slug}/").split()
    found = [_record(_git(root, "show", f"{commit}:{name}"), name) for name in names if name.endswith(".json")]
    return {claim.id: _level(claim, [record for record in found if record is not None]) for claim in claims}


def _claims(text: str, name: str) -> list[Claim]:
    """Return those claims of a file that have today's form."""
    claims = []
    for number, entry in enumerate(tomllib.loads(text).get("claim", ()), start=1):
        with suppress(ValueError):
            claims.append(claim_of(entry, name, number))
    return claims


def _record(text: str, name: str) -> Record | None:
    """Return a record, also one from before records carried a digest; None where it has another form."""
    try:
        content = parse_json(text, name)
        content.setdefault("digest", stored.content_digest(content))
        return stored.from_json(json.dumps(content), name)
    except (ValueError, AttributeError):
        return None


def _level(claim: Claim, found: list[Record]) -> str:
    fitting = [record for record in found if record.profile == claim.profile]
    if claim.profile == TRAINED:
        fitting = [record for record in fitting if set(claim.rule.names) <= set(record.names)]
    return judge(claim, next(iter(fitting), None)).level


def from_history(root: Path) -> dict[str, Any]:
    """Return the log of a clone's history up to the commit that is checked out.

    The first verdict of a claim is no change, nor is a record that is made for the first time.

    Raises
    ------
    ValueError
        If git knows no history here.
    """
    known: dict[tuple[str, str], str] = {}
    changes: list[Change] = []
    for commit, day, touched in _commits(root):
        for slug in sorted(touched):
            for claim, level in _levels(root, commit, slug).items():
                before = known.get((slug, claim))
                if before not in (None, level, LEVELS[-1]):
                    changes.append(Change(day, slug, claim, before, level, _reason(root, commit, slug)))
                known[slug, claim] = level
    return {"changes": [vars(change) for change in changes], "state": state()}


def by_rule(before: dict[str, Any], now: dict[str, Any], why: str | None, day: str) -> list[dict[str, str]]:
    """Return the entries of a log for verdicts that no commit of claims or records has changed, old ones first.

    Parameters
    ----------
    before, now : dict
        The log as it was, and a new one from history.
    why : str or None
        What changed in the rules.
    day : str

    Raises
    ------
    ValueError
        If there are such verdicts and ``why`` says nothing.
    """
    noted = {(entry["day"], entry["slug"], entry["claim"]) for entry in before["changes"]}
    since = max((entry["day"] for entry in before["changes"]), default="")
    new = (one for one in now["changes"] if one["day"] >= since)
    told = {(one["slug"], one["claim"]) for one in new if (one["day"], one["slug"], one["claim"]) not in noted}
    found = [
        vars(Change(day, slug, claim, level, now["state"][slug][claim], why or ""))
        for slug, levels in before["state"].items()
        for claim, level in levels.items()
        if level != LEVELS[-1]  # a first verdict is no change
        and now["state"].get(slug, {}).get(claim, level) != level
        and (slug, claim) not in told
    ]
    if found and not why:
        first = found[0]
        raise ValueError(
            f"{len(found)} verdicts are others by no commit of claims or records, {first['slug']}/{first['claim']} for "
            "example: say with --rule what has changed in the rules"
        )
    return [*before["rules"], *found]


def main(arguments: list[str] | None = None) -> int:
    """Write the log of the clone that holds this package."""
    parser = argparse.ArgumentParser(prog="compactvision.claims.verdict_log", description=__doc__)
    parser.add_argument("--rule", metavar="WHY", help="what has changed in the rules of verdicts")
    asked = parser.parse_args(arguments)
    place = path()
    if place is None:
        raise ValueError("the log of verdicts belongs to a clone of the book, and there is none here")
    log = from_history(CHECKOUT)
    rules = by_rule(read(), log, asked.rule, datetime.now(UTC).date().isoformat())
    content = {"changes": log["changes"], "rules": rules, "state": log["state"]}
    write_text(place, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{place.relative_to(CHECKOUT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
