"""Every callback with a training of its own goes on bitwise, under any schedule, from wherever it was killed."""

import pytest
import torch
from compactvision import models, training
from compactvision.pruning import dcff, rvsm_sparsity
from compactvision.pruning import proximal_network_slimming as slim
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SCHEDULES = {
    "none": None,
    "one_cycle": training.schedules.one_cycle(),
    "cosine": training.schedules.cosine(final=0.05),
    "multi_step": training.schedules.multi_step([0.3, 0.7], gamma=0.1),
}
EPOCHS, STEPS, SIZE = 3, 3, 8
KILLS = (1, 3, 5, 8, 9)  # at the first and the last step, at the end of an epoch and within


def plain():
    model = models.small_cnn(10, (6, 8), generator=torch.Generator().manual_seed(1))
    slim.steps.reset_batch_norm_(model)
    return model


def fused():
    full, narrow = models.small_cnn(10, (8, 12)), plain()
    return dcff.fuse(narrow, full, generator=torch.Generator().manual_seed(2))


def two_layers():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 10))


METHODS = {
    "proximal slimming": (plain, lambda: slim.ProximalSlimming(6.0)),
    "own generator": (
        plain,
        lambda: slim.ProximalSlimming(2.0, 1.0, generator=torch.Generator().manual_seed(5)),
    ),
    "network slimming": (plain, lambda: slim.NetworkSlimming(0.1)),
    "splitting": (two_layers, lambda: rvsm_sparsity.RelaxedSplitting("l0", 1e-4, 0.5, start=1)),
    "splitting, transformed": (two_layers, lambda: rvsm_sparsity.RelaxedSplitting("transformed_l1", 1e-3, 0.5)),
    "subgradient": (two_layers, lambda: rvsm_sparsity.Subgradient(1e-3, start=2)),
    "fusion": (fused, lambda: dcff.DynamicFusion(dcff.rules.exact)),
    "fusion, published": (fused, lambda: dcff.DynamicFusion(dcff.rules.official)),
    "fusion, unmixed": (fused, lambda: dcff.DynamicFusion(dcff.rules.unmixed(dcff.rules.exact))),
}


def batches():
    """Return shuffled batches, which draw from the generators that a run has to restore."""
    torch.manual_seed(4)
    images = TensorDataset(torch.randn(6 * STEPS, 3, SIZE, SIZE), torch.arange(6 * STEPS) % 10)
    return DataLoader(images, batch_size=6, shuffle=True)


class Kill:
    """Ends the run behind a step, before a checkpoint of it is written, and notes the rates that it saw."""

    def __init__(self, rates):
        self.rates, self.at = rates, None

    def settings(self):
        return {}

    def on_step(self, state):
        self.rates.append((state.step, state.lr))
        if state.step == self.at:
            raise KeyboardInterrupt


def start(method, schedule, path, at=None, rates=None):
    """Run with everything made anew, as a new process would; killed behind step `at`, or to the end."""
    build, make = METHODS[method]
    model, callback, kill = build(), make(), Kill([] if rates is None else rates)
    kill.at = at
    training.fit(
        model, batches(), epochs=EPOCHS, schedule=SCHEDULES[schedule], checkpoint=path, every_steps=2, progress=False,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4),
        callbacks=[callback, kill],
    )  # fmt: skip
    return model, callback


def tensors(callback):
    """Return all tensors that a callback holds for its user."""
    if isinstance(callback, slim.ProximalSlimming):
        return callback.xi
    if isinstance(callback, dcff.DynamicFusion):
        return [callback.scores, callback.kept]
    return callback.copies() if isinstance(callback, rvsm_sparsity.RelaxedSplitting) else {}


def position(path):
    return torch.load(path, weights_only=True)["parts"]["position"]["step"] if path.exists() else 0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("own generator", "fusion, unmixed")])
def test_goes_on_bitwise(method, schedule, tmp_path):
    whole_rates, whole_path = [], tmp_path / "whole.pt"
    whole, expected = start(method, schedule, whole_path, rates=whole_rates)
    assert [step for step, _ in whole_rates] == list(range(1, EPOCHS * STEPS + 1))
    assert len({rate for _, rate in whole_rates}) > 1 or schedule == "none"
    path, rates = tmp_path / "killed.pt", []
    for at in KILLS:
        before, taken = position(path), len(rates)
        with pytest.raises(KeyboardInterrupt):
            start(method, schedule, path, at=at, rates=rates)
        assert [step for step, _ in rates[taken:]] == list(range(before + 1, at + 1))  # from the checkpoint on
        assert before <= position(path) < at  # it was stopped before the step was kept
    found, callback = start(method, schedule, path, rates=rates)
    assert set(rates) == set(whole_rates)
    torch.testing.assert_close(found.state_dict(), whole.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(tensors(callback), tensors(expected), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("method", "changed", "message"),
    [
        (
            "proximal slimming",
            lambda: slim.ProximalSlimming(5.0),
            r"ProximalSlimming.penalty is 6.0 there and 5.0 here",
        ),
        ("proximal slimming", lambda: slim.ProximalSlimming(6.0, 2.0), r"ProximalSlimming.beta is 100.0 there and 2.0"),
        (
            "own generator",
            lambda: slim.ProximalSlimming(2.0, 1.0, generator=torch.Generator().manual_seed(6)),
            r"ProximalSlimming.generator is 'Generator with seed 5' there and 'Generator with seed 6' here",
        ),
        ("network slimming", lambda: slim.NetworkSlimming(0.2), r"NetworkSlimming.penalty is 0.1 there and 0.2 here"),
        ("network slimming", lambda: slim.ProximalSlimming(0.1), r"callbacks\[0\] is .*NetworkSlimming' there"),
        (
            "splitting",
            lambda: rvsm_sparsity.RelaxedSplitting("l1", 1e-3, 0.5, start=1),
            r"RelaxedSplitting.regulariser is 'l0' there and 'l1' here; .*penalty is 0.0001 there and 0.001 here",
        ),
        (
            "splitting",
            lambda: rvsm_sparsity.RelaxedSplitting("l0", 1e-4, 0.5, layers=["1"], start=1),
            r"layers is None",
        ),
        ("subgradient", lambda: rvsm_sparsity.Subgradient(1e-3), r"callback Subgradient.start is 2 there and 0 here"),
        (
            "fusion",
            lambda: dcff.DynamicFusion(dcff.rules.official),
            r"DynamicFusion.rule is '.*exact' there and '.*official' here",
        ),
        (
            "fusion, unmixed",
            lambda: dcff.DynamicFusion(dcff.rules.unmixed(dcff.rules.official)),
            r"DynamicFusion.rule is '.*single \w+' there and '.*single \w+' here",
        ),
    ],
)
def test_changed_settings_are_refused_and_told(method, changed, message, tmp_path, monkeypatch):
    start(method, "none", tmp_path / "run.pt")
    monkeypatch.setitem(METHODS, method, (METHODS[method][0], changed))
    with pytest.raises(ValueError, match=rf"checkpoint='.*run.pt' belongs to a different run: .*{message}"):
        start(method, "none", tmp_path / "run.pt")


def test_another_network_leaves_no_copies_behind():
    slimming = slim.ProximalSlimming(1.0)
    for model in (models.small_cnn(10, (4, 4, 4)), models.small_cnn(10, (4, 4))):
        training.fit(model, batches(), epochs=1, callbacks=[slimming], progress=False)
    assert slimming.xi.keys() == slimming.gamma.keys() == slimming.importance(model).keys()
