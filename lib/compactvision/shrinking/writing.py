"""What a run leaves: weights with a description, an ONNX file that was tried, and the report in three forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import surgery
from compactvision.measure import evaluating
from compactvision.shrinking.folding import folded
from compactvision.shrinking.report import Report
from compactvision.training.checkpoint import write_atomically

INSTALL = 'pip install "compactvision[export]"'
TOLERANCE = 1e-3  # of the largest answer


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

    Raises
    ------
    ValueError
        If the file's answers are not those of the network.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        return f"no ONNX file: {error.name} is not installed; {INSTALL}"
    model = folded(model.cpu(), example[:1])
    say("writing ONNX")
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        model, (example[:2],), str(path), dynamo=True, verbose=False, external_data=False, input_names=["pictures"],
        output_names=["answers"], dynamic_shapes=({0: batch},),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with evaluating(model):
        wanted = model(example)
    (found,) = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    apart = float((torch.from_numpy(found) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))
    if apart > TOLERANCE:
        path.unlink()
        raise ValueError(f"--out: the ONNX file's answers differ by {apart:.2g} of the largest, so it was not kept")
    return f"ONNX file: answers on {len(example)} pictures equal within {apart:.1e} of the largest"
