"""What a run leaves: weights with a description, an ONNX file that was tried, and the report in three forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import surgery
from compactvision.shrinking import onnx_file
from compactvision.shrinking.report import Report
from compactvision.training.checkpoint import write_atomically

INSTALL = 'pip install "compactvision[export]"'
TOLERANCE = 1e-3  # of the largest answer
NO_FILE = "no ONNX file after all"


def write_report(report: Report, folder: Path, notes: list[str]) -> list[Path]:
    """Write report.md, report.json and report.png, and return their paths."""
    import matplotlib

    backend = matplotlib.get_backend()
    paths = [folder / f"report.{ending}" for ending in ("md", "json", "png")]
    said = "".join(f"- {note}\n" for note in notes)
    text = f"# A smaller network\n\n{report.to_markdown()}\n## How it was made\n\n{said}\n![The table](report.png)\n"
    write_atomically(paths[0], text.encode())
    write_atomically(paths[1], report.to_json().encode())
    try:
        matplotlib.use("Agg")
        with matplotlib.rc_context():
            figure = report.plot()
            _black_on_white(figure)
            figure.savefig(paths[2], dpi=150, facecolor="white")
    finally:
        matplotlib.use(backend)
    return paths


def _black_on_white(figure: Any) -> None:
    """Give a file what a page gives itself: black text on white."""
    import matplotlib.pyplot as plt

    for axis in figure.axes:
        axis.set_facecolor("white")
    plt.close(figure)


def write_weights(model: nn.Module, path: Path, builder: str | None, arguments: Mapping[str, Any] | None) -> str:
    """Write the safetensors file, and return the line that reads it."""
    surgery.save(model.cpu(), path, builder=builder, arguments=arguments)
    build = "" if builder is not None else ", build=BUILD"
    return f'surgery.load("{path.name}"{build})'


def write_pickle(model: nn.Module, path: Path) -> None:
    """Write the whole module with pickle, which runs code when it is read: only where that was asked for."""
    torch.save(model.cpu(), path)


def write_onnx(model: nn.Module, example: Tensor, path: Path, say: Callable[[str], object]) -> str:
    """Write the network with BatchNorm folded, run it on the example's pictures, and return what came of it.

    A file whose answers are not those of the network is not kept; what was asked for and not had begins with
    :data:`NO_FILE`.
    """
    absent = onnx_file.missing()
    if absent is not None:
        return f"no ONNX file: {absent} is not installed; {INSTALL}"
    say("writing ONNX")
    try:
        apart = onnx_file.export(model.cpu(), example, path)
    except ValueError as error:
        return f"{NO_FILE}, the exporter fails ({error})"
    if not apart <= TOLERANCE:
        path.unlink()
        return f"{NO_FILE}, its answers differ by {apart:.2g} of the largest"
    return f"ONNX file: answers on {len(example)} pictures equal within {apart:.1e} of the largest"
