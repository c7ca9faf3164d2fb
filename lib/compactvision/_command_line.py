"""Commands and options of ``python -m compactvision``; what they do is in ``__main__``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from compactvision.queue.options import add_arguments
from compactvision.records import PROFILES
from compactvision.shrinking import options


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m compactvision``; ``command`` of what it returns names the command."""
    whole = _Parser(prog="compactvision", description="The book's experiments, claims and records.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    options.add_arguments(
        commands.add_parser("shrink", help="make a network of your own smaller, from a folder of pictures")
    )
    commands.add_parser("list", help="the chapters and their records")

    run = commands.add_parser("run", help="run a chapter's notebook in plain Python")
    run.add_argument("slug", metavar="SLUG")
    run.add_argument("--profile", default="quick", choices=PROFILES)
    run.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--save", action="store_true", help="write the record to its place in the repository")
    where.add_argument("--record", type=Path, metavar="PATH", help="write the record to this file")

    confirm = commands.add_parser("confirm", help="run one recorded seed with today's code and compare")
    confirm.add_argument("slugs", metavar="SLUG", nargs="*")
    confirm.add_argument("--profile", default="quick", choices=PROFILES)
    confirm.add_argument("--seed", type=int, help="default: the first of the record")
    confirm.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")

    card = commands.add_parser("scorecard", help="every claim and its verdict")
    form = card.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true")
    form.add_argument("--json", action="store_true")
    form.add_argument("--pages", type=Path, metavar="FOLDER", help="write scorecard.md and status.md for the book")

    data = commands.add_parser("data", help="the data sets, or one of them loaded and described")
    data.add_argument("name", metavar="NAME", nargs="?")
    commands.add_parser("versions", help="versions, commit and device")

    execute = commands.add_parser("execute", help="execute notebooks in place and store their outputs")
    execute.add_argument("slugs", metavar="SLUG", nargs="*")
    execute.add_argument("--claims", action="store_true", help="renew the tables of claims alone, in a second")
    fresh = commands.add_parser("fresh", help="tell which stored notebooks are not fresh or not in form")
    fresh.add_argument("slugs", metavar="SLUG", nargs="*")
    new = commands.add_parser("new", help="write the skeleton of a chapter into a clone of the book")
    new.add_argument("slug", metavar="SLUG", help="the chapter's name in every wing, my_paper for example")
    new.add_argument("--title", required=True, help="heading of the chapter")
    new.add_argument("--family", required=True, help="folder of the method: pruning, explanation, factorization ...")
    new.add_argument("--paper", default="", help="authors and year, 'Yeom, Shim and Hwang 2021'")
    new.add_argument("--cite", default="", metavar="KEY", help="the paper's key in book/references.bib")
    queue = commands.add_parser("queue", help="the trainings that wait for a GPU")
    add_arguments(queue)
    address = commands.add_parser("repository", help="set the repository's address everywhere")
    address.add_argument("url", metavar="URL")
    return whole
