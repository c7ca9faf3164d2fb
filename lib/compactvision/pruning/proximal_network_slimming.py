"""Proximal network slimming: scales of BatchNorm that training itself sets to zero (Bui et al. 2023).

Network slimming (Liu et al. 2017) punishes the scale ``gamma`` of every BatchNorm channel by its absolute value, and
cuts channels with small scales afterwards. Its sub-gradient steps never give an exact zero. Here each scale has a copy
``xi``, tied to it by a quadratic; the copy takes proximal steps, which do give zeros, and pulls the scale along::

    slimming = ProximalSlimming(penalty=0.0045, beta=100.0)
    training.fit(model, batches, optimizer=optimizer, callbacks=[slimming], ...)
    plan = surgery.make_plan(behind_scales(model, graph, images), slimming.scores(), threshold=0.0)
    small = surgery.prune(model, plan)  # or fold_shifts(model, plan, images)

What is minimised over the weights, ``gamma`` and ``xi`` is ``loss + penalty ||xi||_1 + beta / 2 ||gamma - xi||^2``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compactvision.proximal import soft_threshold
from compactvision.surgery.layers import named_layers
from compactvision.training import State

START = 0.5
"""Scale of every channel before training."""


def proximal_step(gamma: Tensor, xi: Tensor, alpha: float, beta: float, penalty: float) -> tuple[Tensor, Tensor]:
    """Take one step of scales and copies, behind a gradient step of the scales with learning rate ``1 / alpha``.

    ``gamma`` moves towards ``xi``; then ``xi`` moves towards the *new* ``gamma`` and through the soft threshold. With
    plain gradient descent both together are the exact minimisers of the linearised problem.

    Parameters
    ----------
    gamma, xi : Tensor
        Scales after the gradient step, and their copies, of the same shape.
    alpha : float
        Inverse of the learning rate, positive.
    beta : float
        Strength of the tie, not negative.
    penalty : float
        Weight of the l1 norm, not negative.

    Returns
    -------
    (Tensor, Tensor)
        New scales and copies.

    Raises
    ------
    ValueError
        If shapes differ or a number is out of its range.
    """
    if gamma.shape != xi.shape:
        raise ValueError(f"xi must have the shape of gamma, {tuple(gamma.shape)}, got {tuple(xi.shape)}")
    _check(beta, penalty)
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    gamma = (alpha * gamma + beta * xi) / (alpha + beta)
    return gamma, soft_threshold((alpha * xi + beta * gamma) / (alpha + beta), penalty / (alpha + beta))


def needed_penalty(steps: int, learning_rate: float, beta: float) -> float:
    """Return the penalty that takes scale and copy from 0.5 to 0 in so many steps, if the loss does not object.

    Without a gradient both settle to a pace of ``penalty / (2 alpha + beta)`` a step, with or without momentum. A short
    training needs a larger penalty than a long one.

    Raises
    ------
    ValueError
        If ``steps`` is below 1 or ``learning_rate`` or ``beta`` is out of its range.
    """
    _check(beta, 0.0)
    if steps < 1 or not 0 < learning_rate < math.inf:
        raise ValueError(f"steps must be at least 1 and learning_rate positive, got {steps} and {learning_rate}")
    return (2 / learning_rate + beta) * START / steps


class ProximalSlimming:
    """Callback of ``training.fit`` that takes :func:`proximal_step` behind each step of the optimiser.

    The inverse step size follows the learning rate of the parameter group that a scale is in, also when a schedule
    changes it. The copies are part of a checkpoint.

    Parameters
    ----------
    penalty : float
        Weight of the l1 norm. With momentum ``m`` its effect is that of ``(1 - m) penalty`` in an ordinary l1 problem.
    beta : float, default 100
        Strength of the tie.
    generator : torch.Generator, optional
        Source of the first copies, uniform in [0.47, 0.53]; by default one with seed 0.

    Raises
    ------
    ValueError
        If a number is out of its range; at the start of training: if the model has no BatchNorm with scales, or the
        optimiser does not train one of them.
    """

    def __init__(self, penalty: float, beta: float = 100.0, *, generator: torch.Generator | None = None) -> None:
        _check(beta, penalty)
        self.penalty, self.beta = penalty, beta
        self.generator = generator or torch.Generator().manual_seed(0)
        self.xi: dict[str, Tensor] = {}
        self.gamma: dict[str, nn.Parameter] = {}
        self._groups: dict[str, dict] = {}

    def on_start(self, state: State) -> None:
        """Find the scales and make their copies."""
        self.gamma = dict(scales(state.model))
        for name, gamma in self.gamma.items():
            draw = torch.rand(gamma.shape, generator=self.generator, device=self.generator.device)
            self.xi[name] = (0.47 + 0.06 * draw).to(gamma)
            held = (g for g in state.optimizer.param_groups if any(p is gamma for p in g["params"]))
            self._groups[name] = next(held, {})
            if not self._groups[name]:
                raise ValueError(f"optimizer: the scale of {name!r} is in none of its groups")

    def on_step(self, state: State) -> None:
        """Take one proximal step."""
        with torch.no_grad():
            for name, gamma in self.gamma.items():
                rate = float(self._groups[name]["lr"])
                if rate == 0:  # alpha is infinite: nothing moves
                    continue
                alpha = 1 / rate
                moved, self.xi[name] = proximal_step(gamma, self.xi[name], alpha, self.beta, self.penalty)
                gamma.copy_(moved)

    def scores(self, *, mask: str = "copies") -> dict[str, Tensor]:
        """Return a score of each channel for ``surgery.make_plan(..., threshold=0.0)``.

        Parameters
        ----------
        mask : {"copies", "official"}, default "copies"
            "copies": ``|xi|`` where it is not 0. Where it is, a negative number that is higher for larger ``|gamma|``,
            so that the best channel of a layer that would be emptied is the one with the largest scale. "official": as
            the published code, which looks at the scales and removes those equal to the smallest one of the network;
            where training left no exact zero among them, that is a single channel.

        Raises
        ------
        ValueError
            If ``mask`` is unknown or training has not started.
        """
        if mask not in ("copies", "official"):
            raise ValueError(f'mask must be "copies" or "official", got {mask!r}')
        self._refuse_unstarted()
        size = {name: gamma.detach().abs() for name, gamma in self.gamma.items()}
        if mask == "official":
            smallest = min(float(each.min()) for each in size.values())
            return {name: each - smallest for name, each in size.items()}
        return {name: torch.where(xi != 0, xi.abs(), -1 / (1 + size[name])) for name, xi in self.xi.items()}

    def zeros(self) -> dict[str, int]:
        """Count channels, scales and copies that are exactly 0, and scales below 1e-6 (``ValueError`` as above)."""
        self._refuse_unstarted()
        gamma = torch.cat([each.detach().abs().flatten().cpu() for each in self.gamma.values()])
        copies = torch.cat([each.flatten().cpu() for each in self.xi.values()])
        return {
            "channels": gamma.numel(),
            "copies": int((copies == 0).sum()),
            "scales": int((gamma == 0).sum()),
            "tiny scales": int((gamma < 1e-6).sum()),
        }

    def energy(self, loss: float) -> float:
        """Return the objective: a loss, the penalty of the copies and the tie (``ValueError`` as above)."""
        self._refuse_unstarted()
        norm = sum(float(xi.abs().sum()) for xi in self.xi.values())
        apart = sum(float((self.gamma[name].detach() - xi).square().sum()) for name, xi in self.xi.items())
        return loss + self.penalty * norm + self.beta / 2 * apart

    def state_dict(self) -> dict[str, Tensor]:
        """Return the copies, for a checkpoint."""
        return dict(self.xi)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the copies of a checkpoint."""
        if state.keys() != self.xi.keys():
            raise ValueError(f"state: copies of {sorted(state)} do not fit the scales of {sorted(self.xi)}")
        self.xi = {name: state[name].to(self.gamma[name]) for name in self.xi}

    def _refuse_unstarted(self) -> None:
        if not self.xi:
            raise ValueError("slimming: training has not started, so there are no scales and copies yet")


class Slimming:
    """Callback of ``training.fit`` for network slimming as it was: the sub-gradient of the l1 norm in every step.

    Parameters
    ----------
    penalty : float
        Weight of the l1 norm of the scales.

    Raises
    ------
    ValueError
        If ``penalty`` is negative or not finite, or as :func:`scales` at the first step.
    """

    def __init__(self, penalty: float) -> None:
        _check(0.0, penalty)
        self.penalty = penalty

    def before_step(self, state: State) -> None:
        """Add the sub-gradient to the gradients."""
        for _, gamma in scales(state.model):
            if gamma.grad is not None:
                gamma.grad.add_(gamma.detach().sign(), alpha=self.penalty)


def scales(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and scale of every ``BatchNorm2d`` that has one; those without (``affine=False``) are left out.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [
        (name, module.weight)
        for name, _, module in named_layers(model)
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None
    ]
    if not found:
        raise ValueError("model has no BatchNorm2d with scales")
    yield from found


def start_(model: nn.Module) -> None:
    """Set every scale to 0.5 and every shift to 0, where the method begins, in place."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.weight is not None:
                module.weight.fill_(START)
                module.bias.zero_()


def _check(beta: float, penalty: float) -> None:
    for name, value in (("beta", beta), ("penalty", penalty)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number >= 0, got {value}")
