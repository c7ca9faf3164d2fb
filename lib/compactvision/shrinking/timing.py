"""Milliseconds of all networks of the table, in turn."""

from __future__ import annotations

from torch import nn

from compactvision import measure
from compactvision.shrinking.beside import Beside
from compactvision.shrinking.folding import folded
from compactvision.shrinking.rivals import AtResolution, InFormat
from compactvision.shrinking.session import Session

RUNS, WARMUP = 30, 5
OVERRUN = 0.02  # of the time, for milliseconds of the rivals: without them nobody can compare
SMALL = ("cut", "reconstructed", "renewed", "tuned")


def timed(session: Session, small: nn.Module, beside: Beside | None) -> int:
    """Enter milliseconds in the table's rows, and return how many runs each network had.

    Where the time is over the whole and the small network are timed all the same, the rivals only if it takes little.
    """
    rivals = beside
    if beside is not None and session.clock.bounded:
        end = session.clock.left() + OVERRUN * session.clock.seconds
        rivals = beside if seconds(session, beside) <= end else None
    models = networks(session, small, rivals)
    found = measure.latency_ratio(models, session.example, warmup=WARMUP, repeats=RUNS)
    for name, stages in _rows(session).items():
        if name in found.latencies:
            one = found.latencies[name]
            for stage in stages:
                session.amend(stage, ms=(one.median_ms, one.q1_ms, one.q3_ms))
    return RUNS


def networks(session: Session, small: nn.Module, beside: Beside | None) -> dict[str, nn.Module]:
    """Return the networks to time, BatchNorm folded."""
    whole = folded(session.model, session.example)
    models = {"whole": whole, "small": folded(small, session.example)}
    if beside is None:
        return models
    lower = beside.networks.get("resolution")
    if isinstance(lower, AtResolution):
        models["resolution"] = AtResolution(whole, lower.size, session.example)
    if "bf16" in beside.networks:
        models["bf16"] = InFormat(whole, beside.networks["bf16"].dtype)
    drawn = getattr(beside, "drawn", None)
    if drawn is not None:
        models["random"] = folded(drawn, session.example)
    return models


def _rows(session: Session) -> dict[str, list[str]]:
    """Return for each timed network the rows with its structure."""
    rows = {
        "whole": ("whole", "whole_tuned"),
        "small": SMALL,
        "random": ("random", "random_tuned"),
        "resolution": ("resolution", "resolution_tuned"),
        "bf16": ("bf16",),
    }
    held = session.rows
    return {name: [stage for stage in stages if stage in held and held[stage].macs] for name, stages in rows.items()}


def seconds(session: Session, beside: Beside | None) -> float:
    """Return about how long the timing takes, from one run of each network."""
    total = 0.0
    models = [session.model, session.model, session.model, *(beside.networks.values() if beside else ())]
    known: dict[int, float] = {}
    for model in models:
        if id(model) not in known:
            known[id(model)] = measure.latency(model, session.example, warmup=1, repeats=2).median_ms / 1e3
        total += known[id(model)]
    return 1.2 * total * (RUNS + WARMUP)
