"""Stored notebooks: executed in place, without what changes from one execution to the next."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from compactvision.claims import schema
from compactvision.notebooks.sources import Notebook, code_cells, code_digest, joined, read, setup_cell, tags_of
from compactvision.records import dependencies
from compactvision.records.texts import write_text

# A bar as tqdm writes it, " 10%|#    | 1/10 [00:01<00:09, 1.00it/s]", whole or cut short at the end of a line.
_BAR = re.compile(r"[^\r\n]*?(?:\d+%\|[^|\r\n]*\||\d+it )[^\[\r\n]*\[[^\]\r\n]*\]")
_PROGRESS = re.compile(r"\d+%\|.*\||\d+(?:\.\d+)?(?:it/s|s/it)\b")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_KEPT = ("tags", "mystnb", "nbgrader", "numbers")
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def _without_progress(text: str) -> str:
    """Return a stream's text as a terminal would have left it, without progress bars."""
    lines = (line.rsplit("\r", 1)[-1] for line in _BAR.sub("", text.replace("\r\n", "\n")).split("\n"))
    return "\n".join(line for line in lines if not _PROGRESS.search(line))


def _merged_outputs(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return outputs with successive pieces of one stream joined, and without widgets and progress bars."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if _WIDGET in output.get("data", {}):
            continue
        if output["output_type"] == "stream":
            output = {**output, "text": joined(output["text"])}
            if kept and kept[-1]["output_type"] == "stream" and kept[-1]["name"] == output["name"]:
                kept[-1]["text"] += output["text"]
                continue
        kept.append(output)
    for output in kept:
        if output["output_type"] == "stream":
            output["text"] = _without_progress(output["text"])
    return [output for output in kept if output["output_type"] != "stream" or output["text"].strip()]


def cleaned(notebook: Notebook) -> Notebook:
    """Return a copy of a notebook without timestamps, widgets, progress bars and the traces of a machine."""
    result = copy.deepcopy(notebook)
    own = result["metadata"].get("compactvision")
    kept = {name: result["metadata"][name] for name in ("colab", "mystnb") if name in result["metadata"]}
    result["metadata"] = {**kept, "kernelspec": dict(_KERNEL), "language_info": {"name": "python"}}
    if own is not None:
        result["metadata"]["compactvision"] = own
    for cell in result["cells"]:
        cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name in _KEPT}
        if cell["cell_type"] == "code":
            cell["outputs"] = _merged_outputs(cell.get("outputs", []))
    return result


def changed(slug: str, stored: dict[str, Any]) -> list[str]:
    """Return what a notebook's stored outputs stand on and is another today, by name.

    That is the chapter itself where its outputs do not say what ran; a notebook of no chapter stands on its cells.
    """
    if isinstance(stored.get("depends"), dict):
        return dependencies.changed(stored["depends"])
    return [slug] if slug in schema.slugs() else []


def execute(path: Path, *, timeout: int = 600) -> None:
    """Execute a notebook in place, as a reader would, and store the digests by which it can be seen to be fresh.

    The kernel notes which functions of the package run, as a record's worker does.

    The set-up cell gets today's text. The file changes only if every cell succeeds.

    Parameters
    ----------
    path : Path
    timeout : int
        Seconds a cell.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    ValueError
        If the file is no notebook, or the package changed while the cells ran.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = read(path)
    for cell in code_cells(notebook):
        cell["outputs"], cell["execution_count"] = [], None
        if "setup" in tags_of(cell):
            cell["source"] = setup_cell()
    live = nbformat.from_dict(cleaned(notebook))
    quiet = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", "COMPACTVISION_STRICT": "1"}
    quiet.pop("MPLBACKEND", None)  # the notebook's own, as a reader has it
    begin = f"from compactvision.experiment import noting; noting.begin({path.stem!r})"
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "noted.json")
        finish = f"from compactvision.experiment import noting; noting.finish({str(told)!r})"
        live.cells.append(nbformat.v4.new_code_cell(finish))
        client = NotebookClient(
            live,
            timeout=timeout,
            kernel_name=_KERNEL["name"],
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            extra_arguments=[f"--IPKernelApp.exec_lines={begin}"],
        )
        client.execute(env=quiet)
        noted = json.loads(told.read_text(encoding="utf-8"))
    if noted["rewritten"]:
        raise ValueError(f"{path.name}: {noted['rewritten'][0]} changed while its cells ran; execute it again")
    live.cells.pop()
    result = cleaned(json.loads(nbformat.writes(live)))
    for cell in result["cells"]:
        cell["source"] = joined(cell["source"])
    result["metadata"]["compactvision"] = {"code": code_digest(result), "depends": noted["depends"]}
    write(result, path)


def write(notebook: Notebook, path: Path) -> None:
    """Write a notebook with the usual layout: one space of indentation, sources and texts line by line."""
    result = copy.deepcopy(notebook)
    for cell in result["cells"]:
        cell["source"] = joined(cell["source"]).splitlines(keepends=True)
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = joined(output["text"]).splitlines(keepends=True)
            for kind, content in output.get("data", {}).items():
                if isinstance(content, str) and not kind.startswith("image/p"):
                    output["data"][kind] = content.splitlines(keepends=True)
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
