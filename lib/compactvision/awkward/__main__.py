"""Makes the table of awkward networks, or writes it out for the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compactvision.awkward.catalogue import NETWORKS
from compactvision.awkward.table import FILE, LIMITS, make, markdown, read, write
from compactvision.awkward.together import Limits
from compactvision.records.texts import write_text


def main(arguments: list[str] | None = None) -> None:
    """Try all networks and store the table in the package; timm is needed for its own."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.awkward", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="try these alone and store nothing")
    parser.add_argument("--page", type=Path, metavar="PATH", help="write the stored table there as Markdown instead")
    parser.add_argument("--seconds", type=float, default=LIMITS.cut, help="time of one network (default: %(default)s)")
    parser.add_argument("--onnx-seconds", type=float, default=LIMITS.onnx,
                        help="time of its ONNX file behind that; 0: none is tried (default: %(default)s)")  # fmt: skip
    parser.add_argument("--processes", type=int, default=1, help="networks at a time (default: %(default)s)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep rows there, so that a run goes on")
    given = parser.parse_args(arguments)
    if given.page is not None:
        text = markdown(read())
        if not given.page.is_file() or given.page.read_text(encoding="utf-8") != text:
            write_text(given.page, text)
        sys.stdout.write(f"{given.page}\n")
        return
    networks = [each for each in NETWORKS if not given.names or each.name in given.names]
    if not networks:
        parser.error(f"NAME must be one of {', '.join(each.name for each in NETWORKS)}, got {given.names}")
    if given.processes < 1:
        parser.error(f"--processes must be at least 1, got {given.processes}")
    limits = Limits(given.seconds, given.onnx_seconds)
    options = {"limits": limits, "processes": given.processes, "work": given.work}
    record = make(networks, **options, say=lambda line: print(line, flush=True))
    if given.names:
        print(markdown(record))
    else:
        write(record, FILE)


if __name__ == "__main__":
    main()
