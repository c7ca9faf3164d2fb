"""Simple importances to compare with: callables on a model that return one 1-D tensor of scores for each layer.

Names are those of :class:`compactvision.surgery.ChannelGraph`, one entry for each output channel (C_out,), higher means
keep. All but :func:`taylor` look at parameters only. Depthwise convolutions are left out: they follow what feeds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.measure import evaluating
from compactvision.measure.batches import fitting
from compactvision.surgery.behind import maps_behind
from compactvision.surgery.layers import named_layers
from compactvision.surgery.recording import is_depthwise

Importance = Callable[[nn.Module], dict[str, Tensor]]
"""From a model to its scores by layer, (C_out,) each; higher means keep."""


def l1() -> Importance:
    """Return the importance by the sum of absolute weights of each filter, biases left out (Li et al. 2017).

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.surgery import criteria
    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
    >>> criteria.l1()(nn.Sequential(layer))
    {'0': tensor([3.0000, 0.5000])}
    """
    return lambda model: _of_weights(model, lambda weight: weight.abs().flatten(1).sum(1))


def l2() -> Importance:
    """Return the importance by the Euclidean norm of each filter's weights, biases left out.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.surgery import criteria
    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0]]))
    >>> criteria.l2()(nn.Sequential(layer))
    {'0': tensor([5.])}
    """
    return lambda model: _of_weights(model, lambda weight: weight.flatten(1).norm(dim=1))


def batch_norm_scale() -> Importance:
    """Return the importance by the absolute scale of each BatchNorm channel: network slimming (Liu et al. 2017).

    Raises
    ------
    ValueError
        When it is called: if the model has no BatchNorm with a scale; weights have scores of :func:`l1`.

    Examples
    --------
    >>> from torch import nn
    >>> from compactvision.surgery import criteria
    >>> criteria.batch_norm_scale()(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)))
    {'1': tensor([1., 1.])}
    """

    def importance(model: nn.Module) -> dict[str, Tensor]:
        scores = {name: module.weight.detach().abs() for name, module in _norms(model) if module.weight is not None}
        if not scores:
            raise ValueError("model has no BatchNorm with a scale; criteria.l1() scores weights")
        return scores

    return importance


def constant() -> Importance:
    """Return the importance that is one for every filter: the order of the channels alone decides what is removed."""
    return lambda model: _of_weights(model, lambda weight: torch.ones(weight.shape[0]))


def random(generator: torch.Generator) -> Importance:
    """Return an importance that draws every filter's score from [0, 1); each call draws anew.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.surgery import criteria
    >>> importance = criteria.random(torch.Generator().manual_seed(0))
    >>> importance(nn.Sequential(nn.Linear(2, 3)))["0"].shape
    torch.Size([3])
    """
    checks.instances(torch.Generator, generator=generator)

    def draw(weight: Tensor) -> Tensor:
        return torch.rand(weight.shape[0], generator=generator, device=generator.device)

    return lambda model: _of_weights(model, draw)


def taylor(
    batches: Iterable[tuple[Tensor, Tensor]], *, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
) -> Importance:
    """Return an importance that estimates how much the loss changes when a feature map is set to zero.

    The score of a channel is the absolute value of activation times gradient, averaged over images and summed over
    positions (Molchanov et al. 2017, first order). It is read behind each BatchNorm, and behind each convolution and
    linear layer that an activation or another layer reads without BatchNorm between; in a model without BatchNorm,
    behind every convolution and linear layer. In front of a ReLU it is the same as behind it.

    Parameters
    ----------
    batches : iterable of (Tensor, Tensor)
        Inputs and targets, on the model's device; gone through once for each call.
    loss : callable, default cross-entropy
        Mean loss of a batch from (outputs, targets).

    Raises
    ------
    ValueError
        When it is called: if there is no batch, no layer to score, a layer is used twice in a forward pass, or what the
        model returns is no tensor while ``loss`` is the default.

    Examples
    --------
    >>> from compactvision import data, models
    >>> from compactvision.surgery import criteria
    >>> batches = data.load("glyphs", n=8).batches(4)
    >>> scores = criteria.taylor(batches)(models.pretrained("resnet20_glyphs"))
    >>> scores["layer1.0.bn1"].shape
    torch.Size([16])
    """
    return _from_gradients(batches, loss, lambda output, gradient: output * gradient)


def gradient(
    batches: Iterable[tuple[Tensor, Tensor]], *, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
) -> Importance:
    """Return an importance that asks how steeply the loss depends on a feature map (Sun et al. 2017).

    The score of a channel is the absolute value of the gradient, averaged over images and summed over positions, read
    where :func:`taylor` reads it. In front of a ReLU it counts positions at which the ReLU is closed as zero.
    Arguments and errors are those of :func:`taylor`.

    Examples
    --------
    >>> from compactvision import data, models
    >>> from compactvision.surgery import criteria
    >>> batches = data.load("glyphs", n=8).batches(4)
    >>> scores = criteria.gradient(batches)(models.pretrained("resnet20_glyphs"))
    >>> scores["layer1.0.bn1"].shape
    torch.Size([16])
    """
    return _from_gradients(batches, loss, lambda output, gradient: gradient)


def reverse(importance: Importance) -> Importance:
    """Return the importance with all signs turned: what it would keep is removed first, a control.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.surgery import criteria
    >>> criteria.reverse(criteria.constant())(nn.Sequential(nn.Linear(1, 2)))
    {'0': tensor([-1., -1.])}
    """
    checks.functions(1, importance=importance)

    def reversed_scores(model: nn.Module) -> dict[str, Tensor]:
        scores = importance(model)
        checks.mappings(importance=scores)
        checks.tensors(**{f"scores of {name!r}": values for name, values in scores.items()})
        return {name: -values for name, values in scores.items()}

    return reversed_scores


def _from_gradients(
    batches: Iterable[tuple[Tensor, Tensor]], loss: Callable, product: Callable[[Tensor, Tensor], Tensor]
) -> Importance:
    """Return an importance: a product of activation and gradient, averaged over images, its absolute value."""
    checks.functions(2, networks=True, loss=loss)
    checks.batches(batches=batches)

    def importance(model: nn.Module) -> dict[str, Tensor]:
        layers: dict[str, nn.Module] = {}
        sums: dict[str, Tensor] = {}
        images = 0
        with evaluating(model):
            for batch in batches:
                inputs, targets = checks.pair(batch)
                layers = layers or _spoken_for(model, inputs)
                outputs, gradients = _gradients(model, layers, inputs, targets, loss)
                for name, output in outputs.items():
                    part = product(output, gradients[name])
                    last = isinstance(layers[name], nn.Linear)  # its channels are the last dimension
                    part = part.movedim(-1 if last else 1, 0).flatten(1).sum(1)  # (C,)
                    sums[name] = sums.get(name, 0) + part * inputs.shape[0]  # the loss is a mean over the batch
                images += inputs.shape[0]
        if not images:
            raise ValueError("batches must hold at least one batch, got none")
        return {name: (total / images).abs() for name, total in sums.items()}

    return importance


def _spoken_for(model: nn.Module, inputs: Tensor) -> dict[str, nn.Module]:
    """Return the layers behind which gradients are read: each channel's last norm, or the layer itself without one."""
    norms, weighted = dict(_norms(model)), dict(_weighted(model))
    if norms:
        behind = maps_behind(model, inputs[:1])
        weighted = {name: module for name, module in weighted.items() if name in behind}
    if not norms and not weighted:
        raise ValueError("model has no BatchNorm, convolution or linear layer to score")
    return norms | weighted


def _gradients(
    model: nn.Module, layers: dict[str, nn.Module], inputs: Tensor, targets: Tensor, loss: Callable
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each layer's output, (B, C) or (B, C, H, W), and the gradient of one batch's mean loss for it."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, result: Tensor) -> Tensor:
            if name in outputs:
                raise ValueError(f"model: layer {name!r} runs twice in a forward pass; take criteria.l1() in its place")
            outputs[name] = result if result.requires_grad else result.requires_grad_()
            return outputs[name].clone()  # later in-place operations leave the kept one alone

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in layers.items()]
    try:
        with torch.enable_grad():
            value = _loss_of(loss, run(model, inputs, name="batches"), targets)
            gradients = torch.autograd.grad(value, list(outputs.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    found = {
        name: torch.zeros_like(output) if gradient is None else gradient
        for (name, output), gradient in zip(outputs.items(), gradients, strict=True)
    }
    return {name: output.detach() for name, output in outputs.items()}, found


def _loss_of(loss: Callable, answers: object, targets: Tensor) -> Tensor:
    """Return the loss of one batch as a tensor with one element."""
    if loss is F.cross_entropy:
        fitting(answers, targets)
    value = loss(answers, targets)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError(f"loss must give one number that depends on the outputs, got {checks.shown(value)}")
    return value


def _of_weights(model: nn.Module, score: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return the score of each layer's weights, (C_out, ...) to (C_out,)."""
    scores = {name: score(module.weight.detach()) for name, module in _weighted(model)}
    if not scores:
        raise ValueError("model has no convolution without groups and no linear layer to score")
    return scores


def _weighted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, _, module in named_layers(model):
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not is_depthwise(module):
            yield name, module


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, _, module in named_layers(model):
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            yield name, module
