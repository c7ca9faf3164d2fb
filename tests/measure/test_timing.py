"""Timing with a clock that the test holds."""

import pytest
import torch
from compactvision import measure
from compactvision.measure import timing
from torch import nn


class Clock:
    """A clock that models push forward."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)


class Takes(nn.Module):
    """Takes the given numbers of seconds, one a call, the last one for ever after."""

    def __init__(self, clock, *seconds, log=None, name=""):
        super().__init__()
        self.clock, self.seconds, self.log, self.name = clock, list(seconds), log, name

    def forward(self, x):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.clock.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        if self.log is not None:
            self.log.append(self.name)
        return x


def test_median_and_quartiles_without_the_warm_up(monkeypatch):
    model = Takes(Clock(monkeypatch), 9.0, 9.0, 0.004, 0.001, 0.002, 0.003, 0.005)
    result = measure.latency(model, torch.zeros(8, 3), warmup=2, repeats=5, threads=1)
    assert (result.median_ms, result.q1_ms, result.q3_ms) == pytest.approx((3.0, 2.0, 4.0))
    assert (result.n, result.batch, result.threads, result.device) == (5, 8, 1, "cpu")
    assert str(result) == "3 ms (quartiles 2 to 4, n = 5), batch 8, cpu, threads 1"


def test_models_take_turns_and_the_first_changes(monkeypatch):
    clock, log = Clock(monkeypatch), []
    models = {name: Takes(clock, 0.001, log=log, name=name) for name in "abc"}
    measure.latency_ratio(models, (3,), warmup=1, repeats=4)
    assert "".join(log) == "abc" + "abc" + "bca" + "cab" + "abc"


def test_ratio_is_formed_round_by_round_so_that_drift_cancels(monkeypatch):
    clock = Clock(monkeypatch)
    slow, fast = [2.0, 4.0, 8.0, 16.0], [1.0, 2.0, 4.0, 8.0]
    models = {"slow": Takes(clock, *slow, 0.0), "fast": Takes(clock, *fast, 0.0)}
    result = measure.latency_ratio(models, (3,), reference="fast", warmup=0, repeats=4)
    assert result.reference == "fast"
    assert result.ratios["slow"] == measure.Ratio(2.0, 2.0, 2.0)
    assert result.ratios["fast"] == measure.Ratio(1.0, 1.0, 1.0)
    assert result.latencies["slow"].median_ms == pytest.approx(6000)


def test_first_model_is_the_reference_by_default(monkeypatch):
    clock = Clock(monkeypatch)
    models = {"a": Takes(clock, 1.0), "b": Takes(clock, 0.25)}
    result = measure.latency_ratio(models, (3,), warmup=0, repeats=3)
    assert result.reference == "a"
    assert result.ratios["b"].median == 0.25


def test_thread_count_is_used_and_restored():
    seen = []

    class Looks(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x

    before = torch.get_num_threads()
    other = 2 if before == 1 else 1
    assert measure.latency(Looks(), (3,), warmup=1, repeats=1, threads=other).threads == other
    assert seen == [other, other]
    assert torch.get_num_threads() == before
    assert measure.latency(Looks(), (3,), warmup=0, repeats=1).threads == before


def test_bad_arguments_are_named():
    model = nn.Identity()
    for options, message in (
        ({"warmup": -1}, "warmup must not be negative, got -1"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            measure.latency(model, (3,), **options)
    with pytest.raises(ValueError, match="models must hold"):
        measure.latency_ratio({}, (3,))
    with pytest.raises(ValueError, match=r"reference must be one of .*'a'.*, got 'b'"):
        measure.latency_ratio({"a": model}, (3,), reference="b")


@pytest.mark.cuda
def test_events_see_the_whole_pass_on_a_gpu():
    model = nn.Linear(4096, 4096).cuda()
    small, large = torch.randn(1, 4096), torch.randn(65536, 4096)
    first = measure.latency(model, small, repeats=10)
    second = measure.latency(model, large, repeats=10)
    assert first.device.startswith("cuda")
    assert second.median_ms > first.median_ms > 0


@pytest.mark.parametrize("models", [None, [nn.Identity()], "ab", {"a": None}, {"a": nn.Linear}])
def test_what_is_no_mapping_of_models_is_refused(models):
    with pytest.raises(ValueError, match="models"):
        measure.latency_ratio(models, (3,))
    with pytest.raises(ValueError, match="reference must be one of"):
        measure.latency_ratio({"a": nn.Identity()}, (3,), reference=["a"])
