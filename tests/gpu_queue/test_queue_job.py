"""One job: interrupted anywhere it ends as if it had not been; what is short is never called trained."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from compactvision import records
from compactvision.queue import state, worker
from compactvision.queue.job import Job
from compactvision.queue.recipes import Scale
from safetensors.torch import load_file


def counted(*stops):
    """Return a ``stopping`` that says yes when it was asked so many times, one number a piece of the job."""
    calls = iter(range(10**9))
    return lambda: next(calls) in stops


def result(folder):
    return load_file(folder / state.RESULT)


def test_a_job_leaves_a_valid_record_and_no_checkpoint(do, small):
    status, folder, places = do()
    assert status == worker.FINISHED
    record = records.read(folder / state.RECORD)
    assert record == places.record(small.ENTRY, 0)
    assert (record.slug, record.profile, record.training.arm) == ("baselines", "trained", "small")
    assert (record.device.kind, set(record.versions) >= {"torch", "python"}) == ("cpu", True)
    assert [source.name for source in record.data] == ["digits/train", "digits/test"]
    assert record.method == records.method_digest(("training/fit.py",))
    assert record.commit == records.commit()[0]
    assert record.training.recipe["epochs"] == 4
    assert (record.values("run.steps"), record.values("run.pieces")) == ([small.STEPS], [1])
    assert record.values("small.best")[0] >= record.values("small.last")[0] > 0.15
    assert not (folder / state.CHECKPOINT).exists()


def test_stopped_at_two_places_it_ends_bitwise_where_the_uninterrupted_one_does(do, small):
    _, whole, _ = do("whole")
    seconds = []
    for stop in (9, 40):  # in the first epoch and in a later one
        status, folder, _ = do("cut", stopping=counted(stop))
        assert status == worker.CONTINUES
        assert (folder / state.CHECKPOINT).is_file()
        assert not (folder / state.RECORD).exists()
        told = state.progress(folder)
        assert 0 < told["steps"] < told["total"] == small.STEPS
        seconds.append(told["seconds"])
    state.write_progress(folder, {**told, "seconds": 1000.0})  # as if the pieces had been long
    status, folder, _ = do("cut")
    assert status == worker.FINISHED
    ours, theirs = result(folder), result(whole)
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    one, other = records.read(folder / state.RECORD), records.read(whole / state.RECORD)
    assert one.values("small.last") == other.values("small.last")
    assert one.values("small.best") == other.values("small.best")
    assert one.values("run.pieces") == [3]
    assert 1000 < one.seconds[0] < 1100  # all pieces together
    assert seconds[1] > seconds[0] > 0


def test_sigterm_ends_a_process_behind_a_checkpoint(do, script, small, tmp_path):
    places = state.Places(tmp_path / "killed", tmp_path / "killed" / "out", "trained")
    folder = places.folder(small.ENTRY, 0)
    command = [sys.executable, str(script), small.ENTRY.name, "0", "--work", str(places.work), "--out", str(places.out)]
    process = subprocess.Popen([*command, "--device", "cpu"], env=os.environ | {"PAUSE": "0.05"})
    try:
        until = time.monotonic() + 90
        while state.progress(folder).get("steps", 0) < 5 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == worker.CONTINUES
    finally:
        process.kill()
    told = state.progress(folder)
    assert 5 <= told["steps"] < small.STEPS
    assert (folder / state.CHECKPOINT).is_file()
    assert do("killed")[0] == worker.FINISHED
    _, whole, _ = do("whole")
    assert all(tensor.equal(result(whole)[name]) for name, tensor in result(folder).items())
    assert records.read(folder / state.RECORD).values("run.pieces") == [2]


@pytest.mark.parametrize("damage", ["torn", "foreign"])
def test_a_checkpoint_that_cannot_be_continued_is_set_aside(do, damage, capsys, small):
    _, folder, _ = do(stopping=counted(30))
    path = folder / state.CHECKPOINT
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        other = replace(small.RECIPE, learning_rate=0.5)
        do("other", stopping=counted(30), entry=small.ENTRY)
        arm = small.ARMS["small"]
        small.ARMS["small"] = replace(arm, recipe=other)
        _, theirs, _ = do("third", stopping=counted(30))
        small.ARMS["small"] = arm
        path.write_bytes((theirs / state.CHECKPOINT).read_bytes())
    capsys.readouterr()
    assert do()[0] == worker.FINISHED
    assert "set aside: checkpoint=" in capsys.readouterr().out
    assert path.with_suffix(".refused").is_file()
    _, whole, _ = do("whole")
    assert all(tensor.equal(result(whole)[name]) for name, tensor in result(folder).items())


def test_what_other_code_left_is_set_aside(do, monkeypatch):
    _, folder, _ = do(stopping=counted(30))
    monkeypatch.setattr(state, "code", lambda: "changed")
    status, same, _ = do(stopping=counted(5))
    assert (status, same) == (worker.CONTINUES, folder)
    assert state.progress(folder)["pieces"] == 1
    old = folder.with_name(f"{folder.name}.old")
    assert json.loads((old / state.IDENTITY).read_text())["code"] != "changed"


@pytest.mark.parametrize(
    ("scale", "kind"),
    [({"epochs": 2}, "scaled"), ({"images": 128}, "scaled"), ({"batch_size": 32}, "scaled"), ({"dry": True}, "dry")],
)
def test_a_shorter_or_smaller_training_says_so_and_has_its_own_place(do, small, scale, kind):
    status, folder, places = do(scale=Scale(**scale))
    assert status == worker.FINISHED
    assert folder.parent.name == kind
    record = records.read(folder / state.RECORD)
    assert record.profile == kind
    assert record.values("run.steps")[0] != small.STEPS
    assert places.record_path(small.ENTRY).name == f"{kind}-small.json"
    trained = replace(places, kind="trained")
    assert trained.record(small.ENTRY, 0) is None


@pytest.mark.parametrize("shortened", ["epochs", "images", "no training"])
def test_nothing_short_is_stored_as_trained(do, small, monkeypatch, shortened):
    if shortened == "epochs":
        monkeypatch.setattr(Job, "recipe", replace(small.RECIPE, epochs=1))
    elif shortened == "images":
        whole = Job.images.func
        monkeypatch.setattr(Job, "images", property(lambda job: _taken(job, whole)))
    else:
        small.ARMS["small"] = replace(small.ARM, run=lambda job: {"small.last": float(len(job.images))})
        monkeypatch.setattr(small, "ARM", small.ARMS["small"])
    status, folder, _ = do()
    assert status == worker.FAILED
    assert not (folder / state.RECORD).exists()
    assert "are not those of the paper's training" in state.progress(folder)["error"]


def _taken(job, whole):
    parts = tuple(part.take(128) for part in whole(job))
    job.sources = [replace(source, name=part.name) for source, part in zip(job.sources, parts)]
    return parts


def test_a_failure_is_told_and_can_be_tried_again(do, small, monkeypatch):
    def fail(job):
        raise RuntimeError("no such luck\nmore")

    monkeypatch.setitem(small.ARMS, "small", small.ARM)
    small.ARMS["small"] = replace(small.ARM, run=fail)
    monkeypatch.setattr(small, "ARM", small.ARMS["small"])
    status, folder, _ = do()
    assert status == worker.FAILED
    assert state.progress(folder)["error"] == "RuntimeError: no such luck"
    small.ARMS["small"] = replace(small.ARM, run=small.run)
    status, folder, _ = do()
    assert status == worker.FINISHED
    assert state.progress(folder)["error"] is None


def test_an_entry_starts_from_what_another_kept(do, small):
    status, folder, _ = do(entry=small.NEXT)
    assert status == worker.FAILED
    assert "'baselines/small' has not finished for seed 0" in state.progress(folder)["error"]
    do()
    assert do(entry=small.NEXT)[0] == worker.FINISHED
