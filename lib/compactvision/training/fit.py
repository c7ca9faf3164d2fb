"""One training loop for every chapter."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision.measure.state import modes_kept

from . import checks
from .checkpoint import Checkpoint, Loose
from .description import describe
from .evaluate import evaluate
from .explained import check_classes, loss_of, outputs_of
from .history import History
from .losses import LossMeter
from .precision import Precision, samples, to_device
from .progress import Bar
from .randomness import Stream, seeded
from .schedules import Rates
from .state import Callbacks, State, Stopped


def fit(
    model: nn.Module,
    batches: Iterable,
    *,
    epochs: int,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable = F.cross_entropy,
    schedule: Callable | None = None,
    callbacks: Iterable = (),
    validate: Iterable | Callable | None = None,
    precision: str = "fp32",
    channels_last: bool = False,
    device: str | torch.device | None = None,
    checkpoint: str | os.PathLike | None = None,
    every_steps: int | None = None,
    progress: bool = True,
    clip_norm: float | None = None,
    seed: int = 0,
) -> History:
    """Train `model` in place and return one row of numbers an epoch.

    The result is a function of the arguments: all global random generators are seeded with `seed` at the start
    and put back on return. Started again after an interruption with the same arguments and a fresh model, it continues
    from `checkpoint`; on the CPU, with the same number of threads, it ends with bitwise the weights of an uninterrupted
    run. A finished run returns at once.

    A checkpoint is that of one run: model (modules, initial weights), optimiser, batches and validation (by a digest of
    what they hold), loss, schedule, settings of the callbacks and all else that is given here are compared.

    Parameters
    ----------
    model : Module
        Trained where it is. One in evaluation mode is trained as a whole; in one in training mode, modules that are in
        evaluation mode stay so, as frozen BatchNorms do. Training flags are put back on return, gradients are None.
    batches : iterable of (inputs, targets)
        Read once an epoch. ``set_epoch(epoch)`` is called where the source has it. Generators that the source, its
        data set or samplers hold are continued. A source that keeps other states (a counter, an open file), and a
        DataLoader with workers that live through epochs, cannot be continued bitwise.
    epochs : int
        Passes over `batches`, > 0.
    optimizer : Optimizer, optional
        With any parameter groups (see :func:`compactvision.training.parameter_groups`), which may leave out parameters
        of the model; what it holds beyond these, the loss must use. Default SGD(lr=0.1, momentum=0.9,
        weight_decay=5e-4, nesterov=True).
    loss : callable (outputs, targets) -> scalar Tensor
        Mean over the samples of the batch; sees outputs in float32 at least.
    schedule : callable (optimizer, epochs, steps) -> LRScheduler, optional
        As ``schedules.one_cycle()`` is, see :mod:`compactvision.training.schedules`; the optimiser's own rates are
        put back on return.
    callbacks : iterable of objects
        With some of ``on_start``, ``before_step``, ``on_step``, ``on_epoch``; see
        :class:`compactvision.training.Callback`.
    validate : iterable of (inputs, targets), or callable (model) -> dict of float, optional
        Evaluated after each epoch; its numbers enter the row as ``val_<name>``.
    precision : {"fp32", "bf16", "fp16"}
        Format of the forward and backward pass; weights keep theirs. fp16 scales the loss.
    channels_last : bool
        Whether weights and images of shape (B, C, H, W) are in channels-last order while training.
    device : device, optional
        Must be the model's, which is the default; batches are moved there.
    checkpoint : path, optional
        Written after every epoch, and after every `every_steps` steps.
    every_steps : int, optional
        Steps of the run between checkpoints, > 0.
    progress : bool
        Whether a run that lasts shows a bar.
    clip_norm : float, optional
        Largest Euclidean norm of the gradients of all parameters of the optimiser together, > 0.
    seed : int
        Seed of the global generators, >= 0.

    Returns
    -------
    History
        Rows with ``epoch``, ``lr``, ``train_loss``, ``seconds`` and ``val_*``.

    Raises
    ------
    ValueError
        An argument is wrong, batches are empty or do not suit model and loss, `optimizer` trains none of the model's
        parameters, or `checkpoint` is damaged or that of a different run, which is then told.
    NonFiniteLoss
        The loss is NaN or infinite; names epoch, step and the last good checkpoint.
    Stopped
        A callback has set ``state.stop``; the checkpoint, if there is a path, is of the last step taken.
    OSError
        A checkpoint could not be written; the previous one is unchanged.
    """
    checks.positive("epochs", epochs)
    checks.settings(loss, every_steps, checkpoint, clip_norm, seed)
    here = checks.model_device(model, device)
    cast = Precision(precision, here)
    optimizer = checks.optimizer_for(optimizer, model, here, precision)
    steps = checks.length(batches, epochs)
    checks.validation(validate, epochs)
    rates = Rates(optimizer, schedule, epochs, steps)
    hooks, loose = Callbacks(callbacks), Loose(model, optimizer)
    state = State(model, optimizer, here, epochs, steps)
    losses = LossMeter(interval=1 if here.type == "cpu" else 50)
    stream = Stream(batches, kept=checkpoint is not None)
    parts = {
        "callbacks": hooks,
        "model": model,
        "optimizer": optimizer,
        "rates": rates,
        "loose": loose,
        "scaler": cast.scaler,
        "losses": losses,
        "history": state.history,
        "position": state,
        "stream": stream,
    }
    settings = {"epochs": epochs, "steps_per_epoch": steps, "seed": seed, "schedule": schedule, "loss": loss}
    settings |= {"callbacks": hooks.members, "validate": validate}
    settings |= {"precision": precision, "clip_norm": clip_norm, "channels_last": channels_last}
    store = Checkpoint(checkpoint, partial(describe, model, optimizer, batches, **settings), **parts)
    first = True  # of the steps taken here

    def gradients() -> Tensor:
        """Compute the gradients of one step; optimisers such as LBFGS call this several times."""
        nonlocal first
        for parameter in trained(model, optimizer):
            parameter.grad = None
        with cast.autocast():
            state.outputs = outputs_of(model, state.inputs)
        if first and here.type != "cpu":
            check_classes(loss, state.outputs, state.targets)
        value = checks.derivable(loss_of(loss, state.outputs, state.targets))
        cast.scaler.scale(value).backward()
        state.loss = value.detach()
        losses.add(state, size)
        if first:
            checks.check_reached(loose.tensors())
            first = False
        if precision == "fp16":
            cast.scaler.unscale_(optimizer)
        hooks.call("before_step", state)
        if clip_norm is not None:
            stepped = [parameter for part in optimizer.param_groups for parameter in part["params"]]
            nn.utils.clip_grad_norm_(stepped, clip_norm)
        return state.loss

    with (
        seeded(seed),
        prepared(model, optimizer, rates, channels_last),
        Bar(progress) as bar,
    ):
        hooks.call("on_start", state)
        state.checkpoint = store.load()
        bar.start(state.step, state.total_steps)
        while state.epoch < epochs:
            began = time.perf_counter()
            for batch in stream.epoch(state.epoch, skip=state.batch):
                state.inputs, state.targets = to_device(checks.pair(batch), here, channels_last)
                size = checks.counted(samples(state.inputs, state.targets), state.epoch, state.batch)
                rates.advance(state.step)
                cast.step(optimizer, gradients)
                state.step += 1
                state.batch += 1
                hooks.call("on_step", state)
                if state.stop or (every_steps and state.step % every_steps == 0):
                    state.checkpoint = store.save()
                if state.stop:
                    raise Stopped(f"stopped after step {state.step}, checkpoint: {state.checkpoint}")
                bar.step()
            if state.batch == 0:
                raise ValueError(f"batches gave nothing in epoch {state.epoch}")
            row = {"epoch": state.epoch + 1, "lr": state.lr, "train_loss": losses.take()}
            row.update(validation(model, validate, loss, precision, channels_last))
            state.history.rows.append({**row, "seconds": time.perf_counter() - began})
            hooks.call("on_epoch", state)
            bar.note(row)
            state.epoch, state.batch = state.epoch + 1, 0
            state.checkpoint = store.save()
    return state.history


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Parameters of the model and of the optimiser that require a gradient, each once, in a fixed order."""
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return list({id(p): p for p in [*model.parameters(), *held] if p.requires_grad}.values())


def validation(model: nn.Module, validate: Iterable | Callable | None, loss: Callable, *formats) -> dict[str, float]:
    """Numbers of the validation, named ``val_<name>``."""
    if validate is None:
        return {}
    if callable(validate):
        with modes_kept(model):
            numbers = checks.numbers(validate(model))
    else:
        precision, channels_last = formats
        try:
            numbers = evaluate(model, validate, loss=loss, precision=precision, channels_last=channels_last)
        except ValueError as error:
            raise ValueError(f"validate: {error}") from error
    return {f"val_{name}": value for name, value in numbers.items()}


@contextmanager
def prepared(model: nn.Module, optimizer: torch.optim.Optimizer, rates: Rates, channels_last: bool):
    """Put a model in evaluation mode into training mode; on leaving, put back flags, memory order and rates.

    Gradients are dropped.
    """
    convert = channels_last and all(parameter.is_contiguous() for parameter in model.parameters())
    with modes_kept(model):
        if not model.training:
            model.train()
        if convert:
            model.to(memory_format=torch.channels_last)
        try:
            rates.start()
            yield
        finally:
            rates.restore()
            if convert:
                model.to(memory_format=torch.contiguous_format)
            for parameter in trained(model, optimizer):
                parameter.grad = None
