"""What a confirmation compares: exact to 1e-6, trained within its seeds or two points, timings only told."""

from dataclasses import replace
from pathlib import Path

import pytest
from compactvision.claims.schema import parse
from compactvision.experiment import confirm as module
from compactvision.experiment.collect import RunError
from compactvision.experiment.confirm import compare, confirmed, tolerance
from compactvision.records import DataSource, Device, Record, SeedRun

CHAPTER = parse(
    """
[chapter]
title = "A chapter"
part = "cut"

[[claim]]
id = "small"
text = "It is next to nothing."
source = "abstract"
kind = "exact"
profile = "quick"
refuted_by = "It is not."
rule = { value = "residual", below = 1e-9 }

[[claim]]
id = "right"
text = "It is a million and a half."
source = "abstract"
kind = "exact"
profile = "quick"
refuted_by = "It is not."
rule = { value = "exact", target = 1500000.0, abs = 10 }
""",
    Path("tiny.toml"),
)
SEEDS = [
    {"residual": 1e-12, "exact": 1500000.0, "count": 12, "band": 0.5, "accuracy": 0.80, "loss": 12.0, "time.ms": 3.0,
     "time.fewer": 0.25, "curve": [0.1, 0.5], "wide": [10.0, 0.0]},
    {"residual": 2e-12, "exact": 1500000.0, "count": 12, "band": 0.7, "accuracy": 0.85, "loss": 12.1, "time.ms": 5.0,
     "time.fewer": 0.25, "curve": [0.1, 0.9], "wide": [10.0, 5.0]},
]  # fmt: skip


def made(values: list[dict], seeds=(0, 1), **others) -> Record:
    """Return a record with these values."""
    fields = {
        "slug": "tiny",
        "profile": "quick",
        "created": "2026-11-21T10:00:00+00:00",
        "commit": "0123456789abcdef",
        "dirty": False,
        "method": None,
        "notebook": None,
        "device": Device("cpu", "A processor", 2),
        "versions": {"torch": "2.11.0"},
        "data": [DataSource("glyphs", "generated", "00")],
        "runs": [SeedRun(seed, 1.0, 1.0, dict(one)) for seed, one in zip(seeds, values, strict=True)],
        "bands": {"band": 0},
        "depends": {"measure/counts.py:macs": "0"},
    }
    return Record(**(fields | others))


RECORD = made(SEEDS)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("exact", [1.5]),
        ("residual", [1e-6]),
        ("count", [1.2e-5]),
        ("band", [1e-6]),
        ("accuracy", [0.05]),
        ("loss", [0.242]),
        ("time.ms", None),
        ("time.fewer", [0.02]),  # the same for all seeds, so that no clock gave it
        ("curve", [0.02, 0.4]),
        ("wide", [0.2, 5.0]),
    ],
)
def test_how_far_a_value_may_lie(name, allowed):
    found = tolerance(RECORD, name, {"residual", "exact"})
    assert found == (allowed if allowed is None else pytest.approx(allowed))


def against(**changes):
    """Compare a run of seed 1 with other values."""
    return compare(RECORD, made([SEEDS[1] | changes], seeds=[1]), CHAPTER)


def test_the_same_values_agree():
    found = against()
    assert (found.differ, found.moved, found.notes, found.compared) == ([], [], [], 9)
    assert found.timings == ["time.ms: 5, the record has 5"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"exact": 1500001.6}, "exact: 1500001.6, the record has 1500000, allowed 1.5"),
        ({"count": 13}, "count: 13, the record has 12, allowed 1.2e-05"),
        ({"band": 0.70001}, "band: 0.70001, the record has 0.7, allowed 1e-06"),
        ({"accuracy": 0.901}, "accuracy: 0.901, the record has 0.85, allowed 0.05"),
        ({"curve": [0.121, 0.9]}, "curve: 0.121, the record has 0.1, allowed 0.02"),
        ({"curve": [0.1]}, "curve: 1 numbers, the record has 2"),
        ({"time.fewer": 0.28}, "time.fewer: 0.28, the record has 0.25, allowed 0.02"),
        ({"more": 1}, "more: only in the run"),
        ({"residual": 1e-8}, "small: not reproduced, by the record reproduced"),
    ],
)
def test_each_difference_is_refused(changes, line):
    found = against(**changes)
    assert [one[: len(line)] for one in found.differ] == [line]


def test_a_value_that_is_gone_is_refused():
    values = {name: value for name, value in SEEDS[1].items() if name != "loss"}
    assert compare(RECORD, made([values], seeds=[1]), CHAPTER).differ == ["loss: only in the record"]


def test_what_may_move_is_told():
    found = against(accuracy=0.81, curve=[0.1, 0.6], loss=12.1 + 1e-7, **{"time.ms": 50.0})
    assert found.differ == []
    assert found.moved == [
        "accuracy: 0.81, the record has 0.85, within 0.05",
        "curve: 0.6, the record has 0.9, within 0.4",
    ]
    assert found.timings == ["time.ms: 50, the record has 5"]
    assert [line.split(":")[0] for line in found.lines()] == ["timing", "moved", "moved"]


def test_other_circumstances_are_told():
    other = {
        "device": Device("cpu", "Another processor", 1),
        "versions": {"torch": "2.12.0", "numpy": "3"},
        "data": [DataSource("glyphs", "generated", "11")],
    }
    assert compare(RECORD, made(SEEDS[1:], seeds=[1], **other), CHAPTER).notes == [
        "another machine: cpu: Another processor, 1 threads; the record's: cpu: A processor, 2 threads",
        "another numpy: 3; the record's: none",
        "another torch: 2.12.0; the record's: 2.11.0",
        "other data: glyphs",
    ]


@pytest.mark.parametrize("changes", [{"dirty": True}, {"commit": None}, {"depends": None}])
def test_a_run_of_code_that_nobody_can_find_confirms_nothing(changes):
    with pytest.raises(RunError, match="confirms nothing"):
        confirmed(RECORD, made(SEEDS[1:], seeds=[1], **changes))


@pytest.mark.parametrize(("cores", "threads"), [(1, 0), (2, 2), (8, 2)])
def test_the_run_takes_the_threads_of_the_record_where_there_are_as_many_cores(monkeypatch, cores, threads):
    asked = {}

    def rerun(slug, **options):
        asked.update(options)
        return made([SEEDS[1] | {"count": 13}], seeds=[1])

    monkeypatch.setattr(module, "rerun", rerun)
    monkeypatch.setattr(module, "_cores", lambda: cores)
    monkeypatch.setattr(module.records, "load", lambda *_: RECORD)
    monkeypatch.setattr(module.records, "commit", lambda slug: ("0123456789abcdef", False))
    monkeypatch.setattr(module.schema, "load", lambda slug: CHAPTER)
    assert len(module.confirm("tiny", seed=1).differ) == 1
    assert (asked["threads"], asked["seed"]) == (threads, 1)
    with pytest.raises(ValueError, match="seed: 7 is none of the record's, 0, 1"):
        module.confirm("tiny", seed=7)


def test_what_was_confirmed_can_be_confirmed_again():
    again = replace(RECORD, confirmed=confirmed(RECORD, made(SEEDS[1:], seeds=[1])).confirmed)
    assert compare(again, made(SEEDS[1:], seeds=[1]), CHAPTER).differ == []


def test_a_confirmation_stands_beside_its_values_alone():
    own = confirmed(RECORD, made(SEEDS[1:], seeds=[1])).confirmed
    assert (own.seed, own.commit, own.depends) == (1, "0123456789abcdef", {"measure/counts.py:macs": "0"})
    with pytest.raises(ValueError, match="the digest of other values"):
        replace(made([SEEDS[0], SEEDS[1] | {"accuracy": 0.9}]), confirmed=own)
    for field, value in [
        ("commit", "<b>"),
        ("created", "<b>"),
        ("created", "2026-11-21"),
        ("seed", 5),
        ("depends", {}),
    ]:
        with pytest.raises(ValueError, match="confirmed: "):
            replace(RECORD, confirmed=replace(own, **{field: value}))
