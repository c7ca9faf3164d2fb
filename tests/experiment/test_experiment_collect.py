"""All seeds of a run: fresh processes, finished seeds kept through a kill, one run at a time."""

import subprocess
import sys

import pytest
from compactvision import records
from compactvision.experiment import collect as module
from compactvision.experiment.collect import RunError, collect, forget, merged, only_run, partial_path
from compactvision.experiment.worker import peak_memory_mb, run_seed


@pytest.fixture
def diary(tmp_path, monkeypatch):
    """Return a reader of the seeds that really ran."""
    path = tmp_path / "diary"
    monkeypatch.setenv("TINY_DIARY", str(path))
    return lambda: path.read_text().splitlines() if path.is_file() else []


def test_each_seed_gives_its_values_and_an_interrupted_run_continues(book, diary, monkeypatch):
    lines = []
    monkeypatch.setenv("TINY_DIES", "2")
    with pytest.raises(RunError, match=r"seed 2 of tiny \(quick\) was killed by signal 9; the seeds finished"):
        collect("tiny", seeds=[1, 2], device="cpu")
    monkeypatch.delenv("TINY_DIES")
    record = collect("tiny", seeds=[1, 2], device="cpu", say=lines.append)
    assert diary() == ["1 quick cpu", "2 quick cpu", "2 quick cpu"]
    assert lines[0] == "seed 1: finished before, not run again"
    assert record.seeds == [1, 2]
    assert record.values("net.accuracy") == [0.91, 0.92]
    assert record.values("curve") == [[0.5, 0.25]] * 2
    assert record.bands == {"count": 0, "net.accuracy": 0.02}
    assert record.method is None
    assert {"notebook:tiny", "claims:tiny/quick", "experiment/run.py:Run.log"} <= set(record.depends)
    assert (record.device.kind, record.device.threads) == ("cpu", 1)
    assert all(50 < run.peak_memory_mb < 4000 and 0 < run.seconds < 60 for run in record.runs)
    assert all(run.peak_gpu_memory_mb is None for run in record.runs)
    assert partial_path("tiny", "quick", "cpu").is_file()
    forget("tiny", "quick", "cpu")
    assert not partial_path("tiny", "quick", "cpu").is_file()


@pytest.fixture
def quickly(monkeypatch):
    """Run seeds in this process, so that what goes around them can be tested fast."""
    monkeypatch.setattr(
        module,
        "_one_seed",
        lambda slug, profile, device, seed, recording, *_: run_seed(slug, profile, device, seed, recording=recording),
    )


def test_finished_seeds_of_other_code_are_run_again(book, quickly, diary, edit):
    collect("tiny", seeds=[0], device="cpu")
    collect("tiny", seeds=[0], device="cpu")
    assert len(diary()) == 1
    edit(book / "notebooks" / "tiny.ipynb", 6, "shown = True", tags=["skip-run"])  # is not run
    collect("tiny", seeds=[0], device="cpu")
    assert len(diary()) == 1
    edit(book / "notebooks" / "tiny.ipynb", 5, "changed = True")
    collect("tiny", seeds=[0], device="cpu")
    assert len(diary()) == 2
    partial_path("tiny", "quick", "cpu").write_text("{ damaged")
    collect("tiny", seeds=[0], device="cpu")
    assert len(diary()) == 3


def test_only_the_seeds_asked_for_are_returned(book, quickly):
    collect("tiny", seeds=[4, 1], device="cpu")
    assert collect("tiny", seeds=[4], device="cpu").seeds == [4]
    assert collect("tiny", seeds=[5, 1], device="cpu").seeds == [1, 5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slug": "none"}, "slug: 'none' is no chapter"),
        ({"profile": "slow"}, "profile: 'slow'"),
        ({"seeds": []}, r"seeds: \[\] is empty"),
        ({"seeds": [1, 1]}, r"seeds: \[1, 1\] is empty or names a seed twice"),
        ({"seeds": [0, -1]}, "seeds: -1 is not"),
        ({"seeds": [2**32]}, "seeds: 4294967296 is not"),
        ({"device": "tpu"}, "device: 'tpu'"),
    ],
)
def test_bad_arguments(book, quickly, options, words):
    with pytest.raises(ValueError, match=words):
        collect(**({"slug": "tiny"} | options))


def test_a_missing_notebook_is_told_before_anything_runs(book, quickly):
    (book / "notebooks" / "tiny.ipynb").unlink()
    with pytest.raises(ValueError, match=r"there is no notebook notebooks/tiny\.ipynb"):
        collect("tiny")


HOLD = """
import sys
from compactvision.experiment.collect import only_run
with only_run("tiny", "full"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_full_runs_never_go_on_at_once_and_a_killed_one_frees_the_lock(book):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=rf"another full run is going on \(tiny, process {other.pid}\)"),
            only_run("some_other_chapter", "full"),
        ):
            pass
        with only_run("tiny", "quick"):
            pass
        other.kill()
        other.wait()
        with only_run("tiny", "full"):
            pass


def test_records_of_different_code_are_not_merged(book, quickly):
    one = collect("tiny", seeds=[0], device="cpu")
    other = records.Record(**{**vars(one), "method": "x", "runs": [records.SeedRun(1, 1.0, 1.0, one.runs[0].values)]})
    with pytest.raises(ValueError, match="method: "):
        merged(one, other)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "calls experiment.start 0 times"),
        ('run = experiment.start("tiny"); experiment.start("tiny")', "calls experiment.start 2 times"),
        ('run = experiment.start("tiny", seed=SEED + 1)', "which is not what its parameters say"),
        ('run = experiment.start("tiny", seed=SEED)', "it logged no values"),
    ],
)
def test_a_notebook_starts_one_run_by_its_parameters_and_logs_something(book, edit, source, words):
    path = book / "notebooks" / "tiny.ipynb"
    edit(path, 3, source)
    for number in (4, 7):
        edit(path, number, "")
    with pytest.raises(ValueError, match=words):
        run_seed("tiny", "quick", "cpu", 0, recording=False)


def test_peak_memory_is_that_of_this_process():
    before = peak_memory_mb()
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory_mb() >= before
    assert peak_memory_mb() > 200
