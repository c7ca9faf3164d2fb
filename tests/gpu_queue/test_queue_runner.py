"""The runner: order, packing by memory, what is skipped or waits, and that it stops in time."""

import signal
from dataclasses import dataclass, field

import pytest
from compactvision import records
from compactvision.queue import state
from compactvision.queue.entries import Entry
from compactvision.queue.recipes import Scale
from compactvision.queue.runner import GRACE, MARGIN, Capacity, Runner, capacity, heeding_signals, launcher, log_path
from compactvision.queue.state import Places
from compactvision.queue.worker import CONTINUES, FAILED, FINISHED
from compactvision.records import Device, Record, SeedRun, Training

FIRST = Entry("baselines", "first", "trained", 4, 3, seeds=(0, 1))
SECOND = Entry("baselines", "second", "trained", 2, 5)
AFTER = Entry("chapter", "after", "trained", 1, 1, needs=("baselines/second",))
WHOLE = Entry("chapter", "full", "full", 3, 1)
LIST = (FIRST, SECOND, AFTER, WHOLE)


@dataclass
class Fake:
    """A process that takes so many seconds of the fake clock, and half a second to stop when told to."""

    now: "Clock"
    ends: float
    status: int = FINISHED
    deaf: bool = False
    finish: object = None
    told: list = field(default_factory=list)

    def poll(self):
        if self.now.time < self.ends:
            return None
        if self.status == FINISHED and self.finish:
            self.finish()
        return self.status

    def terminate(self):
        self.told.append("terminate")
        if not self.deaf:
            self.ends, self.status = self.now.time + 0.5, CONTINUES

    def kill(self):
        self.told.append("kill")
        self.ends, self.status = self.now.time, -signal.SIGKILL


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


class Queue:
    """A runner over fake processes; `seconds`, `status` and `deaf` by name of the entry."""

    def __init__(self, tmp_path, entries=LIST, memory=8.0, processes=4, minutes=9.0):
        self.clock, self.started, self.said, self.processes = Clock(), [], [], {}
        self.seconds, self.status, self.deaf = {}, {}, ()
        self.places = Places(tmp_path / "work", tmp_path / "out", "trained")
        self.runner = Runner(
            entries, self.places, Capacity(memory, processes), self.launch, minutes, self.said.append,
            self.clock, self.clock.sleep,
        )  # fmt: skip

    def launch(self, entry, seed):
        self.started.append((entry.name, seed, round(self.clock.time)))
        process = Fake(
            self.clock,
            self.clock.time + self.seconds.get(entry.name, 30),
            self.status.get(entry.name, FINISHED),
            entry.name in self.deaf,
            lambda: finish(self.places, entry, seed),
        )
        self.processes[entry.name, seed] = process
        return process

    def names(self):
        return [(name, seed) for name, seed, _ in self.started]


def finish(places, entry, seed, result=True):
    """Leave what a finished job leaves."""
    folder = places.folder(entry, seed)
    folder.mkdir(parents=True, exist_ok=True)
    training = Training(entry.arm, ["training/fit.py"], {}) if entry.kind == "trained" else None
    record = Record(
        slug=entry.slug, profile=entry.kind, created="2026-11-26T10:00:00+00:00", commit="0123456",
        dirty=False, method="m", notebook=None, device=Device("cuda", "A card", 2), versions={"torch": "2"}, data=[],
        runs=[SeedRun(seed, 5.0, 100.0, {"x": 1.0})], training=training,
    )  # fmt: skip
    records.write(record, folder / state.RECORD)
    if result and entry.kind == "trained":
        (folder / state.RESULT).write_bytes(b"x")


@pytest.fixture
def queue(tmp_path, book):
    return lambda **options: Queue(tmp_path, **options)


def test_it_fills_the_memory_in_the_lists_order_and_never_more(queue):
    q = queue()
    q.runner.run()
    # 3 + 3 GiB first; the 5 of the second do not fit beside them, the notebook's 1 does; what needs it comes last
    assert q.names() == [
        ("baselines/first", 0), ("baselines/first", 1), ("chapter/full", 0), ("baselines/second", 0),
        ("chapter/after", 0),
    ]  # fmt: skip
    assert [start for *_, start in q.started] == [0, 0, 0, 30, 60]
    assert q.runner.outcome.finished == [(name, seed) for name, seed, _ in q.started]
    assert "started chapter/full, seed 0 (3 at once)" in q.said


def test_never_more_processes_than_allowed(queue):
    q = queue(processes=1)
    q.runner.run()
    assert q.names()[:3] == [("baselines/first", 0), ("baselines/first", 1), ("baselines/second", 0)]
    assert [start for *_, start in q.started] == [0, 30, 60, 90, 120]


def test_what_is_finished_is_skipped_and_opens_what_waits_for_it(queue):
    q = queue()
    finish(q.places, FIRST, 0)
    finish(q.places, SECOND, 0)
    q.runner.run()
    assert q.names() == [("baselines/first", 1), ("chapter/after", 0), ("chapter/full", 0)]


def test_a_finished_entry_is_done_again_where_its_weights_are_gone_but_wanted(queue):
    q = queue()
    finish(q.places, SECOND, 0, result=False)
    assert not q.places.finished(SECOND, 0, LIST)
    finish(q.places, AFTER, 0)
    assert q.places.finished(SECOND, 0, LIST)


def test_what_came_along_or_is_shipped_counts_as_finished(queue):
    q = queue()
    finish(q.places, SECOND, 0)
    brought = Places(q.places.work / "fresh", q.places.out, "trained")
    assert not brought.finished(SECOND, 0, LIST)
    record = records.read(q.places.folder(SECOND, 0) / state.RECORD)
    records.write(record, brought.record_path(SECOND))
    assert not brought.finished(SECOND, 0, LIST)  # its weights did not come along
    brought.result_path(SECOND, 0).parent.mkdir(parents=True)
    brought.result_path(SECOND, 0).write_bytes(b"x")
    assert brought.finished(SECOND, 0, LIST)
    assert not brought.finished(FIRST, 1, LIST)
    records.save(_record_of(q, FIRST, 1))
    assert brought.finished(FIRST, 1, LIST)
    assert not brought.finished(FIRST, 0, LIST)
    assert not Places(brought.work, brought.out / "none", "scaled").finished(FIRST, 1, LIST)


def _record_of(q, entry, seed):
    finish(q.places, entry, seed)
    return records.read(q.places.folder(entry, seed) / state.RECORD)


def test_it_stops_before_the_minutes_are_over(queue):
    q = queue(minutes=4)
    q.seconds = {"baselines/first": 10_000}
    outcome = q.runner.run()
    assert q.clock.time <= 4 * 60 - MARGIN + GRACE
    assert outcome.continuing == [("baselines/first", 0), ("baselines/first", 1)]
    assert [process.told for process in q.processes.values()][:2] == [["terminate"]] * 2
    assert ("chapter/full", 0) in q.names()  # its 3 minutes are there at the start
    assert "to be continued: baselines/first, seed 1" in q.said


def test_a_process_that_does_not_stop_is_ended(queue):
    q = queue(entries=(FIRST,), minutes=2)
    q.seconds, q.deaf = {"baselines/first": 10_000}, ("baselines/first",)
    outcome = q.runner.run()
    assert q.processes["baselines/first", 0].told == ["terminate", "kill"]
    assert q.clock.time < 120
    assert outcome.continuing == [("baselines/first", 0), ("baselines/first", 1)]


def test_a_notebook_is_not_started_without_its_minutes(queue):
    q = queue(minutes=3)  # less the margin
    q.runner.run()
    assert "chapter/full" not in [name for name, _ in q.names()]


def test_near_the_end_nothing_is_begun_beside_what_runs(queue):
    long = Entry("baselines", "long", "trained", 40, 1)
    for seconds, begun in ((80, False), (70, True)):  # told to stop after 135
        q = queue(entries=(FIRST, long, SECOND), minutes=3)
        q.seconds = {"baselines/first": seconds, "baselines/long": 1000, "baselines/second": 1000}
        q.runner.run()
        assert (("baselines/second", 0) in q.names()) == begun


def test_a_job_that_fails_is_not_tried_twice_in_a_call_and_holds_up_no_other(queue):
    q = queue()
    q.status = {"baselines/second": FAILED}
    outcome = q.runner.run()
    assert outcome.failed == [("baselines/second", 0)]
    assert q.names().count(("baselines/second", 0)) == 1
    assert "chapter/after" not in [name for name, _ in q.names()]
    assert any(line.startswith("failed baselines/second, seed 0 (status 1): ") for line in q.said)


def test_a_signal_ends_the_call_at_once(queue):
    q = queue()
    q.seconds = {"baselines/first": 10_000}
    sleep, sent = q.clock.sleep, []

    def signalled(seconds):
        sleep(seconds)
        if not sent:
            sent.append(signal.raise_signal(signal.SIGTERM))

    q.runner.sleep = signalled
    before = signal.getsignal(signal.SIGTERM)
    with heeding_signals(q.runner):
        outcome = q.runner.run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert outcome.continuing[:2] == [("baselines/first", 0), ("baselines/first", 1)]
    assert q.clock.time < 2


def test_minutes_must_be_positive_and_a_cpu_takes_one_job_at_a_time(queue):
    with pytest.raises(ValueError, match="minutes: 0 is not above 0"):
        queue(minutes=0)
    assert capacity("cpu", None) == Capacity(float("inf"), 1)
    assert capacity("cpu", 3).processes == 3


def test_a_job_gets_a_process_a_log_and_its_options(tmp_path, monkeypatch):
    places = Places(tmp_path / "work", tmp_path / "out", "scaled")
    entry = Entry("nowhere", "none", "trained", 1, 1)
    process = launcher(places, Scale(epochs=3), "cpu", 1)(entry, 2)
    assert process.args[1:5] == ["-m", "compactvision.queue.worker", "nowhere/none", "2"]
    assert process.args[-2:] == ["--epochs", "3"]
    assert process.wait(timeout=120) == 1
    assert "'nowhere/none' is no entry of the queue" in log_path(places, entry, 2).read_text()
