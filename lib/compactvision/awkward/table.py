"""The table: made by a run, kept in the package, written out for the page."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compactvision import records
from compactvision.awkward.catalogue import NETWORKS, Network
from compactvision.awkward.trial import attempt
from compactvision.records.texts import write_text

FILE = Path(__file__).with_name("table.json")
LIMIT = 120.0  # seconds of one network


def make(networks: Iterable[Network] = NETWORKS, *, limit: float = LIMIT, say: Callable[[str], object] = str) -> dict:
    """Try networks, each in a process of its own that gets so many seconds, and return the record."""
    commit, dirty = records.commit()
    rows, networks = [], list(networks)
    _load(networks)
    for network in networks:
        row = _alone(network, limit)
        rows.append(row)
        say(f"{network.source} {network.name}: {'cut' if row['cut'] else 'refused, ' + row['reason']}")
    return {
        "rows": rows,
        "versions": {name: _version(name) for name in ("torch", "torchvision", "timm")},
        "commit": commit,
        "dirty": dirty,
        "device": asdict(records.describe_device("cpu")),
        "finished": time.strftime("%Y-%m-%d"),
    }


def _load(networks: list[Network]) -> None:
    """Import here what the processes would import one by one: the exporter, and the networks' packages."""
    torch.export.export(nn.Linear(1, 1), (torch.zeros(1, 1),)).module()
    for name in {network.source for network in networks}:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _alone(network: Network, limit: float) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(network, there))
    process.start()
    there.close()
    row = {"source": network.source, "name": network.name, "size": network.size, "cut": False}
    try:
        row = here.recv() if here.poll(limit) else row | {"reason": f"not done within {limit:g} seconds"}
    except EOFError:
        row["reason"] = "its process ended without an answer"
    process.kill()
    process.join()
    return row


def _answer(network: Network, there: Any) -> None:
    torch.set_num_threads(1)
    try:
        row = attempt(network)
    except Exception as error:  # what is no refusal is a fault, and the table says so
        row = {"source": network.source, "name": network.name, "size": network.size, "cut": False}
        row["reason"] = f"{type(error).__name__}: {error}"
    there.send(row)


def write(record: Mapping[str, Any], path: Path = FILE) -> None:
    """Write a record, one row a line."""
    head = {name: value for name, value in record.items() if name != "rows"}
    rows = ",\n".join(f"  {json.dumps(row)}" for row in record["rows"])
    write_text(path, json.dumps(head, indent=1).removesuffix("\n}") + ',\n "rows": [\n' + rows + "\n ]\n}\n")


def read(path: Path = FILE) -> dict[str, Any]:
    """Return the record that the package holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(record: Mapping[str, Any]) -> str:
    """Return the page's tables of a record, in Markdown.

    Examples
    --------
    >>> from compactvision import awkward
    >>> "| network | MACs left |" in awkward.markdown(awkward.read())
    True
    """
    parts = []
    for source in dict.fromkeys(row["source"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["source"] == source]
        cut = [row for row in rows if row["cut"]]
        refused = [row for row in rows if not row["cut"]]
        parts += [f"### {source} {record['versions'][source]}", "", f"{len(cut)} of {len(rows)} networks are cut.", ""]
        parts += ["| network | MACs left | parameters left | cut along | kept whole: layers, by what | difference |"]
        parts += ["|---|---|---|---|---|---|", *map(_cut_line, cut), ""]
        if refused:
            parts += ["| refused | because |", "|---|---|", *map(_refused_line, refused), ""]
    tried = {(row["source"], row["name"]) for row in record["rows"]}
    waiting = [f"{each.source}'s `{each.name}`" for each in NETWORKS if (each.source, each.name) not in tried]
    if waiting:
        parts += [f"In the list but not in this run: {', '.join(waiting)}.", ""]
    made = f"Made with torch {record['versions']['torch']} on {record['finished']}, code {record['commit'][:10]}."
    return "\n".join([*parts, made, ""])


def _cut_line(row: Mapping[str, Any]) -> str:
    kept = ", ".join(
        f"{count} `{name}`" if name.isidentifier() else f"{count} {name}" for name, count in row["kept"].items()
    )
    cells = (
        f"`{row['name']}`, {row['size']} px",
        f"{row['macs_left']:.1%}",
        f"{row['parameters_left']:.1%}",
        f"{row['groups']} {'groups' if row['way'] == 'channels' else 'sets of dimensions'}",
        kept or "none",
        f"{row['difference']:.0e}",
    )
    return f"| {' | '.join(cells)} |"


def _refused_line(row: Mapping[str, Any]) -> str:
    reason = row["reason"].replace("|", "\\|").replace("\n", " ")
    kept = row.get("kept") and "; kept whole: " + ", ".join(f"{count} {name}" for name, count in row["kept"].items())
    return f"| `{row['name']}`, {row['size']} px | {reason}{kept or ''} |"
