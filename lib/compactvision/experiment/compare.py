"""A live run beside the record of its profile: what lies outside the bands, and where both were made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compactvision import records
from compactvision.claims import schema
from compactvision.records import Device, Record

if TYPE_CHECKING:
    from compactvision.experiment.run import Run

STRICT = "COMPACTVISION_STRICT"  # set by `make notebooks-test` and `execute`: a value outside its band fails


def against_record(run: Run) -> str:
    """Compare the values of a run that have a band with its record; :meth:`Run.check` tells the rules."""
    command = f"python -m compactvision run {run.slug} --profile {run.profile} --seeds 0 1 2 --save"
    if run.recording:
        return "A new record is being made: nothing to compare with."
    record = run.record()
    if record is None:
        return f"There is no {run.profile} record of {run.slug} yet; `{command}` makes it."
    strict = bool(os.environ.get(STRICT))
    exact = {name for claim in run.chapter.claims if claim.kind in schema.CERTAIN for name in claim.rule.names}
    problems: list[str] = []
    notes: dict[str, str] = {}
    for name, band in run.bands.items():
        outside, comparable = _outside(run, record, name, band)
        if outside and comparable and band > 0 and name not in exact and not strict:
            notes[name] = outside
        elif outside:
            problems.append(outside)
    if problems:
        raise AssertionError("; ".join(problems) + f". If the change is meant, `{command}` makes a new record.")
    seeds = ", ".join(map(str, record.seeds))
    inside = f"{len(run.bands) - len(notes)} values lie inside the bands of the {run.profile} record (seeds {seeds})."
    return "\n".join([inside, *_noted(run, record, notes)]) if notes else inside


def _noted(run: Run, record: Record, notes: dict[str, str]) -> list[str]:
    """Return the lines that tell what lies outside, and where both runs were made."""
    number = f"{len(notes)} lies" if len(notes) == 1 else f"{len(notes)} lie"
    seed = f"seed {run.seed}" + ("" if run.seed in record.seeds else ", which the record does not hold")
    here = records.describe_device(run.device.type)
    return [
        f"Noted: {number} outside; nothing is wrong with that by itself.",
        *(f"  {text}" for text in notes.values()),
        f"The record was made on {processor(record.device)}; this run on {processor(here)}, with {seed}.",
    ]


def _outside(run: Run, record: Record, name: str, band: float) -> tuple[str | None, bool]:
    """Return what is outside, in words or None, and whether live value and record could be compared at all."""
    live = run.values[name]
    if name not in record.names:
        return f"{name}: the {record.profile} record has no such value", False
    low, high = record.range(name)
    if isinstance(live, list) != isinstance(low, list) or (isinstance(live, list) and len(live) != len(low)):
        return f"{name}: the {record.profile} record holds another number of values", False
    if not isinstance(live, list):
        triples = [(name, live, low, high)]
    else:
        triples = [(f"{name}[{i}]", *item) for i, item in enumerate(zip(live, low, high, strict=True))]
    for label, value, least, most in triples:
        if not least - band <= value <= most + band:
            side = "below" if value < least else "above"
            return (
                f"{label} = {value:g} lies {side} the record's seeds ({least:g} to {most:g}) by more than "
                f"the band of {band:g}"
            ), True
    return None, True


def processor(device: Device) -> str:
    """Return kind, name and threads of a device in words."""
    return f"{device.kind}: {device.name}, {device.threads} threads"
