"""Loss, accuracy and other means of a model over batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checks, distributed
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
) -> dict[str, float]:
    """Means of loss, accuracy and `metrics` over all samples, in evaluation mode and without gradients.

    Parameters
    ----------
    model : Module
        Its training flags are put back on return.
    batches : iterable of (inputs, targets)
        With several processes each reads its ``shard`` (or what its own sampler gives it) and the sums are reduced;
        every process has to call.
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

    Returns
    -------
    dict
        "loss", "accuracy" (fraction in [0, 1]; only where targets are integers (B, ...) and outputs (B, C, ...)), the
        names of `metrics`, and "n", the number of samples.

    Raises
    ------
    ValueError
        `batches` gives no sample, `precision` or `device` is unknown or not the model's, a metric takes a used name.
    """
    here = checks.model_device(model, device)
    group = distributed.current(here)
    cast = Precision(precision, here)
    metrics = dict(metrics or {})
    taken = sorted(metrics.keys() & {"loss", "accuracy", "n"})
    if taken:
        raise ValueError(f"metrics: the name {taken[0]!r} is taken")
    sums: dict[str, Tensor] = {}  # on the device, so that no batch waits
    n = 0
    with modes_kept(model), torch.no_grad():
        model.eval()
        for batch in group.shard(batches):
            inputs, targets = to_device(checks.pair(batch), here, channels_last)
            count = samples(inputs, targets)
            if count == 0:
                continue
            with cast.autocast():
                outputs = model(inputs)
            outputs = as_float(outputs)
            means = {"loss": checks.scalar(loss(outputs, targets)), "accuracy": _accuracy(outputs, targets)}
            means.update({name: metric(outputs, targets) for name, metric in metrics.items()})
            for name, mean in means.items():
                if mean is not None:
                    sums[name] = sums.get(name, 0.0) + torch.as_tensor(mean).double() * count
            n += count
    return _reduced(group, sums, n, here, list(metrics))


def _reduced(group: distributed.Group, sums: dict, n: int, device: torch.device, extra: list[str]) -> dict[str, float]:
    names = ["loss", "accuracy", *extra]  # the same on every process, also on one that had no sample
    present = [float(name in sums) for name in names]
    totals = group.sum([float(sums.get(name, 0.0)) for name in names] + present + [float(n)], device)
    if totals[-1] == 0:
        raise ValueError("batches gave no sample")
    means = {name: totals[i] / totals[-1] for i, name in enumerate(names) if totals[len(names) + i] > 0}
    return {**means, "n": int(totals[-1])}


def _accuracy(outputs: object, targets: object) -> Tensor | None:
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or targets.is_floating_point():
        return None
    if outputs.ndim < 2 or outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        return None
    return (outputs.argmax(1) == targets).double().mean()


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put the training flag of every module back on leaving."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
