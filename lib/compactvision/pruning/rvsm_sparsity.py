"""Relaxed variable splitting: weights whose shrunken copies become exactly zero (Xue and Xin 2019).

A penalty such as the number of non-zeros has no useful gradient. So the weights ``w`` get a copy ``u``: the copy pays
the penalty, the weights pay the loss, and a quadratic of strength ``beta`` ties the two. Each step first finds the best
copy, which is a closed formula in every entry and gives exact zeros; then the weights take an ordinary gradient step
with a pull towards the copy. At the end the copy replaces the weights::

    splitting = RelaxedSplitting("l0", strength=2e-3, beta=0.5, start=5)
    training.fit(model, batches, optimizer=optimizer, callbacks=[splitting], ...)
    sparse = splitting.sparse_copy()

What is minimised is ``L(u, w) = f(w) + strength P(u) + beta / 2 ||w - u||^2``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from compactvision import proximal
from compactvision.training import State

Layers = Sequence[str] | None
PENALTIES = ("l0", "l1", "transformed_l1")


def penalty_value(u: Tensor, penalty: str, a: float = 1.0) -> Tensor:
    """Return the penalty ``P(u)``, summed over all entries.

    Parameters
    ----------
    u : Tensor
        Of any shape, floating point.
    penalty : {"l0", "l1", "transformed_l1"}
        ``1`` where ``u`` is not 0, ``|u|``, or ``(a + 1) |u| / (a + |u|)`` for each entry.
    a : float, default 1
        Shape of transformed l1, positive: near 0 it counts like l0, and for large ``a`` it measures like l1.

    Returns
    -------
    Tensor
        Scalar of the dtype of ``u``. A ``ValueError`` if the penalty is unknown or ``a`` not positive and finite.
    """
    _check(penalty, 0.0, 1.0, a)
    size = u.abs()
    if penalty == "l0":
        return (u != 0).sum().to(u.dtype)
    return size.sum() if penalty == "l1" else ((a + 1) * size / (a + size)).sum()


def best_copy(w: Tensor, penalty: str, strength: float, beta: float, a: float = 1.0) -> Tensor:
    """Return the ``u`` that minimises ``strength P(u) + beta / 2 ||w - u||^2``.

    It is the proximal map at ``strength / beta``. Implements the u-step of :cite:`xue2019rvsm`. Where two values are
    equally good the result is 0.

    Parameters
    ----------
    w : Tensor
        Weights of any shape, floating point.
    penalty, a : str, float
        As in :func:`penalty_value`.
    strength : float
        Weight of the penalty, not negative; the paper's lambda.
    beta : float
        Strength of the tie, positive.

    Returns
    -------
    Tensor
        Shape and dtype of ``w``, without gradient.

    Raises
    ------
    ValueError
        If ``w`` is not floating point, the penalty is unknown, or a number is out of its range.
    """
    _check(penalty, strength, beta, a)
    kappa = strength / beta
    if penalty == "l0":
        return proximal.hard_threshold(w.detach(), kappa)
    if penalty == "l1":
        return proximal.soft_threshold(w.detach(), kappa)
    return proximal.transformed_l1(w.detach(), kappa, a)


def threshold(penalty: str, strength: float, beta: float, a: float = 1.0) -> float:
    """Return the largest weight whose copy is 0; arguments and errors are those of :func:`best_copy`."""
    _check(penalty, strength, beta, a)
    kappa = strength / beta
    if penalty == "transformed_l1":
        return proximal.transformed_l1_threshold(kappa, a)
    return kappa if penalty == "l1" else math.sqrt(2 * kappa)


def needed_strength(penalty: str, limit: float, beta: float, a: float = 1.0) -> float:
    """Return the strength whose :func:`threshold` is ``limit``, so that settings can be compared.

    ``limit`` is in units of the weights and not negative; else arguments and errors are those of :func:`best_copy`.
    """
    _check(penalty, 0.0, beta, a)
    if not 0 <= limit < math.inf:
        raise ValueError(f"limit must be a finite number >= 0, got {limit}")
    if penalty == "l0":
        return beta * limit**2 / 2
    if penalty == "l1":
        return beta * limit
    if limit <= a / 2:  # the map is continuous
        return beta * limit * a / (a + 1)
    return beta * (limit + a / 2) ** 2 / (2 * (a + 1))


def lagrangian(loss: float, w: Tensor, u: Tensor, penalty: str, strength: float, beta: float, a: float = 1.0) -> float:
    """Return ``loss + strength P(u) + beta / 2 ||w - u||^2``; arguments and errors are those of :func:`best_copy`."""
    _check(penalty, strength, beta, a)
    apart = float((w.detach() - u).square().sum())
    return float(loss) + strength * float(penalty_value(u, penalty, a)) + beta / 2 * apart


def chosen_weights(model: nn.Module, layers: Layers = None) -> dict[str, nn.Parameter]:
    """Return the weights to be made sparse, by the names of their layers; biases are never among them.

    ``layers`` names modules with a weight; by default all linear layers, as in :cite:`xue2019rvsm`. A ``ValueError``
    names a module that is unknown or has no weight, an empty list, or a model without linear layers.
    """
    modules = dict(model.named_modules())
    if layers is None:
        layers = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if not layers:
            raise ValueError("model has no linear layer; name the layers")
    if isinstance(layers, str) or len(layers) == 0:
        raise ValueError(f"layers must be a non-empty list of names, got {layers!r}")
    for name in layers:
        if not isinstance(getattr(modules.get(name), "weight", None), nn.Parameter):
            raise ValueError(f"layers: {name!r} is no layer of the model with a weight")
    return {name: modules[name].weight for name in layers}


def replaced(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a model with other weights in some layers; the model itself is not changed.

    ``weights`` maps names of layers to tensors; a ``ValueError`` names one of the wrong shape, or an unknown layer.
    """
    found = copy.deepcopy(model)
    own = chosen_weights(found, list(weights))
    with torch.no_grad():
        for name, weight in weights.items():
            if weight.shape != own[name].shape:
                raise ValueError(f"weights: {name!r} has shape {tuple(weight.shape)}, not {tuple(own[name].shape)}")
            own[name].copy_(weight)
    return found


def sparsity(weights: Mapping[str, Tensor]) -> float:
    """Return the share of exact zeros among all entries, in [0, 1]; a ``ValueError`` if there is no entry."""
    if not any(weight.numel() for weight in weights.values()):
        raise ValueError("weights: there is no entry to look at")
    return sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())


def smallest_zeroed(model: nn.Module, share: float, layers: Layers = None) -> dict[str, Tensor]:
    """Return weights whose smallest entries are 0: one-shot pruning by magnitude, the baseline.

    ``share`` is that of the zeros among all entries of the layers together, in [0, 1), rounded to whole entries;
    ``layers`` and errors are those of :func:`chosen_weights`.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    weights = chosen_weights(model, layers)
    flat = torch.cat([weight.detach().flatten() for weight in weights.values()])
    order = flat.abs().argsort(stable=True)
    flat[order[: round(share * len(flat))]] = 0  # cat made a new tensor
    parts = flat.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


class RelaxedSplitting:
    """Callback of ``training.fit`` for relaxed variable splitting.

    In every step the best copy of the weights is found, and ``beta (w - u)`` is added to the gradient, so that momentum
    sees it. The copy is a function of the weights: nothing has to be kept in a checkpoint.

    Parameters
    ----------
    penalty : {"l0", "l1", "transformed_l1"}
        What the copies pay.
    strength, a : float
        Weight of the penalty, and shape of transformed l1, as in :func:`best_copy`.
    beta : float
        Strength of the tie, positive. With plain gradient descent on a loss of smoothness ``L`` the objective falls for
        learning rates below ``2 / (L + beta)``.
    start : int, default 0
        Epochs without penalty and tie. (A deviation, if the authors did without: started cold, a threshold above
        the initial weights holds all of them down.)
    layers : sequence of str, optional
        As in :func:`chosen_weights`.

    Raises
    ------
    ValueError
        If an argument is out of its range; at the start of training as :func:`chosen_weights`, or if the optimiser
        does not train one of the weights.
    """

    def __init__(
        self, penalty: str, strength: float, beta: float, *, a: float = 1.0, start: int = 0, layers: Layers = None
    ) -> None:
        _check(penalty, strength, beta, a)
        self.beta, self._settings = beta, (penalty, strength, beta, a)
        self.start, self.layers, self.model = _whole(start), layers, None
        self.weights: dict[str, nn.Parameter] = {}

    def on_start(self, state: State) -> None:
        """Find the weights."""
        self.model, self.weights = state.model, _held(state, self.layers)

    def before_step(self, state: State) -> None:
        """Find the copies, and add the pull towards them to the gradients."""
        if state.epoch >= self.start:
            with torch.no_grad():
                for name, u in self.copies().items():
                    w = self.weights[name]
                    w.grad.add_(w - u, alpha=self.beta)

    def copies(self) -> dict[str, Tensor]:
        """Return the best copy of each weight as it is now."""
        if not self.weights:
            raise ValueError("weights: training has not started, there is nothing to copy")
        return {name: best_copy(w, *self._settings) for name, w in self.weights.items()}

    def sparse_copy(self) -> nn.Module:
        """Return a copy of the model with the copies in place of the weights; the model is not changed."""
        return replaced(self.model, self.copies())

    def sparsity(self) -> float:
        """Return the share of exact zeros in the copies."""
        return sparsity(self.copies())

    def gap(self) -> float:
        """Return how far the copies are from the weights, ``||w - u|| / ||w||``."""
        copies = self.copies()
        apart = sum(float((w.detach() - copies[name]).square().sum()) for name, w in self.weights.items())
        return math.sqrt(apart / sum(float(w.detach().square().sum()) for w in self.weights.values()))

    def lagrangian(self, loss: float) -> float:
        """Return the objective at a loss: the loss, the penalty of the copies and the tie."""
        copies = self.copies()
        return float(loss) + sum(lagrangian(0, w, copies[name], *self._settings) for name, w in self.weights.items())


class Subgradient:
    """Callback of ``training.fit`` that adds the sub-gradient of ``strength ||w||_1``: the baseline without splitting.

    Arguments and errors are those of :class:`RelaxedSplitting`. Weights jump about zero, and none is exactly 0.
    """

    def __init__(self, strength: float, *, start: int = 0, layers: Layers = None) -> None:
        _check("l1", strength, 1.0, 1.0)
        self.strength, self.start, self.layers = strength, _whole(start), layers
        self.weights: dict[str, nn.Parameter] = {}

    def on_start(self, state: State) -> None:
        """Find the weights."""
        self.weights = _held(state, self.layers)

    def before_step(self, state: State) -> None:
        """Add the sub-gradient."""
        if state.epoch >= self.start:
            for w in self.weights.values():
                w.grad.add_(w.detach().sign(), alpha=self.strength)


def _held(state: State, layers: Layers) -> dict[str, nn.Parameter]:
    weights = chosen_weights(state.model, layers)
    held = {id(p) for group in state.optimizer.param_groups for p in group["params"] if p.requires_grad}
    for name, weight in weights.items():
        if id(weight) not in held:
            raise ValueError(f"optimizer: the weight of {name!r} is in none of its groups")
    return weights


def _whole(start: int) -> int:
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"start must be a whole number >= 0, got {start!r}")
    return start


def _check(penalty: str, strength: float, beta: float, a: float) -> None:
    if penalty not in PENALTIES:
        raise ValueError(f"penalty must be one of {', '.join(PENALTIES)}, got {penalty!r}")
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength must be a finite number >= 0, got {strength}")
    for name, value in (("beta", beta), ("a", a)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
