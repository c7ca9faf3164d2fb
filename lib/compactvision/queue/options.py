"""The queue's part of the command line: ``python -m compactvision queue run | status | keep | check | commit``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands and their options."""
    commands = parser.add_subparsers(dest="queue_command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="work through the list")
    status = commands.add_parser("status", help="what is done, what is left, what it would take")
    for each in (run, status):
        each.add_argument("--work", type=Path, metavar="FOLDER", help="jobs' folders; has to outlast a call")
        each.add_argument("--out", type=Path, metavar="FOLDER", help="finished records and results")
        each.add_argument("--only", nargs="+", metavar="NAME", help="entries such as dcff/vgg16, not the whole list")
        each.add_argument("--epochs", type=int, help="fewer epochs: the record then says scaled")
        each.add_argument("--images", type=int, help="fewer images: the record then says scaled")
        each.add_argument("--batch-size", type=int, help="smaller batches: the record then says scaled")
    run.add_argument("--minutes", type=float, default=9.0, help="all that the call may take")
    run.add_argument("--device", default="auto", help="auto, cpu or cuda")
    run.add_argument("--processes", type=int, help="jobs at once")
    run.add_argument("--dry", action="store_true", help="try the whole list on the CPU with tiny numbers")
    kept = commands.add_parser("keep", help="write records that came back to their places in the repository")
    kept.add_argument("folder", type=Path)
    kept.add_argument("--credit", metavar="NAME", help="who ran them, for the board")
    checked = commands.add_parser("check", help="what records that somebody sent say, and whether they can be taken")
    checked.add_argument("files", type=Path, nargs="+", metavar="FILE")
    commands.add_parser("commit", help="print the commit, sealed, for a machine that has the files but no git")
