"""The training loop against a bare loop written out, its hooks, its history and its errors."""

import importlib
import math
import sys
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from compactvision.training import Callback, NonFiniteLoss, evaluate, fit, schedules
from compactvision.training.losses import LossMeter
from compactvision.training.state import State
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


def network(norm=True, dropout=0.0):
    """A small network, the same at each call."""
    torch.manual_seed(1)
    middle = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 16, 3)
    )


def batches(n=22, size=8):
    """Three batches, the last one smaller."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(n, 3, 6, 6, generator=generator)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def bare_loop(model, optimizer, data, epochs, factor=lambda step: 1.0, clip=None):
    """What fit does, in the fewest lines."""
    torch.manual_seed(0)
    model.train()
    initial = [group["lr"] for group in optimizer.param_groups]
    losses, step = [], 0
    for _ in range(epochs):
        total = 0.0
        for inputs, targets in data:
            for group, lr in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = lr * factor(step)
            model.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], clip)
            optimizer.step()
            total, step = total + loss.item() * len(targets), step + 1
        losses.append(total / sum(len(targets) for _, targets in data))
    return losses


def assert_same_weights(first, second):
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


OPTIMIZERS = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    "adamw in two groups": lambda m: torch.optim.AdamW(
        [{"params": m[0].parameters(), "lr": 0.02, "weight_decay": 0}, {"params": m[-1].parameters()}], lr=0.01
    ),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_the_bare_loop_bitwise(name):
    ours, plain, data = network(dropout=0.3), network(dropout=0.3), batches()
    schedule, factor = schedules.cosine(final=0.2), lambda step: 0.2 + 0.8 * (1 + math.cos(math.pi * step / 9)) / 2
    optimizer = OPTIMIZERS[name](ours)
    history = fit(ours, data, epochs=3, optimizer=optimizer, schedule=schedule, clip_norm=0.5, progress=False)
    losses = bare_loop(plain, OPTIMIZERS[name](plain), data, 3, factor, clip=0.5)
    assert_same_weights(ours, plain)
    assert history.column("train_loss") == losses
    assert history.column("epoch") == [1, 2, 3]
    lr = 0.02 if "two" in name else optimizer.param_groups[0]["lr"]
    assert history.column("lr") == pytest.approx([lr * factor(step) for step in (2, 5, 8)])


def test_default_optimizer_is_the_documented_one():
    ours, plain, data = network(), network(), batches()
    fit(ours, data, epochs=2)
    bare_loop(plain, OPTIMIZERS["sgd"](plain), data, 2)
    assert_same_weights(ours, plain)


def test_lbfgs_gets_its_closure():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    inputs = torch.randn(30, 4)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    data = [(inputs, inputs @ weights[:, None] + 1)]
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    history = fit(model, data, epochs=5, optimizer=optimizer, loss=F.mse_loss)
    torch.testing.assert_close(model.weight[0], weights, atol=1e-3, rtol=0)
    assert history[4]["train_loss"] < 1e-6


def test_frozen_and_foreign_parameters():
    model, data = network(norm=False), batches()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    scale = nn.Parameter(torch.ones(()))  # trained through the loss, not part of the model
    optimizer = torch.optim.SGD([*model[-1].parameters(), scale], lr=0.1)
    fit(
        model,
        data,
        epochs=1,
        optimizer=optimizer,
        loss=lambda outputs, targets: F.cross_entropy(outputs * scale, targets),
    )
    assert torch.equal(model[0].weight, frozen)
    assert scale.item() != 1
    assert all(parameter.grad is None for parameter in [*model.parameters(), scale])


def test_flags_rates_memory_order_and_generators_are_put_back():
    model, data = network(dropout=0.5), batches()
    model.eval()
    model[0].train()
    flags = [module.training for module in model.modules()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    before = torch.get_rng_state()
    seen = []

    class Look(Callback):
        def on_step(self, state):
            seen.append((model[1].training, model[0].weight.is_contiguous(memory_format=torch.channels_last)))
            seen.append(state.inputs.is_contiguous(memory_format=torch.channels_last))

    fit(model, data, epochs=1, optimizer=optimizer, schedule=schedules.cosine(), channels_last=True, callbacks=[Look()])
    assert seen[:2] == [(True, True), True]
    assert [module.training for module in model.modules()] == flags
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert model[0].weight.is_contiguous()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_run_is_a_function_of_its_seed():
    data = DataLoader(TensorDataset(torch.randn(20, 3, 6, 6), torch.arange(20) % 3), batch_size=8, shuffle=True)

    def weights(seed):
        model = network(dropout=0.5)
        torch.randn(7)  # the state of the global generators outside does not matter
        fit(model, data, epochs=2, seed=seed)
        return model[0].weight.detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_channels_last_gives_the_same_numbers():
    plain, last, data = network(), network(), batches()
    fit(plain, data, epochs=1)
    fit(last, data, epochs=1, channels_last=True)
    torch.testing.assert_close(plain[0].weight, last[0].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_full_precision(precision):
    full, half, data, dtypes = network(), network(), batches(), set()

    def loss(outputs, targets):
        dtypes.add(outputs.dtype)
        return F.cross_entropy(outputs, targets)

    expected = fit(full, data, epochs=4).column("train_loss")
    found = fit(half, data, epochs=4, precision=precision, loss=loss).column("train_loss")
    assert found == pytest.approx(expected, rel=0.05)
    assert found != expected
    assert dtypes == {torch.float32}
    assert half[0].weight.dtype == torch.float32


def test_half_precision_runs_the_network_in_half_precision():
    seen = []
    model = network(norm=False)
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    for precision in ("fp32", "bf16", "fp16"):
        fit(model, batches()[:1], epochs=1, precision=precision)
    assert seen == [torch.float32, torch.bfloat16, torch.float16]


def test_fp16_skips_a_step_whose_gradient_overflows_and_sees_true_gradients():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    seen = []

    class Look(Callback):
        def before_step(self, state):
            seen.append(state.model.weight.grad.item())

        def on_step(self, state):
            seen.append(state.model.weight.item())

    # With the scale 65536 the gradient overflows fp16 at first (2 * 65536 > 65504); the scale is halved until it fits.
    data = [(torch.full((1, 1), 2.0), torch.zeros(1, 1))]
    fit(
        model, data, epochs=4, loss=lambda o, t: o.sum(), precision="fp16", callbacks=[Look()],
        optimizer=torch.optim.SGD(model.parameters(), lr=0.125),
    )  # fmt: skip
    gradients, weights = seen[::2], seen[1::2]
    skipped = [not math.isfinite(gradient) for gradient in gradients]
    assert skipped[0]
    assert not skipped[-1]
    expected = 1.0
    for gradient, skip, weight in zip(gradients, skipped, weights, strict=True):
        expected -= 0.0 if skip else 0.25
        assert weight == expected
        assert skip or gradient == 2.0


class Recorder:
    """A callback that is no Callback: only some hooks, and a state of its own."""

    def __init__(self):
        self.calls, self.count = [], 0

    def on_start(self, state):
        self.calls.append(("start", state.epoch, state.step, state.total_steps))

    def before_step(self, state):
        assert all(parameter.grad is not None for parameter in state.model.parameters())
        self.calls.append(("before", state.epoch, state.batch, state.step, round(state.lr, 6)))

    def on_step(self, state):
        self.count += len(state.targets)
        self.calls.append(("after", state.epoch, state.batch, state.step))

    def on_epoch(self, state):
        state.history.rows[-1]["seen"] = self.count
        self.calls.append(("epoch", state.epoch, len(state.history)))


def test_hooks_are_called_in_order_with_the_state():
    recorder = Recorder()
    optimizer = torch.optim.SGD((model := network()).parameters(), lr=0.5)
    halves = schedules.multi_step([1], gamma=0.5)
    history = fit(model, batches(16), epochs=2, optimizer=optimizer, schedule=halves, callbacks=[recorder, Callback()])
    assert recorder.calls == [
        ("start", 0, 0, 4),
        ("before", 0, 0, 0, 0.5), ("after", 0, 1, 1), ("before", 0, 1, 1, 0.5), ("after", 0, 2, 2), ("epoch", 0, 1),
        ("before", 1, 0, 2, 0.25), ("after", 1, 1, 3), ("before", 1, 1, 3, 0.25), ("after", 1, 2, 4), ("epoch", 1, 2),
    ]  # fmt: skip
    assert history.column("seen") == [16, 32]
    assert State(model, optimizer, None, 2, None).total_steps is None
    assert State(model, optimizer, None, 2, None).lrs == [0.5]


def test_a_callback_may_change_gradients_before_clipping_and_weights_after_the_step():
    class Method(Callback):
        def before_step(self, state):
            for parameter in state.model.parameters():
                parameter.grad.fill_(3.0)

        def on_step(self, state):
            with torch.no_grad():
                state.model.bias.zero_()

    model = nn.Linear(3, 1)
    nn.init.zeros_(model.weight)
    data = [(torch.ones(2, 3), torch.ones(2, 1))]
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    fit(model, data, epochs=1, optimizer=sgd, loss=F.mse_loss, callbacks=[Method()], clip_norm=2.0)
    assert model.weight[0].tolist() == pytest.approx([-1.0] * 3, rel=1e-5)  # (3, 3, 3, 3) has norm 6, clipped to 2
    assert model.bias.item() == 0


def test_validation_enters_the_history():
    model, data = network(), batches()
    history = fit(model, data, epochs=2, validate=data)
    assert {k: history[-1][f"val_{k}"] for k in ("loss", "accuracy", "n")} == evaluate(model, data)
    history = fit(model, data, epochs=1, validate=lambda m: {"spread": m[0].weight.std().item(), "mode": m.training})
    assert history[-1]["val_spread"] == model[0].weight.std().item()
    assert history[-1]["seconds"] > 0


def test_any_iterable_is_a_source():
    data, plain = batches(), network()
    bare_loop(plain, OPTIMIZERS["sgd"](plain), data, 1)

    class Endless(IterableDataset):
        def __iter__(self):
            return iter(data)

    for source in (data, iter(data), (batch for batch in data), DataLoader(Endless(), batch_size=None)):
        model = network()
        fit(model, source, epochs=1)
        assert_same_weights(model, plain)


def test_nested_inputs_and_targets_reach_model_and_loss():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, inputs):
            return {"sum": self.linear(inputs["a"]) + self.linear(inputs["b"])}

    data = [({"a": torch.ones(3, 2), "b": torch.ones(3, 2)}, [torch.ones(3), "names are handed on"])]
    model = Pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    history = fit(model, data, epochs=30, optimizer=optimizer, loss=lambda o, t: ((o["sum"][:, 0] - t[0]) ** 2).mean())
    losses = history.column("train_loss")
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("interval", [1, 4])
def test_a_loss_that_is_not_finite_is_reported_with_its_own_step(interval, monkeypatch, tmp_path):
    monkeypatch.setattr(
        importlib.import_module("compactvision.training.fit"), "LossMeter", lambda **_: LossMeter(interval)
    )
    data, model = batches(), network()
    calls = []

    def loss(outputs, targets):
        calls.append(len(calls))
        return F.cross_entropy(outputs, targets) * (math.inf if len(calls) == 5 else 1)  # epoch 1, step 4

    path = tmp_path / "run.pt"
    with pytest.raises(NonFiniteLoss, match=r"inf in epoch 1, step 4 .*last good checkpoint: .*run\.pt") as caught:
        fit(model, data, epochs=3, loss=loss, checkpoint=path)
    assert (caught.value.epoch, caught.value.step, caught.value.checkpoint) == (1, 4, str(path))
    assert torch.load(path, weights_only=True)["parts"]["position"] == {"epoch": 1, "batch": 0, "step": 3}
    assert all(parameter.grad is None for parameter in model.parameters())
    if interval == 1:  # on the CPU found before the step, so the weights are still good
        assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_loss_that_is_not_finite_never_gets_into_a_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.import_module("compactvision.training.fit"), "LossMeter", lambda **_: LossMeter(100))
    path, model, calls = tmp_path / "run.pt", network(), []

    def loss(outputs, targets):
        calls.append(0)
        return F.cross_entropy(outputs, targets) + (math.nan if len(calls) == 4 else 0)

    with pytest.raises(NonFiniteLoss, match="nan in epoch 1, step 3"):
        fit(model, batches(), epochs=3, loss=loss, checkpoint=path, every_steps=2)
    stored = torch.load(path, weights_only=True)["parts"]
    assert stored["position"]["step"] == 3
    assert all(value.isfinite().all() for value in stored["model"].values())


def test_without_a_checkpoint_the_error_says_so():
    with pytest.raises(NonFiniteLoss, match=r"epoch 0, step 0 .*none was written"):
        fit(network(), batches(), epochs=1, loss=lambda o, t: o.sum() * math.nan)


class Empty:
    def __iter__(self):
        return iter(())


GOOD = {"epochs": 1}
WRONG = {
    "epochs must be a whole number > 0, not 0": {"epochs": 0},
    "epochs must be a whole number > 0, not -2": {"epochs": -2},
    "epochs must be a whole number > 0, not 1.5": {"epochs": 1.5},
    "precision must be one of fp32, bf16, fp16, not 'int8'": {"precision": "int8"},
    "device='cuda', but the model is on 'cpu'": {"device": "cuda"},
    "device='abacus' is no device": {"device": "abacus"},
    "batches is empty": {"batches": []},
    "batches gave nothing in epoch 0": {"batches": Empty()},
    "batches must be an iterable of .* not int": {"batches": 3},
    "batches must yield pairs .* not Tensor of length 4": {"batches": [torch.zeros(4)]},
    "batches must yield pairs .* not int": {"batches": [3]},
    "batches is an iterator, .* epochs=2": {"batches": iter([]), "epochs": 2},
    "model must be a torch.nn.Module, not function": {"model": network},
    "model has no parameter that requires a gradient": {"model": nn.ReLU()},
    "optimizer must be a torch.optim.Optimizer, not str": {"optimizer": "sgd"},
    "loss must be callable": {"loss": "mse"},
    r"loss must give a scalar tensor, not shape \(8,\)": {"loss": lambda o, t: F.cross_entropy(o, t, reduction="none")},
    "loss must give a scalar tensor, not float": {"loss": lambda o, t: 1.0},
    "callbacks: .* is no object with one of the hooks on_start": {"callbacks": [print]},
    "callbacks: .*Callback.* is no object": {"callbacks": [Callback]},
    "clip_norm must be positive and finite, not 0": {"clip_norm": 0},
    "clip_norm must be positive and finite, not nan": {"clip_norm": math.nan},
    "seed must be a whole number >= 0, not -1": {"seed": -1},
    "every_steps must be a whole number > 0, not 0": {"every_steps": 0, "checkpoint": "run.pt"},
    "every_steps=5 needs a path in checkpoint": {"every_steps": 5},
    "schedule must be a function of 3 arguments": {"schedule": 0.1},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message):
    arguments = {"model": network(), "batches": batches(), **GOOD, **WRONG[message]}
    with pytest.raises(ValueError, match=message):
        fit(arguments.pop("model"), arguments.pop("batches"), **arguments)


def test_a_device_given_as_the_models_own_is_fine():
    assert len(fit(network(), batches(), epochs=1, device="cpu")) == 1


def test_what_a_gpu_cannot_do_is_refused(monkeypatch):
    from compactvision.training.precision import Precision

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ValueError, match="precision='bf16': this GPU has no native bfloat16"):
        Precision("bf16", torch.device("cuda"))


def test_parts_on_several_devices_are_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="model is spread over several devices: cpu, meta"):
        fit(model, batches(), epochs=1)
    foreign = torch.optim.SGD(nn.Linear(2, 2, device="meta").parameters(), lr=0.1)
    with pytest.raises(ValueError, match="optimizer holds a parameter on meta, the model is on cpu"):
        fit(network(), batches(), epochs=1, optimizer=foreign)
    model = network()
    with pytest.raises(ValueError, match=r"optimizer: LBFGS .* fp16"):
        fit(model, batches(), epochs=1, optimizer=torch.optim.LBFGS(model.parameters()), precision="fp16")


class FakeBar:
    """Stands for tqdm's bar and notes what is asked of it."""

    made: ClassVar[list] = []

    def __init__(self, **options):
        self.options, self.n, self.notes, self.closed = options, options["initial"], [], False
        FakeBar.made.append(self)

    def update(self):
        self.n += 1

    def set_postfix(self, numbers, refresh):
        self.notes.append(numbers)

    def close(self):
        self.closed = True


def test_one_bar_counts_the_steps_of_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr("tqdm.auto.tqdm", FakeBar)
    path, data = tmp_path / "run.pt", batches()

    class Stop(Callback):
        at = 5

        def on_step(self, state):
            if state.step == self.at:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, epochs=2, checkpoint=path, callbacks=[Stop()], validate=data)
    Stop.at = None
    history = fit(network(), data, epochs=2, checkpoint=path, callbacks=[Stop()], validate=data)
    first, second = FakeBar.made
    assert (first.options["total"], first.options["initial"], first.n, first.closed) == (6, 0, 4, True)
    assert (second.options["total"], second.options["initial"], second.n, second.closed) == (6, 3, 6, True)
    assert second.options["delay"] > 0  # a short run shows nothing
    assert second.options["leave"] is False
    loss, accuracy = (f"{history[1][name]:.4g}" for name in ("train_loss", "val_accuracy"))
    assert second.notes == [{"epoch": "2", "train_loss": loss, "val_accuracy": accuracy}]


def test_a_short_run_prints_nothing(capsys):
    fit(network(), batches(), epochs=1, progress=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_without_a_bar_tqdm_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # an import would fail
    assert len(fit(network(), batches(), epochs=1, progress=False)) == 1
    with pytest.raises(ImportError):
        fit(network(), batches(), epochs=1, progress=True)
