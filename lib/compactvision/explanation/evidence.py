"""What a layer of a network did for a class: its output, and the gradient of the class score there.

Also the last step of every class activation map, from a raw map to a picture, and the checks that these methods share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import hooks
from compactvision._failures import run
from compactvision.explanation.arguments import axes, height_and_width
from compactvision.measure.state import evaluating


@dataclass(frozen=True)
class Evidence:
    """What a network did at one layer for one class of each image; no part is attached to a graph.

    Attributes
    ----------
    activation : (B, K, H, W), the layer's output F.
    gradient : (B, K, H, W), g = dS / dF.
    score : (B,), the logit S of the class, never a probability.
    targets : (B,) int64.
    logits : (B, C).
    """

    activation: Tensor
    gradient: Tensor
    score: Tensor
    targets: Tensor
    logits: Tensor


def gather(model: nn.Module, layer: str, inputs: Tensor, targets: int | Tensor | None = None) -> Evidence:
    """Run a network in evaluation mode and read one layer's output and its gradient, all images at once.

    The graph begins at the layer: what comes before runs without one, so this costs a forward pass and the backward
    pass of the part behind. An in-place operation behind the layer, the caller's ``no_grad`` or a module that is used
    twice elsewhere change nothing; the model is left as it was, without gradients or hooks.

    Parameters
    ----------
    model : nn.Module
        Maps (B, ...) to logits (B, C).
    layer : str
        Name as in ``model.named_modules()``; gives (B, K, H, W) and runs once in a forward pass.
    inputs : Tensor
        (B, ...), finite, B at least 1.
    targets : int or Tensor, optional
        One class for all images or (B,) int64, a list or an array too; the class with the largest logit by default.

    Raises
    ------
    ValueError
        Naming the argument that does not fit; of the model, where it gives anything but logits (B, C) without NaN.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.explanation.evidence import gather
    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> evidence = gather(model, "0", torch.tensor([[[[1.0]], [[2.0]]]]), targets=0)
    >>> evidence.score, evidence.gradient.flatten()
    (tensor([1.]), tensor([ 3., -1.]))
    """
    check_inputs(inputs)
    checks.texts(layer=layer)
    kept: list[Tensor] = []

    def cut(output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != len(inputs):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer: {layer!r} gives {shape}, not a tensor (B, K, H, W)")
        if kept:
            raise ValueError(f"layer: {layer!r} runs more than once in a forward pass; name the block around it")
        torch.set_grad_enabled(True)  # until the end of `evaluating`
        kept.append(output.detach().clone().requires_grad_())
        return kept[0].clone()  # what follows may write to it

    with torch.inference_mode(False), evaluating(model), hooks.replace_output(model, layer, cut):
        logits = _run(model, inputs.clone() if inputs.is_inference() else inputs)
        if not kept:
            raise ValueError(f"layer: {layer!r} does not run in a forward pass")
        chosen = chosen_targets(logits, targets)
        score = logits.gather(1, chosen[:, None])[:, 0]  # (B,)
        (gradient,) = torch.autograd.grad(score.sum(), kept[0], allow_unused=True) if score.requires_grad else (None,)
        if gradient is None:
            raise ValueError(f"layer: the logits do not depend on the output of {layer!r}")
    return Evidence(kept[0].detach(), gradient, score.detach(), chosen, logits.detach())


def enlarged(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B, H, W) to (B, height, width), bilinearly."""
    axes(raw=(raw, "B H W"))
    checks.floating(raw=raw)
    height_and_width(size)
    return F.interpolate(raw[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def scaled(maps: Tensor) -> Tensor:
    """Scale each map (B, H, W) to [0, 1]; a constant map becomes 0."""
    axes(maps=(maps, "B H W"))
    checks.floating(maps=maps)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def picture(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn raw maps (B, H, W) into pictures (B, height, width) in [0, 1]: ReLU, resize, scale; 0 where all are <= 0."""
    checks.floating(raw=raw)
    return scaled(enlarged(raw.clamp(min=0), size))


def wide(x: Tensor) -> Tensor:
    """Return a tensor in float32, or float64 where it is: the type in which sums are formed."""
    checks.tensors(x=x)
    return x if x.dtype == torch.float64 else x.float()


def _run(model: nn.Module, inputs: Tensor) -> Tensor:
    if inputs.is_floating_point():
        return run(model, inputs)
    try:
        return model(inputs)
    except RuntimeError as error:
        raise ValueError(f"inputs must be of a type that the model reads, got {inputs.dtype}: {error}") from error


def check_floating(inputs: Tensor, name: str = "inputs") -> None:
    """Raise a ValueError unless the inputs are a dense tensor of floating-point numbers."""
    checks.texts(name=name)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        what = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(f"{name} must be floating-point numbers, got {what}")
    checks.tensors(**{name: inputs})


def check_inputs(inputs: Tensor) -> None:
    """Raise a ValueError unless the inputs are a batch (B, ...), not empty, of finite numbers."""
    if not isinstance(inputs, Tensor):
        raise ValueError(f"inputs must be a tensor, got {type(inputs).__name__}")
    checks.tensors(inputs=inputs)
    if inputs.ndim < 2 or inputs.numel() == 0:
        raise ValueError(f"inputs must be a batch that is not empty, got shape {tuple(inputs.shape)}")
    if not torch.isfinite(inputs).all():
        raise ValueError("inputs contain NaN or infinity")


def chosen_targets(logits: Tensor, targets: int | Tensor | None) -> Tensor:
    """Return the class to explain of each image, the one with the largest logit where None is given: (B,) int64.

    Raises a ValueError where logits are not (B, C) or hold NaN, or targets no integers in [0, C), one or one an image.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"model must give logits (B, C), got {checks.shown(logits)}")
    checks.tensors(logits=logits)
    if logits.isnan().any():
        raise ValueError("model must give logits without NaN")
    if targets is None:
        return logits.detach().argmax(1)
    try:
        chosen = torch.as_tensor(targets, device=logits.device)
        whole = not (chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool)
    except (TypeError, ValueError, RuntimeError):
        chosen, whole = None, False
    if not whole or chosen.layout != torch.strided or chosen.shape not in ((), (len(logits),)):
        raise ValueError(
            f"targets must be an integer or integers of shape ({len(logits)},), got {checks.shown(targets)}"
        )
    chosen = chosen.long().expand(len(logits))
    if int(chosen.min()) < 0 or int(chosen.max()) >= logits.shape[1]:
        raise ValueError(f"targets must lie in [0, {logits.shape[1]}), got {checks.shown(targets)}")
    return chosen
