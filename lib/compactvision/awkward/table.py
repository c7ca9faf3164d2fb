"""The table: made by a run, kept in the package, written out for the page."""

from __future__ import annotations

import contextlib
import importlib
import json
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
from compactvision.awkward.together import Limits, each_alone
from compactvision.plots.escape import as_markdown
from compactvision.records.texts import write_text

FILE = Path(__file__).with_name("table.json")
LIMITS = Limits(cut=300.0, onnx=300.0)
PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime")


def make(
    networks: Iterable[Network] = NETWORKS,
    *,
    limits: Limits = LIMITS,
    processes: int = 1,
    work: Path | None = None,
    say: Callable[[str], object] = str,
) -> dict:
    """Try networks, each in a process of its own that gets so much time, and return the record.

    With a folder ``work`` each finished row is kept there, and a second call of the same code and versions goes on.
    """
    commit, dirty = records.commit()
    made = {"versions": {name: _version(name) for name in PACKAGES}, "commit": commit, "dirty": dirty}
    networks = list(networks)
    rows = {} if work is None or dirty else _kept(work, networks, made)
    _load(networks)

    def done(network: Network, row: dict[str, Any]) -> None:
        rows[_key(network)] = row
        say(f"{network.source} {network.name}: {'cut' if row['cut'] else 'refused, ' + row['reason']}")
        if work is not None:
            write_text(_path(work, network), json.dumps({"made": made, "row": row}))

    each_alone([network for network in networks if _key(network) not in rows], limits, processes, done)
    device = asdict(records.describe_device("cpu"))
    return {
        "rows": [rows[_key(network)] for network in networks],
        **made,
        "device": device,
        "finished": time.strftime("%Y-%m-%d"),
    }


def _path(work: Path, network: Network) -> Path:
    return work / f"{_key(network)}.json"


def _key(network: Network) -> str:
    return f"{network.source}-{network.name}"


def _kept(work: Path, networks: Iterable[Network], made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows that a run of the same code and versions has left."""
    rows = {}
    for network in networks:
        path = _path(work, network)
        held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if held.get("made") == made:
            rows[_key(network)] = held["row"]
    return rows


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
    onnx = any("onnx" in row for row in record["rows"])  # a run may have tried no files
    for source in dict.fromkeys(row["source"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["source"] == source]
        cut = [row for row in rows if row["cut"]]
        refused = [row for row in rows if not row["cut"]]
        parts += [f"### {source} {record['versions'][source]}", "", f"{len(cut)} of {len(rows)} networks are cut.", ""]
        head = "| network | MACs left | parameters left | cut along | kept whole: layers, by what | difference |"
        parts += [head + (" ONNX |" if onnx else ""), "|---|---|---|---|---|---|" + ("---|" if onnx else "")]
        parts += [*(_cut_line(row, onnx) for row in cut), ""]
        if refused:
            parts += ["| refused | because |", "|---|---|", *map(_refused_line, refused), ""]
    tried = {(row["source"], row["name"]) for row in record["rows"]}
    waiting = [f"{each.source}'s `{each.name}`" for each in NETWORKS if (each.source, each.name) not in tried]
    if waiting:
        parts += [f"In the list but not in this run: {', '.join(waiting)}.", ""]
    made = f"Made with torch {record['versions']['torch']} on {record['finished']}, code {record['commit'][:10]}."
    return "\n".join([*parts, made, ""])


def _cut_line(row: Mapping[str, Any], onnx: bool) -> str:
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
        *([_onnx(row)] if onnx else []),
    )
    return f"| {' | '.join(cells)} |"


def _onnx(row: Mapping[str, Any]) -> str:
    """Return how far an ONNX file's answers were, or that there is none and why."""
    found = row.get("onnx")
    if found is None:
        return "not tried"
    return f"{found:.0e}" if isinstance(found, float) else f"none: {as_markdown(found)}"


def _refused_line(row: Mapping[str, Any]) -> str:
    reason = row["reason"].replace("|", "\\|").replace("\n", " ")
    kept = row.get("kept") and "; kept whole: " + ", ".join(f"{count} {name}" for name, count in row["kept"].items())
    return f"| `{row['name']}`, {row['size']} px | {reason}{kept or ''} |"
