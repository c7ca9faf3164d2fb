"""``compress`` from start to end, on networks that train in a second."""

import copy
import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from compactvision import compress, measure, shrinking, surgery, training
from compactvision.shrinking import timing
from compactvision.shrinking.clock import Clock
from compactvision.shrinking.journal import Journal
from compactvision.shrinking.rivals import InFormat
from compactvision.shrinking.session import Session
from torch import nn

from .conftest import batches_of, network

STAGES = ["whole", "cut", "reconstructed", "renewed", "tuned"]
BESIDE = ["random", "random_tuned", "resolution", "resolution_tuned", "whole_tuned", "bf16"]


@pytest.fixture(scope="module")
def done(model, train, test):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small, report = compress(model, train, test, keep_macs=0.5, epochs=2)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    return small, report


def test_the_network_is_smaller_and_the_table_tells_its_size(model, done):
    small, report = done
    row = report["tuned"]
    assert row.macs == measure.macs(small, (1, 8, 8)) <= 0.5 * measure.macs(model, (1, 8, 8))
    assert row.parameters == measure.parameters(small) < report["whole"].parameters
    assert report.budget["reached"] == row.macs / report["whole"].macs
    assert not small.training


def test_the_table_has_every_stage_and_every_rival(done):
    assert [row.stage for row in done[1].rows] == STAGES + BESIDE


def test_metrics_are_those_of_the_networks(model, test, done):
    small, report = done
    assert report["whole"].metric == measure.accuracy(model, test)
    assert report["tuned"].metric == measure.accuracy(small, test)
    assert report["tuned"].metric > 0.8
    assert report.images == 200


def test_a_stage_is_kept_only_where_training_images_say_so(done):
    report = done[1]
    losses = [report["cut"].loss]
    for stage in ("reconstructed", "renewed"):
        row = report[stage]
        assert row.remark.startswith(("kept (", "not kept ("))
        assert (row.metric is not None) == row.remark.startswith("kept")
        losses.append(row.loss)
    assert losses == sorted(losses, reverse=True)


def test_random_channels_cost_the_same(done):
    report = done[1]
    assert abs(report["random_tuned"].macs / report["whole"].macs - 0.5) < 0.06
    assert report["resolution"].remark == "skipped: the network takes no lower resolution with so few MACs"


def test_times_are_measured_in_turn(done):
    report = done[1]
    for stage in ("whole", "cut", "tuned", "random_tuned", "bf16"):
        median, low, high = report[stage].ms
        assert 0 < low <= median <= high
    assert report.conditions["runs"] == 30


def test_the_report_is_written_three_ways(done):
    report = done[1]
    text = report.to_markdown()
    assert text.splitlines()[0] == "| network | accuracy | parameters | MACs | ms (quartiles) | remark |"
    assert f"{100 * report['tuned'].metric:.1f} %" in text
    assert str(report) == text
    again = shrinking.Report.from_json(report.to_json())
    assert again == report
    assert json.loads(report.to_json())["budget"]["name"] == "keep_macs"
    figure = report.plot()
    assert figure.axes[0].get_xlabel() == "milliseconds of one picture"
    assert len(figure.axes[0].get_legend().get_texts()) >= 4


def test_an_unknown_stage_is_refused(done):
    with pytest.raises(ValueError, match="stage must be one of whole, cut"):
        done[1]["none"]


def test_it_is_a_function_of_its_arguments(model, train, test):
    found = [compress(model, train, test, keep_macs=0.6, epochs=1, rivals=("random",)) for _ in range(2)]
    states = [small.state_dict() for small, _ in found]
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    metrics = [[(row.stage, row.metric, row.loss) for row in report.rows] for _, report in found]
    assert metrics[0] == metrics[1]


def test_test_batches_decide_nothing(model, train, test):
    other = [(inputs, (targets + 1) % 4) for inputs, targets in test]
    states = []
    for batches in (test, other):
        small, _ = compress(model, train, batches, keep_macs=0.6, epochs=1, rivals=())
        states.append(small.state_dict())
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())


class _Killed(Exception):  # noqa: N818
    pass


def test_a_killed_run_goes_on_and_ends_alike(model, train, test, tmp_path):
    options = {"keep_macs": 0.6, "epochs": 2, "rivals": ("random",)}
    straight, expected = compress(model, train, test, **options)

    def kill(text):
        if text.startswith("tuned"):
            raise _Killed

    with pytest.raises(_Killed):
        compress(model, train, test, journal=tmp_path / "j", say=kill, **options)
    assert (tmp_path / "j" / "choice.json").exists()
    said = []
    small, report = compress(model, train, test, journal=tmp_path / "j", say=said.append, **options)
    assert not any(text.startswith("by the scan") for text in said)
    assert [(row.stage, row.metric) for row in report.rows] == [(row.stage, row.metric) for row in expected.rows]
    assert all(tensor.equal(small.state_dict()[name]) for name, tensor in straight.state_dict().items())
    again, _ = compress(model, train, test, journal=tmp_path / "j", **options)
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in straight.state_dict().items())


def test_the_journal_of_another_run_is_refused(model, train, test, tmp_path):
    compress(model, train, test, keep_macs=0.6, epochs=1, rivals=(), journal=tmp_path)
    with pytest.raises(ValueError, match=r"journal: .* belongs to a different run: budget"):
        compress(model, train, test, keep_macs=0.7, epochs=1, rivals=(), journal=tmp_path)
    with pytest.raises(ValueError, match="belongs to a different run: weights"):
        compress(network(3), train, test, keep_macs=0.6, epochs=1, rivals=(), journal=tmp_path)


def test_a_damaged_journal_is_refused(model, train, test, tmp_path):
    options = {"keep_macs": 0.6, "epochs": 1, "rivals": (), "journal": tmp_path}
    compress(model, train, test, **options)
    (tmp_path / "tuned.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"tuned.safetensors' is damaged"):
        compress(model, train, test, **options)


def test_what_there_is_no_time_for_is_said(model, train, test):
    small, report = compress(model, train, test, keep_macs=0.5, minutes=0.05)
    assert measure.macs(small, (1, 8, 8)) < measure.macs(model, (1, 8, 8))
    assert [row.stage for row in report.rows] == STAGES + BESIDE
    assert all(row.remark.startswith("skipped") for row in report.rows if row.metric is None and row.stage in BESIDE)


def test_tuning_stops_at_the_end_of_the_time(model, train, test, monkeypatch):
    left = itertools.chain([100.0] * 5, itertools.repeat(1.0))
    monkeypatch.setattr(Clock, "left", lambda self: next(left))
    session = Session(model, train, test, measure.accuracy, F.cross_entropy, Clock(1), None, 0.02, 0, print, False)
    session.journal, session.steps = Journal(None, {}), 50
    network, remark = session.tune(copy.deepcopy(model), "tuned", 2.0)
    assert remark == "stopped by the time after 6 of 50 steps"
    assert not network.training
    assert not network[0].weight.equal(model[0].weight)


def test_without_any_time_the_cut_is_made_all_the_same(model, train, test):
    small, report = compress(model, train, test, keep_macs=0.5, minutes=1e-6)
    assert report["cut"].metric is not None
    assert report["tuned"].remark.startswith("skipped: no time for a step")
    assert report["whole_tuned"].remark == "skipped: its time went into the small network"
    assert measure.macs(small, (1, 8, 8)) == report["cut"].macs
    assert report["whole"].ms[0] > 0
    report.plot()


def test_with_little_time_fewer_images_choose_and_the_table_says_what_was_left_out(model, train, test, monkeypatch):
    seen = []
    evaluate = training.evaluate
    monkeypatch.setattr(Session, "image_seconds", lambda self: 1.0)
    monkeypatch.setattr(training, "evaluate", lambda network, batches, **options: (
        seen.append(sum(len(inputs) for inputs, _ in batches)), evaluate(network, batches, **options)
    )[1])  # fmt: skip
    _, report = compress(model, train, test, keep_macs=0.5, minutes=0.5, rivals=())
    assert set(seen) == {16}
    assert report["cut"].remark.startswith("all groups at one rate: no time for the scan")
    assert report["reconstructed"].remark == "skipped: no time for it"
    assert report["tuned"].remark.startswith("skipped: no time for a step")
    assert (report.plan["by"], report.sensitivity) == ("rate", {})


def test_only_the_last_stage_is_measured_where_time_is_short(model, train, test, monkeypatch):
    monkeypatch.setattr(Clock, "left", lambda self: 1e-3)
    _, report = compress(model, train, test, keep_macs=0.5, minutes=1, rivals=())
    stages = [report[name] for name in ("cut", "reconstructed", "renewed")]
    kept = [row for row in stages if row.stage == "cut" or row.remark.startswith("kept")]
    assert [row.metric is not None for row in kept] == [False] * (len(kept) - 1) + [True]
    assert all(row.remark.endswith("not measured: no time") for row in kept[:-1])


@pytest.mark.parametrize("later", [1e-4, 100.0])
def test_a_rival_that_was_dropped_is_measured_where_time_is_left_after_all(model, train, test, monkeypatch, later):
    before = itertools.chain([10.0], itertools.repeat(100.0))  # the small network's step, then the rivals'
    monkeypatch.setattr(Session, "step_seconds", lambda self, network: later if self.steps else next(before))
    _, report = compress(model, train, test, keep_macs=0.5, epochs=0.2, minutes=1)
    assert report["tuned"].metric is not None
    assert report["bf16"].metric is not None  # needs no tuning
    for name in ("random", "random_tuned", "whole_tuned"):
        assert (report[name].metric is not None) == (later < 1)
        assert later < 1 or report[name].remark == "skipped: its time went into the small network"


@pytest.mark.parametrize(("left", "asked"), [(-0.1, True), (-0.3, False)])
def test_rivals_are_timed_where_that_overruns_the_time_by_little(model, train, test, monkeypatch, left, asked):
    session = Session(model, train, test, measure.accuracy, F.cross_entropy, Clock(1), None, 0.02, 0, print, False)
    for stage in ("whole", "tuned", "bf16"):
        session.put(stage, stage, metric=1.0, **session.counted(model))
    monkeypatch.setattr(Clock, "left", lambda self: left)
    monkeypatch.setattr(timing, "seconds", lambda session, beside: 1.0)  # a fiftieth of the minute is 1.2 seconds
    timing.timed(session, model, SimpleNamespace(networks={"bf16": InFormat(model, torch.bfloat16)}))
    assert session.rows["whole"].ms is not None
    assert session.rows["tuned"].ms is not None
    assert (session.rows["bf16"].ms is not None) == asked


def test_a_step_that_takes_long_to_time_is_guessed(model, train, test, monkeypatch):
    session = Session(model, train, test, measure.accuracy, F.cross_entropy, Clock(1), None, 0.02, 0, print, False)
    monkeypatch.setattr(Session, "image_seconds", lambda self: 1e-6)
    assert session.step_seconds(model) != pytest.approx(3 * 32 * 1e-6)
    monkeypatch.setattr(Session, "image_seconds", lambda self: 0.1)
    assert session.step_seconds(model) == pytest.approx(3 * 32 * 0.1)


def test_a_run_that_goes_on_chooses_by_as_many_images_as_before(model, train, test, tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "image_seconds", lambda self: 1.0)
    compress(model, train, test, keep_macs=0.5, epochs=0.2, minutes=0.5, rivals=(), journal=tmp_path)
    assert json.loads((tmp_path / "images.json").read_text()) == {"images": 16}
    monkeypatch.setattr(Session, "image_seconds", lambda self: 1e-6)
    seen = []
    evaluate = training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda network, batches, **options: (
        seen.append(sum(len(inputs) for inputs, _ in batches)), evaluate(network, batches, **options)
    )[1])  # fmt: skip
    compress(model, train, test, keep_macs=0.5, epochs=0.2, rivals=(), journal=tmp_path)
    assert set(seen) == {16}


def test_milliseconds_are_a_budget_too(train, test):
    torch.manual_seed(0)
    wide = nn.Sequential(
        nn.Conv2d(1, 192, 3, padding=1), nn.BatchNorm2d(192), nn.ReLU(), nn.Conv2d(192, 192, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(768, 4),
    ).eval()  # fmt: skip
    whole = measure.latency(shrinking.folded(wide, (1, 8, 8)), (1, 8, 8), repeats=30).median_ms
    _, report = compress(wide, train, test, latency_ms=0.8 * whole, epochs=0.2, rivals=())
    assert report.budget["name"] == "latency_ms"
    assert report.budget["met"] == (abs(report.budget["reached"] / (0.8 * whole) - 1) <= 0.05)
    assert report["tuned"].macs < report["whole"].macs


class _Segmenter(nn.Module):
    """Gives a dict, as torchvision's segmenters do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x):
        return {"out": self.body(x)}


def test_segmenters_are_cut_by_a_loss_and_a_metric_of_their_own():
    torch.manual_seed(0)
    batches = [(pictures, (pictures[:, 0] > 0.5).long()) for pictures, _ in batches_of(64, 5)]

    def overlap(model, batches):
        with torch.no_grad():
            return sum(float((model(x)["out"].argmax(1) == y).float().mean()) for x, y in batches) / len(batches)

    def loss(outputs, targets):
        return F.cross_entropy(outputs["out"], targets)

    small, report = compress(_Segmenter(), batches, batches, keep_macs=0.6, loss=loss, metric=overlap, epochs=8)
    assert report.metric == "overlap"
    assert report["tuned"].metric == pytest.approx(overlap(small, batches))
    assert report["tuned"].metric > 0.7
    assert report["resolution"].metric is not None
    assert "points" not in "".join(report.findings())


@pytest.mark.parametrize("importance", [*shrinking.CRITERIA, surgery.criteria.l2()])
def test_every_criterion_can_be_taken(model, train, test, importance):
    _, report = compress(model, train, test, keep_macs=0.6, epochs=0.2, rivals=(), importance=importance)
    assert math.isfinite(report["tuned"].metric)


BAD = {
    "keep_macs": [0, 1.5, "half", True, float("nan")],
    "minutes": [0, -1, float("inf"), "one"],
    "epochs": [0, -1, "one"],
    "learning_rate": [0, -1, float("nan"), "one"],
    "frozen_batch_norm": [1, "yes", None],
    "importance": ["l3", 7, lambda: None],
    "metric": [None, "accuracy", lambda: 0],
    "loss": [None, lambda a: a],
    "rivals": ["random", ("randomly",), 3],
    "select": [3, lambda: None],
    "journal": [3, ""],
    "seed": [-1, 0.5, None],
    "say": [3],
    "train_batches": [None, 3, [], iter([]), [torch.zeros(2)], "ab"],
    "test_batches": [None, 3, [], iter([]), [torch.zeros(2)]],
    "model": [None, "resnet18", nn.Sequential],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_arguments_are_named(model, train, test, name, value):
    given = {"model": model, "train_batches": train, "test_batches": test, "keep_macs": 0.5, name: value}
    with pytest.raises(ValueError, match=name):
        compress(**given)


@pytest.mark.parametrize("given", [{}, {"keep_macs": 0.5, "latency_ms": 1.0}, {"latency_ms": 0}, {"latency_ms": -1}])
def test_one_budget_is_needed(model, train, test, given):
    with pytest.raises(ValueError, match="latency_ms"):
        compress(model, train, test, **given)


def test_a_metric_that_is_no_number_is_refused(model, train, test):
    with pytest.raises(ValueError, match="metric must be"):
        compress(model, train, test, keep_macs=0.5, metric=lambda model, batches: float("nan"))


def test_a_network_without_anything_to_cut_is_refused(train, test):
    with pytest.raises(ValueError, match="model has nothing that can be cut"):
        compress(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), train, test, keep_macs=0.5)


def test_a_tuning_that_diverges_is_taken_back(model, train, test):
    _, report = compress(model, train, test, keep_macs=0.6, epochs=2, rivals=(), learning_rate=1e30)
    assert "diverged" in report["tuned"].remark
    assert report["tuned"].metric == report.measured(("cut", "reconstructed", "renewed"))[-1].metric


def statistics(network):
    """All statistics of BatchNorm, one after the other."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    return torch.cat([torch.cat([norm.running_mean, norm.running_var]) for norm in norms])


def test_frozen_statistics_stay_as_they_are_and_weights_do_not(model, train, test):
    given = {"keep_macs": 0.6, "rivals": ()}
    start, _ = compress(model, train, test, plan_only=True, **given)
    frozen, moved = (
        compress(model, train, test, epochs=1, frozen_batch_norm=each, **given)[0] for each in (True, False)
    )
    assert statistics(frozen).equal(statistics(start))
    assert not statistics(moved).equal(statistics(start))
    for small in (frozen, moved):
        changed = [not a.equal(b) for a, b in zip(small.parameters(), start.parameters(), strict=True)]
        assert all(changed)
        assert not any(module.training for module in small.modules())


@pytest.mark.parametrize(
    ("remark", "frozen"), [("kept (loss 2 before, 1 behind it)", False), ("not kept (loss 1)", True)]
)
def test_a_tuning_that_does_harm_is_said(done, remark, frozen):
    changed = {
        "tuned": {"metric": 0.5},
        "reconstructed": {"metric": 0.75},
        "renewed": {"metric": None, "remark": remark},
    }
    report = replace(done[1], rows=tuple(replace(row, **changed.get(row.stage, {})) for row in done[1].rows))
    sentence = next(each for each in report.findings() if each.startswith("Tuning made it worse"))
    assert "75.0 % before, 50.0 % behind it" in sentence
    assert "learning_rate" in sentence
    assert ("frozen_batch_norm" in sentence) == frozen


def test_a_tuning_that_helps_is_not_complained_about(done):
    report = done[1]
    assert report["tuned"].metric >= report.measured(("cut", "reconstructed", "renewed"))[-1].metric
    assert not any(each.startswith("Tuning made it worse") for each in report.findings())


FORMS = {
    "by name": lambda y: {"classes": y},
    "several": lambda y: [y, torch.zeros(len(y), 4)],
    "one thing an image": lambda y: [{"class": each} for each in y],
}


def classes_of(targets):
    if isinstance(targets, dict):
        return targets["classes"]
    return torch.stack([each["class"] for each in targets]) if isinstance(targets[0], dict) else targets[0]


def own_loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, classes_of(targets))


def own_metric(model, batches):
    with torch.no_grad():
        hits = [(model(x).argmax(1) == classes_of(y)).float().mean() for x, y in batches]
    return float(sum(hits) / len(hits))


@pytest.mark.parametrize("form", FORMS)
def test_targets_of_ones_own_form_go_through_with_ones_own_loss(model, train, test, form):
    held = [[(x, FORMS[form](y)) for x, y in batches] for batches in (train, test)]
    options = {"keep_macs": 0.6, "epochs": 1, "rivals": ()}
    own = {"loss": own_loss, "metric": own_metric}
    small, _ = compress(model, *held, importance="l1", **options, **own)
    plain, _ = compress(model, train, test, importance="l1", **options)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), plain.parameters(), strict=True))
    with pytest.raises(ValueError, match="importance: 'taylor' needs targets that are tensors"):
        compress(model, *held, **options, **own)
