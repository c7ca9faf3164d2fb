"""The way of relevance through a whole network.

What flows backwards in autograd is made to be relevance instead of gradients: while the model runs, each of its
operations is replaced by one whose backward pass is a rule. Weights and flags of the model are not touched, and nothing
has to be traced: residual sums written ``x + y`` or ``x += y`` are seen like layers. What comes from an operation that
was not seen is refused, and the outputs are compared with those of the model left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import explained
from compactvision.measure.state import evaluating
from compactvision.surgery import named_layers

from . import arguments
from .replacing import Replacing
from .rules import Rule, z_plus
from .tracking import Running


@dataclass(frozen=True)
class Relevance:
    """Relevance of a batch at every layer.

    Attributes
    ----------
    inputs : Tensor
        Relevance of each input value, the shape of the inputs.
    layers : dict of str to Tensor
        Relevance of each output value of every convolution and linear layer, behind its BatchNorm where one follows:
        (B, C, H, W) or (B, C), by the layer's name in ``surgery.channel_graph``, in the order of execution.
    outputs : Tensor
        The initial relevance, that of the model's outputs (B, K).
    """

    inputs: Tensor
    layers: dict[str, Tensor]
    outputs: Tensor


def relevance(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    initial_relevance: str = "one-hot",
    rules: Mapping[str, Rule] | None = None,
    default: Rule = z_plus,
) -> Relevance:
    """Propagate relevance from the targets back to the inputs, by the rules of Eq. (1) to Eq. (3).

    Convolutions and linear layers follow their rule. Activations and dropout pass relevance on, max-pooling gives it to
    the winner, averages, sums and residual sums share it out in proportion. BatchNorm is folded into the layer before
    it, Eq. (4); where there is none, as in pre-activation networks, it passes relevance on.

    Parameters
    ----------
    model : nn.Module
        Run twice in evaluation mode and left as it was; its outputs are scores (B, K).
    inputs : Tensor
        A batch (B, ...), floating point.
    targets : Tensor
        The output of each sample whose value is explained (B,), int64: its class.
    initial_relevance : {"one-hot", "logit"}, default "one-hot"
        What a target's output gets, and the others get nothing: one, or its own value, as in the authors' toy
        experiment. A negative value hands out negative relevance.
    rules : mapping of str to callable, optional
        Rules of single layers, by their name in ``surgery.channel_graph``.
    default : callable, default :func:`~compactvision.pruning.lrp_pruning.rules.z_plus`
        Rule of all other convolutions and linear layers.

    Raises
    ------
    ValueError
        If ``initial_relevance`` or a layer in ``rules`` is unknown, inputs are not finite numbers, targets do not fit,
        outputs do not depend on the inputs, or the model does something that no rule is known for or that cannot be
        looked into (named), writes into what a layer has read, or gives other outputs when it runs again.

    Examples
    --------
    The chapter's network of three hidden units, whose score is 8:

    >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    >>> model[0].weight.data = torch.tensor([[1.0, 1.0], [2.0, -1.0], [0.0, 1.0]])
    >>> model[2].weight.data = torch.tensor([[2.0, 1.0, 1.0]])
    >>> found = relevance(model, torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    >>> found.layers["0"], found.inputs
    (tensor([[0.7500, 0.0000, 0.2500]]), tensor([[0.2500, 0.7500]]))
    """
    arguments.settings(initial_relevance, rules, default)
    modules = {name: module for name, _, module in named_layers(model)}
    for name, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"model: {name or 'it'!r} is a scripted module, which cannot be looked into")
    weights = {name: getattr(module, "weight", None) for name, module in modules.items()}
    weights = {name: weight for name, weight in weights.items() if isinstance(weight, Tensor)}
    unknown = set(rules or {}) - set(weights)
    if unknown:
        raise ValueError(f"rules: the model has no layer {sorted(unknown, key=str)[0]!r} with weights")
    _refuse_inputs(inputs)
    with torch.inference_mode(False), evaluating(model), torch.enable_grad(), Running(modules.items()) as running:
        inputs = inputs.detach().clone().requires_grad_()
        given = inputs.clone()  # the model may write to it
        propagation = Replacing(given, running, weights, rules or {}, default)
        outputs = _run(model, given, propagation)
        start = _start(outputs, targets, initial_relevance, propagation)
        _compare(model, inputs, outputs)
        reached = [inputs, *(edge for edge, _ in propagation.outputs.values())]
        found = torch.autograd.grad(outputs, reached, start, allow_unused=True)
    likes = [inputs, *(output for _, output in propagation.outputs.values())]
    found = [torch.zeros_like(like) if part is None else part for like, part in zip(likes, found, strict=True)]
    return Relevance(found[0], dict(zip(propagation.outputs, found[1:], strict=True)), start)


def _run(model: nn.Module, inputs: Tensor, propagation: Replacing) -> Tensor:
    try:
        with propagation.dependence, propagation:
            outputs = model(inputs)
    except RuntimeError as error:
        if "inplace" not in str(error) and "in-place" not in str(error):
            with explained([inputs], "inputs"):
                raise
        raise ValueError(f"model: it writes in place where relevance cannot be followed: {error}") from error
    propagation.refuse_overwritten()
    return outputs


def _compare(model: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Raise a ValueError where the outputs are not those of the model left alone."""
    with torch.no_grad():
        expected = model(inputs.detach().clone())
    if not expected.isfinite().all():
        raise ValueError("model: its outputs are not finite")
    apart = float((outputs.detach() - expected).abs().max())
    if not apart <= torch.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max()):
        raise ValueError(
            f"model: the outputs that relevance would explain differ from the model's own by up to {apart:.3g}: it "
            "does something in its forward pass that is not seen, or something random"
        )


def _refuse_inputs(inputs: Tensor) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.numel() == 0:
        what = f"{inputs.dtype} {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(f"inputs must be a batch of floating-point numbers, got {what}")
    checks.tensors(inputs=inputs)
    if not inputs.isfinite().all():
        raise ValueError(f"inputs must be finite, got {inputs[~inputs.isfinite()][0]}")


def _named(targets: object, outputs: Tensor) -> object:
    apart = isinstance(targets, Tensor) and targets.device != outputs.device
    return f"them on {targets.device} for outputs on {outputs.device}" if apart else targets


def _start(outputs: Tensor, targets: Tensor, initial_relevance: str, propagation: Replacing) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise ValueError(f"model must return scores (B, K), got {tuple(getattr(outputs, 'shape', ()))}")
    if outputs not in propagation.dependence:
        raise ValueError("model: its outputs do not depend on its inputs")
    propagation.made.refuse_unknown([outputs], "its output")
    fits = isinstance(targets, Tensor) and targets.dtype == torch.int64 and targets.shape == outputs.shape[:1]
    fits = fits and targets.device == outputs.device and targets.layout == torch.strided
    if not fits or not ((targets >= 0) & (targets < outputs.shape[1])).all():
        raise ValueError(
            f"targets must be {len(outputs)} int64 classes below {outputs.shape[1]}, got {_named(targets, outputs)}"
        )
    start = torch.zeros_like(outputs).scatter_(1, targets[:, None], 1)  # (B, K)
    return start if initial_relevance == "one-hot" else start * outputs.detach()
