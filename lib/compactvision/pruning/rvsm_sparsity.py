"""Relaxed variable splitting: weights whose copies become exactly zero :cite:p:`xue2019rvsm`.

A penalty such as the number of non-zeros has no useful gradient. So the weights ``w`` get a copy ``u``: the copy pays
the penalty, the weights pay the loss, and a quadratic of strength ``beta`` ties the two. Each step first finds the best
copy, which is a closed formula in every entry and gives exact zeros; then the weights take an ordinary gradient step
with a pull towards the copy. At the end the copy replaces the weights::

    splitting = RelaxedSplitting("l0", penalty=2e-3, beta=0.5, start=5)
    training.fit(model, batches, optimizer=optimizer, callbacks=[splitting], ...)
    sparse = splitting.sparse_copy()

What is minimised is ``L(u, w) = f(w) + penalty P(u) + beta / 2 ||w - u||^2``, Eq. (1) of the chapter, whose numbers are
used here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import proximal, training
from compactvision.pruning.arguments import not_negative, positive, tensors_by_name, weight_of

Layers = Sequence[str] | None
REGULARISERS = ("l0", "l1", "transformed_l1")


def regulariser_value(u: Tensor, regulariser: str, a: float = 1.0) -> Tensor:
    """Return ``P(u)``, a scalar of the dtype of ``u``, summed over all entries of a floating-point tensor.

    Each counts ``1`` where it is not 0, ``|u|``, or ``(a + 1) |u| / (a + |u|)``, like l0 near ``a = 0`` and like l1 for
    large ``a``. A ``ValueError`` names an unknown regulariser, or an ``a`` that is not positive and finite.
    """
    _check(regulariser, 0.0, 1.0, a)
    checks.floating(u=u)
    size = u.abs()
    if regulariser == "l0":
        return (u != 0).sum().to(u.dtype)
    return size.sum() if regulariser == "l1" else ((a + 1) * size / (a + size)).sum()


def proximal_copy(w: Tensor, regulariser: str, penalty: float, beta: float, a: float = 1.0) -> Tensor:
    """Return the ``u`` that minimises ``penalty P(u) + beta / 2 ||w - u||^2``, first line of Eq. (2).

    It is the proximal map at ``penalty / beta``, Eq. (3) for transformed l1. Of two equally good values it takes 0.

    Parameters
    ----------
    w : Tensor
        Weights of any shape, floating point.
    regulariser : {"l0", "l1", "transformed_l1"}
        What the copy pays for.
    penalty : float
        Weight of the regulariser, not negative; the paper's lambda.
    beta : float
        Strength of the tie, positive.
    a : float, default 1
        Shape of transformed l1, positive.

    Returns
    -------
    Tensor
        Shape and dtype of ``w``, without gradient.

    Raises
    ------
    ValueError
        If ``w`` is not floating point, the regulariser is unknown, or a number is out of its range.

    Examples
    --------
    >>> w = torch.tensor([1.1, -0.506, 0.35, 0.1])
    >>> proximal_copy(w, "l0", penalty=0.1, beta=0.5)
    tensor([1.1000, 0.0000, 0.0000, 0.0000])
    >>> proximal_copy(w, "transformed_l1", penalty=0.1, beta=0.5)
    tensor([ 1.0000, -0.2500,  0.0000,  0.0000])
    """
    _check(regulariser, penalty, beta, a)
    checks.floating(w=w)
    kappa = penalty / beta
    if regulariser == "l0":
        return proximal.hard_threshold(w.detach(), kappa)
    if regulariser == "l1":
        return proximal.soft_threshold(w.detach(), kappa)
    return proximal.transformed_l1(w.detach(), kappa, a)


def threshold(regulariser: str, penalty: float, beta: float, a: float = 1.0) -> float:
    """Return the size of the largest weight whose copy is 0; arguments and errors as for :func:`proximal_copy`."""
    _check(regulariser, penalty, beta, a)
    kappa = penalty / beta
    if regulariser == "transformed_l1":
        return proximal.transformed_l1_threshold(kappa, a)
    return kappa if regulariser == "l1" else math.sqrt(2 * kappa)


def needed_penalty(regulariser: str, limit: float, beta: float, a: float = 1.0) -> float:
    """Return the penalty whose :func:`threshold` is ``limit``, so that settings can be compared.

    ``limit`` is the size of a weight, not negative; other arguments and errors are those of :func:`proximal_copy`.
    """
    _check(regulariser, 0.0, beta, a)
    not_negative(limit=limit)
    if regulariser == "l0":
        return beta * limit**2 / 2
    if regulariser == "l1":
        return beta * limit
    if limit <= a / 2:  # the map is continuous
        return beta * limit * a / (a + 1)
    return beta * (limit + a / 2) ** 2 / (2 * (a + 1))


def objective(
    loss: float, w: Tensor, u: Tensor, regulariser: str, penalty: float, beta: float, a: float = 1.0
) -> float:
    """Return Eq. (1) at a finite loss, weights and copies of one shape; the rest is as for :func:`proximal_copy`."""
    _check(regulariser, penalty, beta, a)
    checks.finite(loss=loss)
    checks.floating(w=w, u=u)
    if w.shape != u.shape:
        raise ValueError(f"u must have the shape of w, {tuple(w.shape)}, got {tuple(u.shape)}")
    distance = float((w.detach() - u).square().sum())
    return float(loss) + penalty * float(regulariser_value(u, regulariser, a)) + beta / 2 * distance


def chosen_weights(model: nn.Module, layers: Layers = None) -> dict[str, nn.Parameter]:
    """Return the weights to be made sparse, by the names of their layers; biases are never among them.

    ``layers`` names modules, by default all linear layers, as in :cite:`xue2019rvsm`. A ``ValueError`` names one that
    is unknown or has no weight, an empty list, or a model without linear layers.
    """
    checks.networks(model=model)
    modules = dict(model.named_modules())
    if layers is None:
        layers = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        if not layers:
            raise ValueError("model has no linear layer; name the layers")
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Collection) or len(layers) == 0:
        raise ValueError(f"layers must be a non-empty list of names, got {checks.shown(layers)}")
    return {name: weight_of(modules, name) for name in layers}


def replaced(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a model with other weights in some layers; the model itself is not changed.

    ``weights`` maps names of layers to tensors; a ``ValueError`` names one of the wrong shape, or an unknown layer.
    """
    checks.networks(model=model)
    tensors_by_name(weights=weights)
    if not weights:
        raise ValueError("weights must name at least one layer, got none")
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
    tensors_by_name(weights=weights)
    if not any(weight.numel() for weight in weights.values()):
        raise ValueError("weights: there is no entry to look at")
    return sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())


def smallest_zeroed(model: nn.Module, share: float, layers: Layers = None) -> dict[str, Tensor]:
    """Return weights whose smallest entries are 0: one-shot pruning by magnitude, the baseline.

    ``share`` of zeros among all entries of the layers together, in [0, 1), rounded to whole entries, else a
    ``ValueError``. ``layers`` is that of :func:`chosen_weights`, with its errors.
    """
    checks.materialised(model=model)
    checks.numbers(share=share)
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    weights = chosen_weights(model, layers)
    flat = torch.cat([weight.detach().flatten() for weight in weights.values()])
    if flat.isnan().any():
        raise ValueError("model: weights that are NaN have no order")
    order = flat.abs().argsort(stable=True)
    flat[order[: round(share * len(flat))]] = 0  # cat made a new tensor
    parts = flat.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


class RelaxedSplitting:
    """Callback of ``training.fit`` for relaxed variable splitting, Eq. (2).

    ``beta (w - u)`` is added to the gradient, so that momentum sees it. The copy is a function of the weights: nothing
    has to be kept in a checkpoint.

    Parameters
    ----------
    regulariser, penalty, beta, a
        As for :func:`proximal_copy`. With plain gradient descent on a loss of smoothness ``M``, Eq. (1) falls for
        learning rates below ``2 / (M + beta)``.
    start : int, default 0
        Epochs without penalty and tie. (A deviation, if the authors did without: started cold, a threshold above the
        initial weights holds all of them down.)
    layers : sequence of str, optional
        Names of the layers whose weights get copies; by default all linear layers.

    Raises
    ------
    ValueError
        If an argument is out of its range; in training: if a layer is unknown or has no weight, the optimiser does not
        train it, or the loss does not depend on it.

    Examples
    --------
    >>> model, x = torch.nn.Sequential(torch.nn.Linear(20, 2)), torch.eye(20)
    >>> splitting = RelaxedSplitting("l0", penalty=0.02, beta=0.5, start=2)  # only the first input tells the labels
    >>> _ = training.fit(model, [(x, x[:, 0].long())] * 20, epochs=9, callbacks=[splitting], progress=False)
    >>> splitting.sparse_copy()[0].weight.count_nonzero().item() < 20 < model[0].weight.count_nonzero().item()
    True
    """

    def __init__(
        self, regulariser: str, penalty: float, beta: float, *, a: float = 1.0, start: int = 0, layers: Layers = None
    ) -> None:
        _check(regulariser, penalty, beta, a, start)
        self.regulariser, self.penalty, self.beta, self.a = self._settings = regulariser, penalty, beta, a
        self.start, self.layers, self.model = start, layers, None
        self.weights: dict[str, nn.Parameter] = {}

    def on_start(self, state: training.State) -> None:
        """Find the weights."""
        self.weights, self.model = _trained_weights(state, self.layers), state.model

    def before_step(self, state: training.State) -> None:
        """Find the copies, and add the pull towards them to the gradients."""
        checks.instances(training.State, state=state)
        if state.epoch >= self.start:
            with torch.no_grad():
                for name, u in self.copies().items():
                    _gradient_of(name, self.weights[name]).add_(self.weights[name] - u, alpha=self.beta)

    def copies(self) -> dict[str, Tensor]:
        """Return the best copy of each weight as it is now; a ``ValueError`` before training."""
        if not self.weights:
            raise ValueError("weights: training has not started, there is nothing to copy")
        return {name: proximal_copy(w, *self._settings) for name, w in self.weights.items()}

    def sparse_copy(self) -> nn.Module:
        """Return a copy of the model with the copies in place of the weights; the model is not changed."""
        return replaced(self.model, self.copies())

    def sparsity(self) -> float:
        """Return the share of exact zeros in the copies."""
        return sparsity(self.copies())

    def gap(self) -> float:
        """Return the distance of the copies from the weights, ``||w - u|| / ||w||``."""
        pairs = [(self.weights[name].detach(), u) for name, u in self.copies().items()]
        distance = sum(float((w - u).square().sum()) for w, u in pairs)
        return math.sqrt(distance / sum(float(w.square().sum()) for w, _ in pairs)) if distance else 0.0

    def objective(self, loss: float) -> float:
        """Return Eq. (1) at a loss: the loss, the penalty of the copies and the tie."""
        checks.finite(loss=loss)
        own = self.copies().items()
        return float(loss) + sum(objective(0, self.weights[name], u, *self._settings) for name, u in own)


class Subgradient:
    """Callback of ``training.fit`` that adds the sub-gradient of ``penalty ||w||_1``: the baseline without splitting.

    Weights jump about zero, and none is exactly 0. ``penalty`` is a number >= 0; ``start`` and ``layers`` as for
    :class:`RelaxedSplitting`, and a ``ValueError`` in the same cases.
    """

    def __init__(self, penalty: float, *, start: int = 0, layers: Layers = None) -> None:
        _check("l1", penalty, 1.0, 1.0, start)
        self.penalty, self.start, self.layers = penalty, start, layers
        self.weights: dict[str, nn.Parameter] = {}

    def on_start(self, state: training.State) -> None:
        """Find the weights."""
        self.weights = _trained_weights(state, self.layers)

    def before_step(self, state: training.State) -> None:
        """Add the sub-gradient."""
        checks.instances(training.State, state=state)
        if state.epoch >= self.start:
            for name, w in self.weights.items():
                _gradient_of(name, w).add_(w.detach().sign(), alpha=self.penalty)


def _trained_weights(state: training.State, layers: Layers) -> dict[str, nn.Parameter]:
    checks.instances(training.State, state=state)
    weights = chosen_weights(state.model, layers)
    for name, weight in weights.items():
        if not weight.requires_grad or training.group_of(state.optimizer, weight) is None:
            raise ValueError(f"optimizer: the weight of {name!r} is in none of its groups")
    return weights


def _gradient_of(name: str, weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise ValueError(f"layers: the loss does not depend on the weight of {name!r}; leave it out")
    return weight.grad


def _check(regulariser: str, penalty: float, beta: float, a: float, start: int = 0) -> None:
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"start must be a whole number >= 0, got {checks.shown(start)}")
    checks.one_of(REGULARISERS, regulariser=regulariser)
    not_negative(penalty=penalty)
    positive(beta=beta, a=a)
    not_negative(**{"penalty / beta": penalty / beta})
