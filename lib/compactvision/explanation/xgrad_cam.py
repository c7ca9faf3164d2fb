"""XGrad-CAM: class activation maps whose channel weights follow from two axioms :cite:`fu2020xgradcam`.

In the paper's order: class activation maps, the two axioms, the identity behind them, the weights. Equation numbers are
those of the chapter; (5) is Eq. (5) of the paper as well. B is the number of images, K of channels, H x W the size of
the layer's output. Sums are formed in float32 at least.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from compactvision import hooks
from compactvision.explanation.evidence import check_inputs, chosen_classes, gather, picture, wide
from compactvision.explanation.heads import Head
from compactvision.measure.state import evaluating
from compactvision.models import ChannelMap

HOMOGENEOUS = (
    *(nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout2d, nn.Flatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d, ChannelMap),
)
"""Layers that scale with their input, so that they add nothing to the bias term."""
_CANCELS = 1e-3  # a channel whose sum is smaller than this share of its absolute sum


# Class activation maps, Eq. (1) and (2)


def weighted_map(activation: Tensor, weights: Tensor) -> Tensor:
    """Sum the channels with their weights, Eq. (1): (B, K, H, W) and (B, K) give the signed raw map (B, H, W)."""
    return torch.einsum("bkhw,bk->bhw", wide(activation), wide(weights)).to(activation.dtype)


def grad_cam_weights(gradient: Tensor) -> Tensor:
    """Average the gradient over all positions alike, Eq. (2): (B, K, H, W) gives (B, K)."""
    return wide(gradient).mean((2, 3)).to(gradient.dtype)


# The axioms, Eq. (3) and (4), and by how much weights miss them, Eq. (8) and (9)


def channel_drops(
    model: nn.Module, layer: str, inputs: Tensor, classes: int | Tensor | None = None, *, batch_size: int = 256
) -> Tensor:
    """Return D_k, by how much the score falls when channel k is set to zero, Eq. (3): (B, K).

    The part behind the layer runs ``batch_size`` ablated outputs at a time, the part before runs once. Raises a
    ValueError as :class:`~compactvision.explanation.heads.Head` does where the layer is not the only way to the output.
    """
    check_inputs(inputs)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    head = Head(model, layer, inputs)
    chosen = chosen_classes(head.output, classes)
    score = head.output.gather(1, chosen[:, None])[:, 0]
    images, channels = head.activation.shape[:2]
    left = []
    with evaluating(model):
        for numbers in torch.arange(images * channels, device=inputs.device).split(batch_size):
            image, channel = numbers // channels, numbers % channels
            ablated = head.activation[image]  # (batch, K, H, W), a copy
            ablated[torch.arange(len(numbers)), channel] = 0
            left.append(head(ablated).gather(1, chosen[image, None])[:, 0])
    return score[:, None] - torch.cat(left).view(images, channels)


def masses(activation: Tensor, weights: Tensor) -> Tensor:
    """Return w_k A_k, what each channel adds to the sum of the raw map: (B, K)."""
    return (wide(weights) * wide(activation).sum((2, 3))).to(weights.dtype)


def sensitivity_residual(drops: Tensor, mass: Tensor) -> Tensor:
    """Return the sum of ``|D_k - w_k A_k|`` over that of ``|D_k|``, Eq. (8): (B, K) twice give (B,); 0 is perfect."""
    return (drops - mass).abs().sum(1) / drops.abs().sum(1)


def conservation_residual(score: Tensor, mass: Tensor) -> Tensor:
    """Return ``|S - sum of w_k A_k| / |S|``, Eq. (9): (B,) and (B, K) give (B,); without meaning where S is near 0."""
    return (score - mass.sum(1)).abs() / score.abs()


# The identity, Eq. (5)


def bias_term(
    model: nn.Module, layer: str, inputs: Tensor, classes: int | Tensor | None = None, *, strict: bool = True
) -> Tensor:
    """Return epsilon of Eq. (5), what the biases behind a layer add to the score: (B,).

    Each layer t behind the named one contributes its biases times the gradient at its output. A BatchNorm in evaluation
    mode has the bias ``beta - gamma mean / sqrt(var + eps)``. No activation of the named layer enters the result.

    Parameters
    ----------
    model, layer, inputs, classes : as in :func:`gather`.
    strict : bool, default True
        Refuse layers for which the identity does not hold. With False they count as if they had no bias.

    Raises
    ------
    ValueError
        Where a layer behind is neither affine nor in :data:`HOMOGENEOUS`, or the inputs reach the score past the layer.
    """
    check_inputs(inputs)
    modules = {name: m for name, m in model.named_modules() if name != layer and not any(m.children())}

    def cut(output: Tensor) -> Tensor:
        return output.detach().clone().requires_grad_().clone()

    with torch.inference_mode(False), evaluating(model), torch.enable_grad():
        probe = inputs.detach().clone().requires_grad_()
        with hooks.replace_output(model, layer, cut), hooks.capture(model, list(modules), repeated=True) as outputs:
            logits = model(probe)
        chosen = chosen_classes(logits, classes)
        score = logits.gather(1, chosen[:, None]).sum()
        calls = [(name, u) for name in outputs for u in outputs[name] if isinstance(u, Tensor) and u.requires_grad]
        found = torch.autograd.grad(score, [probe, *(u for _, u in calls)], allow_unused=True)
    if found[0] is not None:
        raise ValueError(f"layer: the inputs reach the logits past {layer!r}, by a shortcut; name the block around it")
    total = wide(logits).new_zeros(len(inputs))
    for (name, _), gradient in zip(calls, found[1:], strict=True):
        if gradient is not None:
            total += _contribution(name, modules[name], wide(gradient), strict)
    return total.to(logits.dtype)


def _contribution(name: str, module: nn.Module, gradient: Tensor, strict: bool) -> Tensor:
    """Return the biases of one layer times the gradient at its output: (B,)."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
        scale = (wide(module.running_var) + module.eps).rsqrt()
        if module.affine:
            scale = scale * module.weight.detach()
        bias = -module.running_mean * scale + (module.bias.detach() if module.affine else 0)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        if module.bias is None:
            return gradient.new_zeros(len(gradient))
        bias = module.bias.detach()
    elif isinstance(module, HOMOGENEOUS) or not strict:
        return gradient.new_zeros(len(gradient))
    else:
        raise ValueError(f"layer: behind it lies {name!r}, a {type(module).__name__}, for which Eq. (5) does not hold")
    if isinstance(module, nn.Linear):
        gradient = gradient.movedim(-1, 1)
    return gradient.flatten(2).sum(2) @ wide(bias) if gradient.ndim > 2 else gradient @ wide(bias)


# The weights, Eq. (7)


def xgrad_cam_weights(activation: Tensor, gradient: Tensor) -> Tensor:
    """Average the gradient with the normalised activation for weights, Eq. (7): w_k A_k is the sum of g F.

    Parameters
    ----------
    activation, gradient : (B, K, H, W). The derivation assumes activations >= 0, behind a ReLU.

    Returns
    -------
    (B, K). A channel that is zero everywhere has the weight 0. Where positive and negative activations cancel to less
    than a thousandth, Eq. (7) would divide by nearly nothing: the weight of Grad-CAM is taken, with a warning. (The
    official script adds 1e-6 to every denominator instead.)
    """
    mapped, slope = wide(activation), wide(gradient)
    total, size = mapped.sum((2, 3)), mapped.abs().sum((2, 3))  # A_k and its absolute counterpart, (B, K)
    cancels = (total.abs() <= _CANCELS * size) & (size > 0)
    if cancels.any():
        warnings.warn(
            f"{int(cancels.sum())} channels with positive and negative activations sum to nearly 0 and get the weight "
            "of Grad-CAM; XGrad-CAM is meant for a layer behind a ReLU",
            stacklevel=2,
        )
    quotient = (slope * mapped).sum((2, 3)) / torch.where(cancels | (size == 0), 1, total)
    return torch.where(cancels, slope.mean((2, 3)), quotient).to(activation.dtype)


class XGradCAM:
    """XGrad-CAM of one layer of a network: call it with images to get their maps.

    Parameters
    ----------
    model, layer : as in :func:`gather`.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        if layer not in dict(model.named_modules()):
            raise ValueError(f"layer: the model has no layer {layer!r}")
        self.model, self.layer = model, layer

    def raw(self, inputs: Tensor, classes: int | Tensor | None = None) -> Tensor:
        """Return the signed map at the layer's own size, (B, H, W), of which the axioms speak."""
        seen = gather(self.model, self.layer, inputs, classes)
        return weighted_map(seen.activation, xgrad_cam_weights(seen.activation, seen.gradient))

    def __call__(self, inputs: Tensor, classes: int | Tensor | None = None) -> Tensor:
        """Return pictures (B, height, width) in [0, 1]; the class with the largest logit by default."""
        return picture(self.raw(inputs, classes), inputs.shape[-2:])
