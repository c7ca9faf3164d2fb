"""Loss, accuracy and other means of a model over batches."""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as shared
from compactvision.measure.classification import correct, kept
from compactvision.measure.state import evaluating

from . import checks
from .explained import check_classes, loss_of, outputs_of
from .precision import Precision, as_float, samples, to_device


def evaluate(
    model: nn.Module,
    batches: Iterable,
    *,
    loss: Callable = F.cross_entropy,
    metrics: Mapping[str, Callable] | None = None,
    precision: str = "fp32",
    channels_last: bool = False,
    device: str | torch.device | None = None,
    ignore: int | None = None,
) -> dict[str, float]:
    """Means of loss, accuracy and `metrics` over all samples, in evaluation mode and without gradients.

    Parameters
    ----------
    model : Module
        Its training flags and buffers are put back on return.
    batches : iterable of (inputs, targets)
        Batches without a sample are passed over.
    loss : callable (outputs, targets) -> scalar Tensor
        Mean over the samples of a batch.
    metrics : dict of str to callable (outputs, targets) -> scalar
        More means over the samples of a batch.
    precision : {"fp32", "bf16", "fp16"}
        Format of the forward pass; losses and metrics see float32.
    channels_last : bool
        Whether images are handed over in channels-last order.
    device : device, optional
        Must be the model's, which is the default.
    ignore : int, optional
        Label of targets that do not count, such as 255. Accuracy, and the cross-entropy that is the default loss, leave
        them out; another loss has to do so itself. Both are then means over the targets that count.

    Returns
    -------
    dict
        "loss", "accuracy" (fraction in [0, 1]; only where targets are integers (B, ...) and outputs (B, C, ...)), the
        names of `metrics`, and "n", the number of samples.

    Raises
    ------
    ValueError
        `batches` gives no sample or does not suit model and loss, `precision` or `device` is unknown or not the
        model's, a metric takes a used name or gives no number.
    """
    here = checks.model_device(model, device)
    cast = Precision(precision, here)
    checks.callables(loss, metrics)
    checks.iterable(batches)
    metrics = dict(metrics or {})
    if ignore is not None:
        shared.whole(ignore=ignore)
        loss = nn.CrossEntropyLoss(ignore_index=ignore) if loss is F.cross_entropy else loss
    taken = sorted(metrics.keys() & {"loss", "accuracy", "n"})
    if taken:
        raise ValueError(f"metrics: the name {taken[0]!r} is taken")
    sums: dict[str, Tensor] = {}  # on the device, so that no batch waits
    weights: dict[str, float] = {}
    n = 0
    with evaluating(model):
        for batch in batches:
            inputs, targets = to_device(checks.pair(batch), here, channels_last)
            count = samples(inputs, targets)
            if count == 0:
                continue
            with cast.autocast():
                outputs = as_float(outputs_of(model, inputs))
            if n == 0 and here.type != "cpu":
                check_classes(loss, outputs, targets)
            weight = count if ignore is None else _counted(targets, ignore)
            means: dict[str, Tensor | None] = {}
            if weight:
                means["loss"] = loss_of(loss, outputs, targets)
                means["accuracy"] = _accuracy(outputs, targets, ignore)
            means.update({name: checks.mean(name, metric(outputs, targets)) for name, metric in metrics.items()})
            for name, mean in means.items():
                if mean is not None:
                    share = count if name in metrics else weight
                    sums[name] = sums.get(name, 0.0) + mean.double() * share
                    weights[name] = weights.get(name, 0) + share
            n += count
    if n == 0:
        raise ValueError("batches gave no sample")
    order = [name for name in ("loss", "accuracy", *metrics) if name in sums]
    if "loss" not in order:
        raise ValueError("batches: every target is ignored, there is nothing to measure")
    return {**{name: float(sums[name]) / weights[name] for name in order}, "n": n}


def _counted(targets: object, ignore: int) -> int:
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        raise ValueError("ignore is for targets that are whole numbers; batches have others")
    return int(kept(targets, ignore).sum())


def _accuracy(outputs: object, targets: object, ignore: int | None) -> Tensor | None:
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or targets.is_floating_point():
        return None
    if outputs.ndim < 2 or outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        return None
    right = correct(outputs, targets)
    return right[kept(targets, ignore)].double().mean() if ignore is not None else right.double().mean()
