"""Interrupted runs end with bitwise the weights of runs that were not."""

import json
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from compactvision.training import Callback, Stopped, fit, schedules
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

SCRIPT = Path(__file__).with_name("resumable.py")


def runs(folder, delay, *kills):
    """Kill the runs of the script as asked; returns what happened at each start, and both ends."""
    command = [sys.executable, str(SCRIPT), str(folder), str(delay), *kills]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    ends = [torch.load(folder / name / "end.pt", weights_only=True) for name in ("whole", "killed")]
    return json.loads(done.stdout), *ends


@pytest.mark.slow
def test_killed_at_random_moments_the_end_is_bitwise_the_same(tmp_path):
    """Three kills at random moments and one in the middle of a save; 48 steps, a checkpoint after every second."""
    moments = random.Random(20)
    kills = [f"{moments.randint(6, 18)}:{0.02 * moments.random()}" for _ in range(3)]
    (whole, *starts), expected, found = runs(tmp_path, 0.01, *kills, "save:3")
    assert whole == {"status": 0, "steps": 48, "left": []}
    assert [start["status"] for start in starts] == [-signal.SIGKILL] * 4 + [0]
    assert len(starts[3]["left"]) == 1  # the file of the save that was cut short
    assert starts[4]["left"] == []
    steps = [start["steps"] for start in starts]
    assert min(steps) > 0
    assert 48 <= sum(steps) <= 48 + 4 * 3  # each went on from the last checkpoint, at most a few steps back
    for name in ("keyed", "loader"):
        assert found[name]["rows"] == expected[name]["rows"]
        for key, value in expected[name]["model"].items():
            assert torch.equal(found[name]["model"][key], value), (name, key)


class Interrupt(Callback):
    """Raises after some steps; a step that was reached once is passed the next time."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def on_step(self, state):
        if state.step in self.steps:
            self.steps.remove(state.step)
            raise KeyboardInterrupt


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 3))


def run(source, path, interrupt, schedule=None, **options):
    """Run to the end through all interruptions, with a fresh model and optimiser at each start."""
    while True:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        try:
            history = fit(
                model, source(), epochs=3, optimizer=optimizer, schedule=schedule or HALF, checkpoint=path,
                callbacks=[interrupt], every_steps=2, seed=5, **options,
            )  # fmt: skip
        except KeyboardInterrupt:
            continue
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
        return model.state_dict(), rows


def dataset():
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(26, 6, generator=generator), torch.arange(26) % 3)


HALF = schedules.multi_step([2], gamma=0.5)


class Augmented(Dataset):
    """Samples with noise from a generator that it, or what it holds, owns."""

    def __init__(self, draw, *held):
        self.points, self.draw, self.held = dataset(), draw, held

    def __len__(self):
        return 26

    def __getitem__(self, index):
        x, target = self.points[index]
        return x + 0.1 * self.draw(), target


class Jitter:
    """A transform with a generator of its own."""

    def __init__(self):
        self.random = np.random.Generator(np.random.MT19937(3))

    def __call__(self):
        return self.random.normal()


def augmented(kind):
    """Return batches of a data set that draws from its own generator."""
    own = {
        "numpy": lambda: np.random.default_rng(2).normal,
        "numpy, another": lambda: np.random.Generator(np.random.Philox(2)).normal,
        "numpy, old": lambda: np.random.RandomState(2).randn,
        "python": lambda: partial(random.Random(2).gauss, 0, 1),
        "transform": Jitter,
        "closure": lambda: (lambda rng: lambda: rng.normal())(np.random.default_rng(4)),
        "partial": lambda: partial(torch.rand, (), generator=torch.Generator().manual_seed(4)),
    }
    return DataLoader(Subset(Augmented(own[kind]()), range(26)), batch_size=4, shuffle=True)


class Rows:
    """Batches that draw from a generator of their own, and no data set."""

    def __init__(self):
        self.rng = np.random.default_rng(5)

    def __len__(self):
        return 7

    def __iter__(self):
        for inputs, targets in DataLoader(dataset(), batch_size=4):
            yield inputs * self.rng.random(dtype=np.float32), targets


class Drawn:
    """Batches that draw from Python's and NumPy's global generators while they are read."""

    def __len__(self):
        return 7

    def __iter__(self):
        for inputs, targets in DataLoader(dataset(), batch_size=4):
            yield inputs * random.random() + np.random.rand(), targets  # noqa: NPY002


OWN = ("numpy", "numpy, another", "numpy, old", "python", "transform", "closure", "partial")
SOURCES = {
    **{f"own generator: {kind}": partial(augmented, kind) for kind in OWN},
    "own generator of the batches": Rows,
    "draws from global generators": Drawn,
    "list": lambda: list(DataLoader(dataset(), batch_size=4)),
    "loader": lambda: DataLoader(dataset(), batch_size=4, shuffle=True),
    "loader with its own generator": lambda: DataLoader(
        dataset(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(9)
    ),
    "sampler with epochs": lambda: DataLoader(
        dataset(), batch_size=4, sampler=torch.utils.data.DistributedSampler(dataset(), num_replicas=1, rank=0)
    ),
}


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp32") for name in SOURCES), ("loader", "fp16"), ("list", "fp16")]
)
def test_interrupted_runs_end_bitwise_the_same(name, precision, tmp_path):
    weights, rows = run(SOURCES[name], tmp_path / "whole.pt", Interrupt(), precision=precision)
    resumed, again = run(SOURCES[name], tmp_path / "cut.pt", Interrupt(1, 5, 6, 7, 8, 14, 20), precision=precision)
    assert again == rows
    for key, value in weights.items():
        assert torch.equal(resumed[key], value), key


SCHEDULES = {
    "one_cycle": schedules.one_cycle(),
    "cosine": schedules.cosine(final=0.1),
    "multi_step": schedules.multi_step([0.3, 0.7], gamma=0.3),
    "a warm-up of torch": lambda optimizer, epochs, steps: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer, total_iters=4), lr_scheduler.StepLR(optimizer, steps)], [4]
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_on_bitwise_from_any_step(name, tmp_path):
    """A checkpoint after each second step and each seventh; the process is cut off after every step once."""
    rates = []

    class Look(Interrupt):
        def on_step(self, state):
            rates.append((state.step, state.lr))
            super().on_step(state)

    weights, rows = run(SOURCES["loader"], tmp_path / "whole.pt", Look(), schedule=SCHEDULES[name])
    whole, rates[:] = dict(rates), []
    resumed, again = run(SOURCES["loader"], tmp_path / "cut.pt", Look(*range(1, 22)), schedule=SCHEDULES[name])
    assert len(rates) > len(whole) == 21
    assert all(whole[step] == rate for step, rate in rates)
    assert len(set(whole.values())) > 2
    assert again == rows
    assert all(torch.equal(resumed[key], value) for key, value in weights.items())


def test_a_callback_stops_the_run_behind_a_checkpoint_and_it_goes_on_from_there(tmp_path):
    class Stop(Callback):
        def __init__(self, *steps):
            self.steps = steps

        def on_step(self, state):
            state.stop = state.step in self.steps

    weights, rows = run(SOURCES["loader"], tmp_path / "whole.pt", Stop())
    path = tmp_path / "cut.pt"
    for step in (5, 13):  # between the checkpoints of every second step
        with pytest.raises(Stopped, match=rf"stopped after step {step}, checkpoint: .*cut\.pt"):
            run(SOURCES["loader"], path, Stop(step))
        assert torch.load(path, weights_only=True)["parts"]["position"]["step"] == step
    resumed, again = run(SOURCES["loader"], path, Stop())
    assert again == rows
    assert all(torch.equal(resumed[key], value) for key, value in weights.items())


def test_orders_differ_between_epochs(tmp_path):
    seen = []

    class Look(Callback):
        def on_step(self, state):
            seen.append(state.targets.tolist())

    fit(network(), SOURCES["sampler with epochs"](), epochs=2, callbacks=[Look()])
    assert seen[:7] != seen[7:]
    assert sorted(t for batch in seen[:7] for t in batch) == sorted(t for batch in seen[7:] for t in batch)


@pytest.mark.slow
def test_a_loader_with_workers_is_replayed_too(tmp_path):
    source = lambda: DataLoader(dataset(), batch_size=8, shuffle=True, num_workers=1)  # noqa: E731
    weights, _ = run(source, tmp_path / "whole.pt", Interrupt())
    resumed, _ = run(source, tmp_path / "cut.pt", Interrupt(7))
    assert all(torch.equal(resumed[key], value) for key, value in weights.items())


def test_a_finished_run_returns_at_once_with_weights_history_and_callbacks(tmp_path):
    class Count(Callback):
        def __init__(self):
            self.steps = self.starts = 0

        def on_start(self, state):
            self.starts += 1

        def on_step(self, state):
            self.steps += 1

        def state_dict(self):
            return {"steps": self.steps}

        def load_state_dict(self, state):
            self.steps = state["steps"]

    def once():
        model, count = network(), Count()
        history = fit(model, SOURCES["list"](), epochs=2, callbacks=[count], checkpoint=tmp_path / "run.pt")
        return model, count, history

    first, count, history = once()
    written = (tmp_path / "run.pt").stat().st_mtime_ns
    second, again, same = once()
    assert same == history  # the seconds too: nothing was trained
    assert (count.steps, again.steps, again.starts) == (14, 14, 1)
    assert (tmp_path / "run.pt").stat().st_mtime_ns == written
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Narrow(Interrupt):
    """Cuts the hidden layer after the first epoch."""

    cut = False

    def on_start(self, state):
        self.state = state

    def narrow(self):
        model, optimizer = self.state.model, self.state.optimizer
        model[0], model[1], self.cut = nn.Linear(6, 5), nn.Linear(5, 3), True
        optimizer.param_groups[0]["params"] = list(model.parameters())
        optimizer.state.clear()

    def on_epoch(self, state):
        if not self.cut:
            self.narrow()

    def state_dict(self):
        return {"cut": self.cut}

    def load_state_dict(self, state):
        if state["cut"]:
            self.narrow()


def test_a_callback_may_rebuild_the_model_before_its_weights_are_loaded(tmp_path):
    def train(path, stop):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
        try:
            fit(model, SOURCES["list"](), epochs=3, callbacks=[Narrow(stop)], checkpoint=path)
        except KeyboardInterrupt:
            return train(path, 0)
        return model

    whole, cut = train(tmp_path / "whole.pt", 0), train(tmp_path / "cut.pt", 10)
    assert whole[0].weight.shape == (5, 6)
    assert torch.equal(whole[0].weight, cut[0].weight)


def test_tensors_outside_the_model_are_continued(tmp_path):
    def train(path, stop):
        scale = nn.Parameter(torch.ones(3))
        model = network()
        optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.1)
        loss = lambda outputs, targets: F.cross_entropy(outputs * scale, targets)  # noqa: E731
        try:
            fit(model, SOURCES["list"](), epochs=2, optimizer=optimizer, loss=loss, checkpoint=path,
                callbacks=[Interrupt(*stop)])  # fmt: skip
        except KeyboardInterrupt:
            return train(path, ())
        return scale.detach()

    whole = train(tmp_path / "whole.pt", ())
    assert torch.equal(train(tmp_path / "cut.pt", (9,)), whole)
    assert not torch.equal(whole, torch.ones(3))
