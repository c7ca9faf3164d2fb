"""A live run: arguments checked, values kept, compared with the record in words."""

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from compactvision import experiment, records
from compactvision.experiment.run import collecting


@pytest.fixture
def run(book):
    return experiment.start("tiny", seed=3, device="cpu")


def save(run, values_by_seed, bands=None):
    """Write a record of the run's profile with other values a seed."""
    live = run.live_record()
    runs = [records.SeedRun(seed, 1.0, 1.0, values) for seed, values in enumerate(values_by_seed)]
    fields = {name: getattr(live, name) for name in live.__dataclass_fields__}
    records.save(records.Record(**(fields | {"runs": runs, "bands": bands or {}})))


def test_start_seeds_all_three_generators(book):
    def draws(seed):
        experiment.start("tiny", seed=seed)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draws(5) == draws(5)
    assert all(a != b for a, b in zip(draws(5), draws(6), strict=True))


@pytest.mark.parametrize(("recorded", "recording", "used"), [(1, False, 1), (8, False, 2), (1, True, 2)])
def test_a_live_run_uses_no_more_threads_than_its_record(book, recorded, recording, used):
    before = torch.get_num_threads()
    try:
        run = experiment.start("tiny", device="cpu")
        save(run, [{"accuracy": 0.5}])
        told = records.load("tiny", "quick")
        records.save(replace(told, device=replace(told.device, threads=recorded)))
        torch.set_num_threads(2)
        with collecting(recording=recording):
            experiment.start("tiny", device="cpu")
        assert torch.get_num_threads() == used
    finally:
        torch.set_num_threads(before)


def test_start_gives_device_profile_and_seed(run, book):
    assert (run.slug, run.profile, run.seed, run.quick, run.device) == ("tiny", "quick", 3, True, torch.device("cpu"))
    assert repr(run) == "Run('tiny', profile='quick', device='cpu', seed=3)"
    assert not experiment.start("tiny", profile="full", seed=np.int64(1)).quick


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slug": "none"}, "slug: 'none' is no chapter; known are tiny"),
        ({"profile": "slow"}, "profile: 'slow' is not one of quick, full"),
        ({"device": "tpu"}, "device: 'tpu' is not one of auto, cpu, cuda, mps"),
        ({"device": "cuda:x"}, "device: 'cuda:x'"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 2**32}, "seed: 4294967296"),
        ({"seed": 1.5}, "seed: 1.5"),
        ({"seed": True}, "seed: True"),
    ],
)
def test_start_refuses_what_makes_no_sense(book, options, words):
    with pytest.raises(ValueError, match=words):
        experiment.start(**({"slug": "tiny"} | options))


def test_a_device_that_is_not_there_is_an_error_and_auto_takes_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert experiment.resolve_device("auto") == torch.device("cpu")
    for device in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ValueError, match=f"device: '{device}' was asked for"):
            experiment.resolve_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert experiment.resolve_device("auto") == torch.device("cuda")
    assert experiment.resolve_device("cuda:0") == torch.device("cuda:0")
    assert experiment.resolve_device("mps") == torch.device("mps")
    with pytest.raises(ValueError, match="'cuda:1' was asked for, but torch finds 1 CUDA"):
        experiment.resolve_device("cuda:1")


def test_the_stamp_is_one_line_without_paths(run):
    stamp = run.stamp()
    assert "\n" not in stamp
    assert "/" not in stamp
    assert stamp.startswith("tiny · quick · seed 3 · compactvision ")
    assert f"torch {torch.__version__}" in stamp
    assert stamp.endswith(f"cpu, {torch.get_num_threads()} threads")


def test_log_keeps_plain_numbers(run):
    assert run.log("count", 853018) == 853018
    assert run.log("tensor", torch.tensor(0.5, dtype=torch.float64)) == 0.5
    assert run.log("numpy", np.float32(0.25)) == 0.25
    assert run.log("flag", torch.tensor(3) == 3) == 1
    assert run.log("list", [1, np.float64(0.5), torch.tensor(2)]) == [1, 0.5, 2]
    assert run.log("array", np.arange(3)) == [0, 1, 2]
    assert list(run.values) == ["count", "tensor", "numpy", "flag", "list", "array"]
    assert all(type(value) in (int, float, list) for value in run.values.values())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("loss", float("nan"), "'loss' is nan, not finite"),
        ("loss", torch.tensor(float("inf")), "'loss' is inf, not finite"),
        ("curve", [0.1, float("nan")], "'curve' is nan, not finite"),
        ("table", torch.zeros(2, 2), "'table'"),
        ("text", "0.5", "'text' is '0.5'"),
        ("none", None, "'none' is None"),
        ("empty", [], "'empty' has 0 numbers"),
        ("long", [0] * 513, "'long' has 513 numbers"),
        ("", 1, "name: ''"),
        (" a", 1, "name: ' a'"),
        (3, 1, "name: 3"),
    ],
)
def test_log_refuses_what_is_no_result(run, name, value, words):
    with pytest.raises(ValueError, match=words):
        run.log(name, value)
    assert run.values == {}


def test_log_refuses_a_second_value_and_a_bad_band(run):
    run.log("a", 1, band=0)
    with pytest.raises(ValueError, match="'a' was logged before"):
        run.log("a", 1)
    for band in (-0.1, float("inf"), float("nan"), True, "0"):
        with pytest.raises(ValueError, match="band: 'b' has the band"):
            run.log("b", 1, band=band)
    assert (run.values, run.bands) == ({"a": 1}, {"a": 0.0})


def test_data_is_noted_once(run):
    images = SimpleNamespace(name="glyphs/train", provenance="generated", digest=lambda: "ab")
    run.data(images)
    run.data(images)
    assert run.live_record().data == [records.DataSource("glyphs/train", "generated", "ab")]


def test_record_is_the_shipped_one_of_the_profile(run):
    run.log("a", 1)
    assert run.record() is None
    save(run, [{"a": 1}, {"a": 2}])
    assert run.record().values("a") == [1, 2]
    assert run.record("quick") == run.record()
    assert run.record("full") is None


def test_check_without_a_record_says_how_to_make_one(run):
    assert run.check() == (
        "There is no quick record of tiny yet; "
        "`python -m compactvision run tiny --profile quick --seeds 0 1 2 --save` makes it."
    )


@pytest.mark.parametrize("value", [0.48, 0.5, 0.6, 0.62])
def test_check_accepts_the_range_of_seeds_widened_by_the_band(run, value):
    run.log("a", value, band=0.02)
    run.log("free", 100)
    save(run, [{"a": 0.6, "free": 1}, {"a": 0.5, "free": 2}])
    assert run.check() == "1 values lie inside the bands of the quick record (seeds 0, 1)."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.47, r"a = 0\.47 lies below the record's seeds \(0\.5 to 0\.6\) by more than the band of 0\.02"),
        (0.63, r"a = 0\.63 lies above the record's seeds"),
    ],
)
def test_a_strict_check_names_what_lies_outside(run, value, words, monkeypatch):
    monkeypatch.setenv("COMPACTVISION_STRICT", "1")
    run.log("a", value, band=0.02)
    save(run, [{"a": 0.6}, {"a": 0.5}])
    with pytest.raises(AssertionError, match=words):
        run.check()


def test_check_notes_what_was_trained_elsewhere(run):
    run.log("a", 0.47, band=0.02)
    run.log("b", 1, band=0)
    save(run, [{"a": 0.6, "b": 1}, {"a": 0.5, "b": 1}])
    first, second, third, last = run.check().splitlines()
    assert first == "1 values lie inside the bands of the quick record (seeds 0, 1)."
    assert second.startswith("Noted: 1 lies outside")
    assert third == "  a = 0.47 lies below the record's seeds (0.5 to 0.6) by more than the band of 0.02"
    made_on = records.load("tiny", "quick").device.name
    assert made_on in last
    assert records.describe_device("cpu").name in last
    assert last.endswith("with seed 3, which the record does not hold.")
    run.seed = 1
    assert run.check().endswith("with seed 1.")


def test_what_is_exact_must_agree_everywhere(run):
    run.log("parameters", 269722, band=0)
    save(run, [{"parameters": 269723}])
    with pytest.raises(AssertionError, match=r"parameters = 269722 lies below .* by more than the band of 0"):
        run.check()


@pytest.mark.parametrize("strict", ["", "1"])
def test_check_looks_into_lists_and_at_what_the_record_lacks(run, strict, monkeypatch):
    monkeypatch.setenv("COMPACTVISION_STRICT", strict)
    run.log("curve", [1.0, 5.0], band=0.5)
    save(run, [{"curve": [1.0, 2.0]}, {"curve": [1.5, 4.0]}])
    if strict:
        with pytest.raises(AssertionError, match=r"curve\[1\] = 5 lies above"):
            run.check()
    else:
        assert "curve[1] = 5 lies above" in run.check()
    save(run, [{"curve": [1.0, 2.0]}, {"curve": [1.5, 4.5]}])
    assert run.check().startswith("1 values")
    save(run, [{"curve": [1.0, 2.0, 3.0]}])
    with pytest.raises(AssertionError, match="curve: the quick record holds another number of values"):
        run.check()
    save(run, [{"other": 1}])
    with pytest.raises(AssertionError, match="curve: the quick record has no such value"):
        run.check()


def test_the_command_line_collects_runs_and_switches_the_check_off(book):
    with collecting(recording=True) as session:
        run = experiment.start("tiny")
        run.log("a", 9, band=0)
        save(run, [{"a": 1}])
        assert run.check() == "A new record is being made: nothing to compare with."
    assert session.runs == [run]
    assert not experiment.start("tiny").recording
    assert len(session.runs) == 1


@pytest.mark.parametrize("other", [None, 3, "glyphs", b"a", {}, [], int, lambda: None])
def test_what_is_no_data_set_is_not_noted(run, other):
    with pytest.raises(ValueError, match=r"^image_set must have a name, a provenance and a digest, got "):
        run.data(other)
    assert run.sources == []


@pytest.mark.parametrize("profile", ["", 0, False, [], "slow"])
def test_a_profile_that_is_none_is_not_taken_for_the_runs_own(run, profile):
    save(run, [{"a": 1}])
    with pytest.raises(ValueError, match=r"^profile: .* is not one of quick, full"):
        run.record(profile)
