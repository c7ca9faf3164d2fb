"""Class activation maps, the weights of Grad-CAM and XGrad-CAM, and XGrad-CAM of a layer: Eq. (1), (2) and (7).

B is the number of images, K of channels, H x W the size of the layer's output. Sums are formed in float32 at least.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.explanation.arguments import axes
from compactvision.explanation.evidence import check_inputs, gather, picture, wide

_CANCELS = 1e-3  # a channel whose sum is smaller than this share of its absolute sum


# Class activation maps, Eq. (1) and (2)


def weighted_map(activation: Tensor, weights: Tensor) -> Tensor:
    """Sum the channels with their weights, Eq. (1): (B, K, H, W) and (B, K) give the signed raw map (B, H, W)."""
    axes(activation=(activation, "B K H W"), weights=(weights, "B K"))
    return torch.einsum("bkhw,bk->bhw", wide(activation), wide(weights)).to(activation.dtype)


def grad_cam_weights(gradient: Tensor) -> Tensor:
    """Average the gradient over all positions alike, Eq. (2): (B, K, H, W) gives (B, K)."""
    axes(gradient=(gradient, "B K H W"))
    return wide(gradient).mean((2, 3)).to(gradient.dtype)


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

    Examples
    --------
    >>> import torch
    >>> from compactvision.explanation.xgrad_cam import xgrad_cam_weights
    >>> fires = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
    >>> wants = torch.tensor([[[[-1.0, 1.0], [1.0, 1.0]]]])
    >>> xgrad_cam_weights(fires, wants)
    tensor([[-1.]])
    """
    axes(activation=(activation, "B K H W"), gradient=(gradient, "B K H W"))
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
    """XGrad-CAM of one layer of a network, Eq. (1) and (7): call it with images to get their maps.

    Parameters
    ----------
    model : nn.Module
        Maps (B, ...) to logits (B, C); run in evaluation mode and left as it was.
    layer : str
        Name as in ``model.named_modules()``, behind a ReLU; gives (B, K, H, W) and runs once in a forward pass.

    Raises
    ------
    ValueError
        If the model has no such layer.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models
    >>> from compactvision.explanation.xgrad_cam import XGradCAM
    >>> explain = XGradCAM(models.pretrained("resnet20_cifar10"), "layer2")
    >>> images = torch.rand(2, 3, 32, 32)
    >>> maps = explain(images, targets=3)  # by default the class with the largest logit
    >>> maps.shape, explain.raw(images).shape
    (torch.Size([2, 32, 32]), torch.Size([2, 16, 16]))
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        checks.networks(model=model)
        if not isinstance(layer, str) or layer not in dict(model.named_modules()):
            raise ValueError(f"layer: the model has no layer {layer!r}")
        self.model, self.layer = model, layer

    def raw(self, inputs: Tensor, targets: int | Tensor | None = None) -> Tensor:
        """Return the signed map at the layer's own size, (B, H, W), of which the axioms speak."""
        seen = gather(self.model, self.layer, inputs, targets)
        return weighted_map(seen.activation, xgrad_cam_weights(seen.activation, seen.gradient))

    def __call__(self, inputs: Tensor, targets: int | Tensor | None = None) -> Tensor:
        """Return pictures (B, height, width) in [0, 1]; the class with the largest logit by default."""
        check_inputs(inputs)
        if inputs.ndim < 3:
            raise ValueError(f"inputs must be images (B, ..., height, width), got the shape {tuple(inputs.shape)}")
        return picture(self.raw(inputs, targets), inputs.shape[-2:])
