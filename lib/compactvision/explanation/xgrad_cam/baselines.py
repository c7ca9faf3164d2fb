"""Other class activation maps on the same activations and gradients, to compare XGrad-CAM with.

Each function gives channel weights (B, K) for ``activation_maps.weighted_map``, except :func:`hires_cam_map`, which
weights positions. Grad-CAM itself stands with XGrad-CAM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.explanation.arguments import axes
from compactvision.explanation.evidence import check_floating, check_inputs, chosen_targets, enlarged, scaled, wide
from compactvision.measure.state import evaluating

_LARGE = 1e6  # slopes beside which the 1e-6 of Grad-CAM++ is nothing


def grad_cam_plus_plus_weights(activation: Tensor, gradient: Tensor) -> Tensor:
    """Sum g^3 / (2 g^2 + A_k g^3 + 1e-6) over the positions with g > 0: (B, K).

    This closed form of :cite:`chattopadhay2018gradcampp` takes exp(S) as the score, so that higher derivatives are
    powers of g.
    """
    axes(activation=(activation, "B K H W"), gradient=(gradient, "B K H W"))
    slope = wide(gradient).clamp(min=0)
    total = wide(activation).sum((2, 3), keepdim=True)  # (B, K, 1, 1)
    small = torch.where(slope > _LARGE, 0, slope)
    terms = small**3 / (2 * small**2 + total * small**3 + 1e-6)
    steep = 1 / (2 / slope.clamp(min=_LARGE) + total)  # divided by g^3, which would overflow
    return torch.where(slope > _LARGE, steep, terms).sum((2, 3)).to(gradient.dtype)


def ablation_cam_weights(drops: Tensor, score: Tensor) -> Tensor:
    """Weight a channel by its share of the score, D_k / S: (B, K) and (B,) give (B, K); the signs turn where S < 0."""
    axes(drops=(drops, "B K"), score=(score, "B"))
    return drops / score[:, None]


def ablation_cam_sum_weights(drops: Tensor, activation: Tensor) -> Tensor:
    """Weight a channel by D_k / A_k, so that it fulfils Eq. (3) by construction: (B, K), 0 where A_k = 0."""
    axes(drops=(drops, "B K"), activation=(activation, "B K H W"))
    total = wide(activation).sum((2, 3))
    return torch.where(total == 0, 0, wide(drops) / torch.where(total == 0, 1, total)).to(drops.dtype)


def score_cam_weights(scores: Tensor) -> Tensor:
    """Turn the scores of masked images into weights by a softmax over channels: (B, K) gives (B, K).

    The original subtracts the score of a black image first; the softmax does not see it.
    """
    axes(scores=(scores, "B K"))
    return wide(scores).softmax(1).to(scores.dtype)


def masked_scores(
    model: nn.Module, inputs: Tensor, activation: Tensor, targets: Tensor, *, batch_size: int = 256
) -> Tensor:
    """Return the score of each image seen through each channel, Score-CAM's K full forward passes: (B, K).

    The mask is the channel of ``activation`` (B, K, H, W), enlarged and scaled to [0, 1] (0 for a constant channel).
    """
    check_inputs(inputs)
    check_floating(inputs)
    axes(inputs=(inputs, "B C H W"), targets=(targets, "B"), activation=(activation, "B K h w"))
    checks.floating(activation=activation)
    checks.counts(batch_size=batch_size)
    images, channels = activation.shape[:2]
    scores = []
    with evaluating(model):
        for numbers in torch.arange(images * channels, device=inputs.device).split(batch_size):
            image, channel = numbers // channels, numbers % channels
            mask = scaled(enlarged(activation[image, channel], inputs.shape[-2:]))  # (batch, height, width)
            logits = run(model, inputs[image] * mask[:, None])
            chosen = chosen_targets(logits, targets[image])
            scores.append(logits.gather(1, chosen[:, None])[:, 0])
    return torch.cat(scores).view(images, channels)


def hires_cam_map(activation: Tensor, gradient: Tensor) -> Tensor:
    """Sum g F over the channels at each position: raw map (B, H, W); its channels have the masses of XGrad-CAM."""
    axes(activation=(activation, "B K H W"), gradient=(gradient, "B K H W"))
    return (wide(gradient) * wide(activation)).sum(1).to(activation.dtype)
