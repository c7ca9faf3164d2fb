"""The two axioms, by how much weights miss them, and the identity behind them: Eq. (3) to (5), (8) and (9).

B is the number of images, K of channels, H x W the size of the layer's output. Sums are formed in float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import hooks
from compactvision._failures import run
from compactvision.explanation.arguments import axes
from compactvision.explanation.evidence import check_floating, check_inputs, chosen_targets, wide
from compactvision.explanation.heads import Head
from compactvision.measure.state import evaluating
from compactvision.models import ChannelMap

HOMOGENEOUS = (
    *(nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout2d, nn.Flatten),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d, ChannelMap),
)
"""Layers that scale with their input, so that they add nothing to the bias term."""

_SCALING = """
AccumulateGrad Gather Clone View UnsafeView ReshapeAlias Permute Transpose T Squeeze Unsqueeze Slice Select Split Cat
Expand Index IndexSelect ConstantPadNd Relu LeakyRelu PreluKernel MaxPool2DWithIndices AvgPool2D AdaptiveAvgPool2D
MkldnnAdaptiveAvgPool2D AdaptiveMaxPool2D Mean Sum Convolution Addmm Mm NativeBatchNorm CudnnBatchNorm
"""


# The axioms, Eq. (3) and (4), and by how much weights miss them, Eq. (8) and (9)


def channel_drops(
    model: nn.Module, layer: str, inputs: Tensor, targets: int | Tensor | None = None, *, batch_size: int = 256
) -> Tensor:
    """Return D_k, by how much the score falls when channel k is set to zero, Eq. (3): (B, K).

    The part behind the layer runs ``batch_size`` ablated outputs at a time, the part before runs once. Raises a
    ValueError as :class:`~compactvision.explanation.heads.Head` does where the layer is not the only way to the output.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.explanation.xgrad_cam import channel_drops
    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> channel_drops(model, "0", torch.tensor([[[[1.0]], [[2.0]]]]))
    tensor([[ 3., -2.]])
    """
    check_inputs(inputs)
    check_floating(inputs)
    checks.counts(batch_size=batch_size)
    head = Head(model, layer, inputs)
    chosen = chosen_targets(head.output, targets)
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
    axes(activation=(activation, "B K H W"), weights=(weights, "B K"))
    return (wide(weights) * wide(activation).sum((2, 3))).to(weights.dtype)


def sensitivity_residual(drops: Tensor, mass: Tensor) -> Tensor:
    """Return the sum of ``|D_k - w_k A_k|`` over that of ``|D_k|``, Eq. (8): (B, K) twice give (B,); 0 is perfect.

    Without meaning, infinite or NaN, where no D_k differs from 0.
    """
    axes(drops=(drops, "B K"), mass=(mass, "B K"))
    checks.floating(drops=drops, mass=mass)
    return (drops - mass).abs().sum(1) / drops.abs().sum(1)


def conservation_residual(score: Tensor, mass: Tensor) -> Tensor:
    """Return ``|S - sum of w_k A_k| / |S|``, Eq. (9): (B,) and (B, K) give (B,); without meaning where S is near 0."""
    axes(score=(score, "B"), mass=(mass, "B K"))
    checks.floating(score=score, mass=mass)
    return (score - mass.sum(1)).abs() / score.abs()


# The identity, Eq. (5)


def bias_term(
    model: nn.Module, layer: str, inputs: Tensor, targets: int | Tensor | None = None, *, strict: bool = True
) -> Tensor:
    """Return epsilon of Eq. (5), what the biases behind a layer add to the score: (B,).

    Each layer t behind the named one contributes its biases times the gradient at its output. A BatchNorm in evaluation
    mode has the bias ``beta - gamma mean / sqrt(var + eps)``. No activation of the named layer enters the result; they
    only serve to check it.

    Parameters
    ----------
    model, layer, inputs, targets : as in :func:`gather`.
    strict : bool, default True
        Refuse layers for which the identity does not hold, and check Eq. (5) itself, ``S - sum of g F = epsilon``, so
        that functions behind the layer are seen too. With False they count as if they had no bias.

    Raises
    ------
    ValueError
        Where a layer behind is neither affine nor in :data:`HOMOGENEOUS`, Eq. (5) does not hold on the inputs, the
        layer does not run exactly once, or the inputs reach the score past it.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.explanation.xgrad_cam import bias_term
    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))
    >>> _ = model[2].bias.data.fill_(0.5)
    >>> bias_term(model, "0", torch.rand(3, 2, 1, 1))
    tensor([0.5000, 0.5000, 0.5000])
    """
    check_inputs(inputs)
    check_floating(inputs)
    checks.networks(model=model)
    checks.texts(layer=layer)
    checks.flags(strict=strict)
    modules = {name: m for name, m in model.named_modules() if name != layer and not any(m.children())}
    leaves: list[Tensor] = []

    def cut(output: Tensor) -> Tensor:
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()

    with torch.inference_mode(False), evaluating(model), torch.enable_grad():
        probe = inputs.detach().clone().requires_grad_()
        with hooks.replace_output(model, layer, cut), hooks.capture(model, list(modules), repeated=True) as outputs:
            logits = run(model, probe.clone())
        if len(leaves) != 1:
            raise ValueError(f"layer: {layer!r} runs {len(leaves)} times in a forward pass, not once")
        chosen = chosen_targets(logits, targets)
        score = logits.gather(1, chosen[:, None])[:, 0]
        calls = [(name, u) for name in outputs for u in outputs[name] if isinstance(u, Tensor) and u.requires_grad]
        needed = [probe, leaves[0], *(u for _, u in calls)]
        past, slope, *found = torch.autograd.grad(score.sum(), needed, allow_unused=True)
    if past is not None:
        raise ValueError(f"layer: the inputs reach the logits past {layer!r}, by a shortcut; name the block around it")
    parts = [wide(logits).new_zeros(len(inputs))]
    for (name, _), gradient in zip(calls, found, strict=True):
        if gradient is not None:
            parts.append(_contribution(name, modules[name], wide(gradient), strict))
    if strict:
        slope = torch.zeros_like(leaves[0]) if slope is None else slope
        product = (wide(slope) * wide(leaves[0].detach())).flatten(1)
        _check_identity(layer, score, product, torch.stack(parts))
    return sum(parts).to(logits.dtype)


def _check_identity(layer: str, score: Tensor, product: Tensor, parts: Tensor) -> None:
    """Raise a ValueError unless the score (B,) is the sum of the products g F (B, K H W) and the bias terms (T, B)."""
    apart = (wide(score.detach()) - product.sum(1) - parts.sum(0)).abs()
    size = score.detach().abs() + product.abs().sum(1) + parts.abs().sum(0)  # what rounding is relative to
    if (apart <= torch.finfo(score.dtype).eps ** 0.5 * size).all():
        return
    suspects = sorted(_operations_behind(score) - set(_SCALING.split())) or ["a constant", "a bias that no layer holds"]
    raise ValueError(
        f"layer: Eq. (5) does not hold behind {layer!r}, by up to {float(apart.max()):.3g}: something there neither is "
        f"an affine layer nor scales with its input (perhaps {', '.join(suspects)})"
    )


def _operations_behind(score: Tensor) -> set[str]:
    """Return the names of the operations on the way to the score, as autograd calls them."""
    seen, left = set(), [score.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [next_node for next_node, _ in node.next_functions]
    return {node.name().rstrip("0123456789").removesuffix("Backward").split("::")[-1] for node in seen}


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
