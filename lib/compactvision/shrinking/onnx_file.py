"""A network as an ONNX file for any number of pictures, and how far its answers are from the network's."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from compactvision.measure import evaluating
from compactvision.shrinking.folding import folded
from compactvision.surgery.outputs import output_tensors

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def missing() -> str | None:
    """Return the first package of the extra ``export`` that is not installed."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            return name
    return None


def export(model: nn.Module, example: Tensor, path: Path) -> float:
    """Write a network with BatchNorm folded, run the file, and return the largest difference of an answer.

    Parameters
    ----------
    model : nn.Module
        On the CPU; left as it was.
    example : Tensor
        At least two pictures, (B, C, H, W). Two of them are shown to the exporter; all go through the file.
    path : Path
        Where the file goes.

    Returns
    -------
    float
        Relative to the largest answer of the network.

    Raises
    ------
    ValueError
        If there is no ONNX form of the network that takes any number of pictures, with the exporter's first line.
    """
    import onnxruntime

    with evaluating(model):
        wanted = output_tensors(model(example))
    model = folded(model, example[:1])
    names = ["answers"] if len(wanted) == 1 else None
    try:
        with _quiet():
            torch.onnx.export(
                model, (example[:2],), str(path), dynamo=True, verbose=False, external_data=False,
                input_names=["pictures"], output_names=names, dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    except Exception as error:  # whatever exporter and runtime raise, there is no file
        path.unlink(missing_ok=True)
        raise ValueError(_told(error)) from error
    return max(_apart(torch.from_numpy(one), other) for one, other in zip(found, wanted, strict=True))


def _told(error: BaseException) -> str:
    """Return type and first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own progress to itself."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
