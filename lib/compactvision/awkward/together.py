"""Tries networks in processes of their own, a few at a time, each with a limit."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import torch

from compactvision.awkward.catalogue import Network
from compactvision.awkward.trial import attempt, by_onnx

Row = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """Seconds of one network, and of its ONNX file behind that; with 0 no file is tried."""

    cut: float
    onnx: float


@dataclass
class _Running:
    network: Network
    process: ForkProcess
    end: float
    row: Row | None = None


def each_alone(
    networks: Sequence[Network], limits: Limits, processes: int, done: Callable[[Network, Row], object]
) -> None:
    """Try each network, at most so many at once, and call ``done`` with it and its row as soon as there is one.

    A row's ``onnx`` is the difference of the answers of an ONNX file, or why there is none; it is missing where none
    was tried.
    """
    waiting, running = list(networks), {}
    while waiting or running:
        while waiting and len(running) < processes:
            here, begun = _begin(waiting.pop(0), limits)
            running[here] = begun
        nearest = min(each.end for each in running.values())
        ready = wait(list(running), timeout=max(0.0, nearest - time.monotonic()))
        for here, begun in list(running.items()):
            row = _heard(here, begun, limits) if here in ready else _late(begun, limits)
            if row is not None:
                running.pop(here)
                begun.process.kill()
                begun.process.join()
                here.close()
                done(begun.network, row)


def _heard(here: Connection, begun: _Running, limits: Limits) -> Row | None:
    """Return the row where it is finished with what the process just said."""
    silent = "its process ended without an answer"
    try:
        said = here.recv()
    except EOFError:
        return _refused(begun.network, silent) if begun.row is None else {**begun.row, "onnx": silent}
    if begun.row is not None:
        return {**begun.row, "onnx": said}
    begun.row, begun.end = said, time.monotonic() + limits.onnx
    return None if said["cut"] and limits.onnx > 0 else said


def _late(begun: _Running, limits: Limits) -> Row | None:
    """Return the row where the time is over."""
    if begun.end > time.monotonic():
        return None
    if begun.row is None:
        return _refused(begun.network, f"not done within {limits.cut:g} seconds")
    return {**begun.row, "onnx": f"not done within {limits.onnx:g} seconds"}


def _begin(network: Network, limits: Limits) -> tuple[Connection, _Running]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(network, there))
    process.start()
    there.close()
    return here, _Running(network, process, time.monotonic() + limits.cut)


def _answer(network: Network, there: Connection) -> None:
    """Say the row, then what came of the ONNX file."""
    torch.set_num_threads(1)
    passed: list[Any] = []
    try:
        row = attempt(network, lambda *small: passed.extend(small))
    except Exception as error:  # what is no refusal is a fault, and the table says so
        row = _refused(network, f"{type(error).__name__}: {error}")
    there.send(row)
    if passed:
        there.send(by_onnx(*passed))


def _refused(network: Network, reason: str) -> Row:
    return {"source": network.source, "name": network.name, "size": network.size, "cut": False, "reason": reason}
