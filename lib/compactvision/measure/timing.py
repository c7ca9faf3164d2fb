"""Milliseconds of a forward pass, alone or several models side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from compactvision import _checks as checks
from compactvision._failures import explained
from compactvision.measure.state import ExampleInputs, evaluating, inputs_from

MOST_THREADS = 1024
"""More than this ends the process on many machines."""


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass of one batch.

    Attributes
    ----------
    median_ms, q1_ms, q3_ms : float
        Median and quartiles in milliseconds.
    n : int
        Measured passes; those for warming up are not among them.
    batch : int
        Images in the batch.
    threads : int
        CPU threads that PyTorch used inside an operator.
    device : str
        Device of the model, such as "cpu" or "cuda:0".
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    n: int
    batch: int
    threads: int
    device: str

    def __str__(self) -> str:
        """One line with the median, the quartiles and the conditions."""
        spread = f"{self.median_ms:.3g} ms (quartiles {self.q1_ms:.3g} to {self.q3_ms:.3g}, n = {self.n})"
        return f"{spread}, batch {self.batch}, {self.device}, threads {self.threads}"


@dataclass(frozen=True)
class Ratio:
    """Time of one model over that of the reference in the same round: median and quartiles; above 1 is slower."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class LatencyComparison:
    """Several models timed in turn.

    Attributes
    ----------
    latencies : dict of str to Latency
        Each model's own times.
    ratios : dict of str to Ratio
        Each model's time over the reference's, formed round by round, so that drift of the machine cancels.
    reference : str
        Name of the model that the others are compared with.
    """

    latencies: dict[str, Latency]
    ratios: dict[str, Ratio]
    reference: str


def latency(
    model: nn.Module, example_inputs: ExampleInputs, *, warmup: int = 10, repeats: int = 50, threads: int | None = None
) -> Latency:
    """Return the time of one forward pass in evaluation mode without gradients.

    On a GPU the time is taken between two events on the stream and the device is synchronised after each pass.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, shape (C, H, W) of one image, or several inputs.
    warmup, repeats : int
        Passes before measuring, and measured.
    threads : int, optional
        CPU threads inside an operator while measuring; PyTorch's present number by default.

    Raises
    ------
    ValueError
        If ``warmup`` is negative, or ``repeats`` or ``threads`` is below 1.

    Examples
    --------
    >>> from torch import nn
    >>> from compactvision import measure
    >>> measure.latency(nn.Linear(4, 2), (4,), warmup=1, repeats=3).median_ms > 0
    True
    """
    checks.networks(model=model)
    return latency_ratio({"model": model}, example_inputs, warmup=warmup, repeats=repeats, threads=threads).latencies[
        "model"
    ]


def latency_ratio(
    models: Mapping[str, nn.Module],
    example_inputs: ExampleInputs,
    *,
    reference: str | None = None,
    warmup: int = 10,
    repeats: int = 50,
    threads: int | None = None,
) -> LatencyComparison:
    """Time several models in turn, so that a drift of the machine hits all of them alike.

    Each round runs every model once, and the model that begins changes from round to round.

    Parameters
    ----------
    models : mapping of str to nn.Module
        Models by name, all fed with the same ``example_inputs``.
    reference : str, optional
        Model that the ratios refer to; the first one by default.
    example_inputs, warmup, repeats, threads
        As for :func:`latency`; ``repeats`` is the number of rounds.

    Raises
    ------
    ValueError
        If ``models`` is empty or ``reference`` is not among them, and as for :func:`latency`.
    """
    checks.mappings(models=models)
    names = list(models)
    if not names:
        raise ValueError("models must hold at least one model, got none")
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise ValueError(f"reference must be one of {names}, got {reference!r}")
    checks.networks(**{f"models[{name!r}]": model for name, model in models.items()})
    _validate(warmup, repeats, threads)
    inputs = {name: inputs_from(model, example_inputs) for name, model in models.items()}
    times = {name: np.empty(repeats) for name in names}  # (repeats,) in milliseconds
    with ExitStack() as stack:
        used_threads = stack.enter_context(_threads(threads))
        for model in models.values():
            stack.enter_context(evaluating(model))
        stack.enter_context(explained(inputs[reference]))
        for name in names * warmup:
            models[name](*inputs[name])
        for index in range(repeats):
            first = index % len(names)
            for name in names[first:] + names[:first]:
                device = inputs[name][0].device
                times[name][index] = _time_ms(lambda name=name: models[name](*inputs[name]), device)
    latencies = {name: _latency(times[name], inputs[name][0], used_threads) for name in names}
    ratios = {name: Ratio(*_quartiles(times[name] / times[reference])) for name in names}
    return LatencyComparison(latencies, ratios, reference)


def _validate(warmup: int, repeats: int, threads: int | None) -> None:
    checks.whole(warmup=warmup)
    threads = 1 if threads is None else threads
    checks.counts(repeats=repeats, threads=threads)
    if threads > MOST_THREADS:
        raise ValueError(f"threads must be at most {MOST_THREADS}, got {threads}")
    if warmup < 0:
        raise ValueError(f"warmup must not be negative, got {warmup}")


@contextmanager
def _threads(threads: int | None) -> Iterator[int]:
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _time_ms(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        with torch.cuda.device(device):
            torch.cuda.synchronize()
            start.record()
            call()
            end.record()
            end.synchronize()
        return start.elapsed_time(end)
    begin = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begin)


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    return float(median), float(q1), float(q3)


def _latency(times: np.ndarray, example_inputs: torch.Tensor, threads: int) -> Latency:
    return Latency(*_quartiles(times), len(times), example_inputs.shape[0], threads, str(example_inputs.device))
