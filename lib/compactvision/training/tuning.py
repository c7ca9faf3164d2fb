"""What is done after a cut, the same in every chapter, so that numbers can be compared: tuning, BatchNorm renewed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from . import checks
from .fit import fit
from .groups import Rule, parameter_groups
from .schedules import one_cycle


def tune(
    model: nn.Module,
    batches: Iterable,
    *,
    epochs: int = 1,
    learning_rate: float = 0.05,
    seed: int = 0,
    groups: Rule | None = None,
) -> nn.Module:
    """Train a network on, in place, with Nesterov's SGD over one cycle of learning rates, and return it.

    The cycle spans all passes, so a longer training is not the continuation of a shorter one. Momentum is 0.9, weight
    decay 0.0005.

    Parameters
    ----------
    model : Module
        Trained where it is, in channels-last order.
    batches : iterable of (inputs, targets)
        Read once an epoch.
    epochs : int, default 1
        Passes over `batches`, > 0.
    learning_rate : float, default 0.05
        Peak of the cycle, > 0.
    seed : int, default 0
        As for :func:`compactvision.training.fit`.
    groups : callable (name, parameter) -> dict or None, optional
        Rule for options of single parameters, as for :func:`compactvision.training.parameter_groups`; with
        ``training.no_decay`` biases and BatchNorm have no weight decay.

    Raises
    ------
    ValueError
        If `model` is no module or has nothing to train, a number is out of its range, or there is no batch.

    Examples
    --------
    >>> from compactvision import data, models, training
    >>> model = models.small_cnn(10, (4, 8))
    >>> training.tune(model, data.load("glyphs", n=32).batches(16, shuffle=True), learning_rate=0.02) is model
    True
    """
    checks.model_device(model, None)
    if not checks.is_positive(learning_rate):
        raise ValueError(f"learning_rate must be finite and > 0, got {learning_rate!r}")
    held = list(model.parameters()) if groups is None else parameter_groups(model, groups)
    if not held:
        raise ValueError("model has no parameter to train")
    optimizer = torch.optim.SGD(held, lr=learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    fit(
        model,
        batches,
        epochs=epochs,
        optimizer=optimizer,
        schedule=one_cycle(),
        channels_last=True,
        seed=seed,
        progress=False,
    )
    return model


def renewed(model: nn.Module, batches: Iterable) -> nn.Module:
    """Return a copy whose BatchNorm statistics are those of the batches, in evaluation mode.

    After a cut the stored means and variances are those of a network that is no more. Labels are not looked at. The
    statistics are plain means over batches, so the last batch should not be much smaller than the others.

    Parameters
    ----------
    model : Module
        Left as it was.
    batches : iterable of Tensor or of (Tensor, ...)
        Images (B, C, H, W); what follows them is ignored.

    Raises
    ------
    ValueError
        If there is no batch, or the model has no BatchNorm.

    Examples
    --------
    >>> from compactvision import data, models, training
    >>> model = models.pretrained("resnet20_glyphs")
    >>> fresh = training.renewed(model, data.load("glyphs", n=32).batches(16))
    >>> fresh.bn1.running_mean.equal(model.bn1.running_mean), fresh.training
    (False, False)
    """
    device = checks.model_device(model, None)
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError("model has no BatchNorm whose statistics could be renewed")
    checks.iterable(batches)
    model, read = copy.deepcopy(model), 0

    def images() -> Iterator[torch.Tensor]:
        nonlocal read
        for batch in batches:
            read += 1
            yield (batch if isinstance(batch, torch.Tensor) else batch[0]).to(device)

    torch.optim.swa_utils.update_bn(images(), model)
    if not read:
        raise ValueError("batches must hold at least one batch, got none")
    return model.eval()
