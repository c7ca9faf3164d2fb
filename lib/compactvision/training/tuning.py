"""What is done after a cut, the same in every chapter, so that numbers can be compared: tuning, BatchNorm renewed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import _checks as shared

from . import checks
from .explained import outputs_of
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
    if learning_rate > torch.finfo(torch.float32).max:
        raise ValueError(f"learning_rate must be a number that float32 can hold, got {learning_rate}")
    if groups is not None:
        shared.functions(2, groups=groups)
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
        If there is no batch or one that does not suit the model, the model has no BatchNorm, or its new statistics are
        not finite.

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
    named = _Named(copy.deepcopy(model))
    torch.optim.swa_utils.update_bn((_images(batch).to(device) for batch in batches), named)
    if not named.read:
        raise ValueError("batches must hold at least one batch, got none")
    for name, buffer in named.model.named_buffers():
        if name.endswith(("running_mean", "running_var")) and not buffer.isfinite().all():
            raise ValueError(f"batches: with them, {name!r} of the model is not finite")
    return named.model.eval()


class _Named(nn.Module):
    """A network that counts its batches, and whose errors name them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.read = model, 0

    def forward(self, x: Tensor) -> Any:
        self.read += 1
        return outputs_of(self.model, x)


def _images(batch: Any) -> Tensor:
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor) or x.is_meta:
        raise ValueError(f"batches must yield images or tuples that begin with them, got {shared.shown(x)}")
    if not x.ndim or not x.shape[0]:
        raise ValueError(f"batches: a batch has no sample, got {shared.shown(x)}; leave it out")
    return x
