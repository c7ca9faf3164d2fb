"""Makes the table of awkward networks, or writes it out for the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compactvision.awkward.catalogue import NETWORKS
from compactvision.awkward.table import FILE, LIMIT, make, markdown, read, write
from compactvision.records.texts import write_text


def main(arguments: list[str] | None = None) -> None:
    """Try all networks and store the table in the package; timm is needed for its own."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.awkward", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="try these alone and store nothing")
    parser.add_argument("--page", type=Path, metavar="PATH", help="write the stored table there as Markdown instead")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="time of one network (default: %(default)s)")
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
    record = make(networks, limit=given.seconds, say=lambda line: print(line, flush=True))
    if given.names:
        print(markdown(record))
    else:
        write(record, FILE)


if __name__ == "__main__":
    main()
