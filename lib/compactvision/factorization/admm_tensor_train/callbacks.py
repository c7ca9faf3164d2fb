"""Training towards a format: ADMM, and its plain rival, the projection of the weights themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.training import State, group_of

from .formats import Format, distances, known, weights


class ADMM:
    """Callback of ``training.fit`` that draws kernels towards a format by ADMM, Eq. (3) to (5).

    Each kernel ``W`` has a copy ``Z`` in the format and a scaled dual ``U``. At the start of every epoch
    ``Z = P(W + U)``, then ``U = U + W - Z``; every step adds ``rho (W - Z + U)`` to the gradient. Copies and duals are
    part of a checkpoint. Each row of the history gets ``primal``, ``|W - Z| / |W|``, and ``dual``,
    ``rho |Z - Z_before| / |W|``, of that epoch's update, over all kernels together.

    Parameters
    ----------
    formats : mapping of str to Format
        By the layer's name.
    rho : float, default 0.001
        Penalty, positive. What it does depends on learning rate and steps, see :func:`needed_rho`.

    Attributes
    ----------
    copies, duals : dict of str to Tensor
        ``Z`` and ``U`` by layer, empty before training.
    projections : int
        Projections of a kernel so far, the one before training included.

    Raises
    ------
    ValueError
        If ``rho`` is not positive; at the start of training: if a name is unknown, stands for no convolution or linear
        layer, or the optimiser does not train its weight.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, training
    >>> from compactvision.factorization.admm_tensor_train import ADMM, TensorTrain, decompose
    >>> model = models.small_cnn(4, widths=(6, 8), generator=torch.Generator().manual_seed(1))
    >>> formats = {"features.4": TensorTrain((4, 3))}
    >>> noise = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    >>> history = training.fit(
    ...     model,
    ...     [(noise, torch.arange(16) % 4)] * 8,
    ...     epochs=4,
    ...     optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    ...     callbacks=[ADMM(formats, rho=3.0)],
    ...     progress=False,
    ... )
    >>> history[-1]["primal"] < 0.5 * history[0]["primal"]
    True
    >>> decompose(model, formats).features[4].ranks
    (4, 3)
    """

    def __init__(self, formats: Mapping[str, Format], rho: float = 0.001) -> None:
        checks.numbers(rho=rho)
        if not 0 < rho < math.inf:
            raise ValueError(f"rho must be positive and finite, got {rho}")
        self.formats, self.rho = known(formats), rho
        self.weights: dict[str, nn.Parameter] = {}
        self.copies: dict[str, Tensor] = {}
        self.duals: dict[str, Tensor] = {}
        self.updates = self.projections = 0
        self.residuals = {"primal": math.nan, "dual": math.nan}

    def on_start(self, state: State) -> None:
        """Find the kernels; their first copies are their projections, the duals 0."""
        self.weights = trained_weights(state, self.formats)
        self.duals = {name: torch.zeros_like(_plain(weight)) for name, weight in self.weights.items()}
        self.copies = {name: self.formats[name].project(_plain(weight)) for name, weight in self.weights.items()}
        self.updates, self.projections = 0, len(self.weights)

    @torch.no_grad()
    def before_step(self, state: State) -> None:
        """Renew copies and duals in the first step of an epoch; add the penalty's gradient."""
        checks.instances(State, state=state)
        if self.updates == state.epoch:
            self._update()
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.add_(weight - self.copies[name] + self.duals[name], alpha=self.rho)

    def _update(self) -> None:
        primal = dual = size = 0.0
        for name, weight in self.weights.items():
            kernel, before = _plain(weight), self.copies[name]
            self.copies[name] = self.formats[name].project(kernel + self.duals[name])
            self.duals[name] = self.duals[name] + kernel - self.copies[name]
            primal += float((kernel - self.copies[name]).square().sum())
            dual += float((self.copies[name] - before).square().sum())
            size += float(kernel.square().sum())
        size = max(size, torch.finfo(torch.float32).tiny)
        self.residuals = {"primal": math.sqrt(primal / size), "dual": self.rho * math.sqrt(dual / size)}
        self.updates += 1
        self.projections += len(self.weights)

    def on_epoch(self, state: State) -> None:
        """Enter the residuals into the history."""
        checks.instances(State, state=state)
        state.history.rows[-1].update(self.residuals)

    def penalty(self) -> float:
        """Return ``rho / 2 (|W - Z + U|^2 - |U|^2)`` over all kernels, what is added to the loss.

        Raises
        ------
        ValueError
            If training has not started.
        """
        if not self.weights:
            raise ValueError("admm: training has not started, so there are no copies and duals yet")
        with torch.no_grad():
            pulls = sum(
                float((weight - self.copies[name] + self.duals[name]).square().sum() - self.duals[name].square().sum())
                for name, weight in self.weights.items()
            )
        return self.rho / 2 * pulls

    def state_dict(self) -> dict:
        """Return copies, duals and counts, for a checkpoint."""
        counts = {"updates": self.updates, "projections": self.projections}
        return {"copies": self.copies, "duals": self.duals, "residuals": self.residuals, **counts}

    def load_state_dict(self, state: dict) -> None:
        """Take over the state of a checkpoint; ``ValueError`` if it is that of other layers."""
        checks.mappings(state=state)
        missing = sorted({"copies", "duals", "residuals", "updates", "projections"} - set(state))
        if missing:
            raise ValueError(f"state: {missing[0]!r} is missing")
        checks.mappings(**{f"state[{name!r}]": state[name] for name in ("copies", "duals", "residuals")})
        if state["copies"].keys() != self.weights.keys():
            raise ValueError(f"state: copies of {sorted(state['copies'])} do not fit the layers {sorted(self.weights)}")
        for mine, stored in ((self.copies, state["copies"]), (self.duals, state["duals"])):
            mine.update({name: stored[name].to(weight) for name, weight in self.weights.items()})
        self.updates, self.projections = state["updates"], state["projections"]
        self.residuals = dict(state["residuals"])


class Projected:
    """Callback of ``training.fit`` that projects kernels on a format, with no penalty: projected gradient descent.

    Parameters
    ----------
    formats : mapping of str to Format
        By the layer's name.
    every : {"step", "epoch"}, default "step"
        Behind each step of the optimiser, or behind the last step of each epoch.

    Attributes
    ----------
    projections : int
        Projections of a kernel so far.

    Raises
    ------
    ValueError
        If ``every`` is unknown; at the start of training: as for :class:`ADMM`, or if the end of an epoch cannot be
        seen because the batches have no length.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, training
    >>> from compactvision.factorization.admm_tensor_train import Projected, TensorTrain, formats
    >>> model = models.small_cnn(4, widths=(6, 8))
    >>> trains = {"features.4": TensorTrain((4, 3))}
    >>> images = [(torch.randn(8, 3, 8, 8), torch.arange(8) % 4)]
    >>> _ = training.fit(model, images, epochs=1, callbacks=[Projected(trains)], progress=False)
    >>> formats.distances(model, trains)["features.4"] < 1e-5
    True
    """

    def __init__(self, formats: Mapping[str, Format], every: str = "step") -> None:
        if not isinstance(every, str) or every not in ("step", "epoch"):
            raise ValueError(f'every must be "step" or "epoch", got {every!r}')
        self.formats, self.every = known(formats), every
        self.weights: dict[str, nn.Parameter] = {}
        self.projections = 0

    def on_start(self, state: State) -> None:
        """Find the kernels."""
        checks.instances(State, state=state)
        if self.every == "epoch" and state.steps_per_epoch is None:
            raise ValueError('every must be "step" where the batches have no length, got "epoch"')
        self.weights, self.projections = trained_weights(state, self.formats), 0

    @torch.no_grad()
    def on_step(self, state: State) -> None:
        """Project."""
        checks.instances(State, state=state)
        if self.every == "step" or state.batch == state.steps_per_epoch:
            for name, weight in self.weights.items():
                weight.copy_(self.formats[name].project(_plain(weight)))
            self.projections += len(self.weights)

    def state_dict(self) -> dict:
        """Return the count, for a checkpoint."""
        return {"projections": self.projections}

    def load_state_dict(self, state: dict) -> None:
        """Take over the count of a checkpoint; ``ValueError`` if it has none."""
        checks.mappings(state=state)
        checks.whole(**{"state['projections']": state.get("projections")})
        if state["projections"] < 0:
            raise ValueError(f"state: projections must be at least 0, got {state['projections']}")
        self.projections = state["projections"]


class Distances:
    """Callback of ``training.fit`` that enters ``distance.<layer>`` and their mean, ``distance``, into each row.

    See :func:`~compactvision.factorization.admm_tensor_train.formats.distances`; nothing is changed.

    Parameters
    ----------
    formats : mapping of str to Format
        By the layer's name.
    """

    def __init__(self, formats: Mapping[str, Format]) -> None:
        self.formats = known(formats)

    def on_epoch(self, state: State) -> None:
        """Measure."""
        checks.instances(State, state=state)
        found = distances(state.model, self.formats)
        row = {f"distance.{name}": value for name, value in found.items()}
        state.history.rows[-1].update({"distance": sum(found.values()) / len(found), **row})


def needed_rho(steps: int, learning_rate: float, momentum: float = 0.9, exponent: float = 10.0) -> float:
    """Return the penalty under which a pull that nothing resists shrinks ``|W - Z|`` to ``exp(-exponent)``, Eq. (6).

    With momentum ``m`` a step moves by ``learning_rate / (1 - m)`` times the gradient in the long run, so the distance
    falls as ``exp(-rho learning_rate / (1 - m) steps)``. In a short training the paper's 0.001 does nothing. Where
    ``rho learning_rate`` exceeds ``(1 - sqrt(m))^2`` weights swing through their goal, and a larger penalty brings them
    there no faster: the distance falls by ``sqrt(m)`` a step.

    Parameters
    ----------
    steps : int
        Steps of the optimiser, at least 1.
    learning_rate : float
        Mean over those steps, positive.
    momentum : float, default 0.9
        In [0, 1).
    exponent : float, default 10
        Positive; 5 to 40 are sensible.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from compactvision.factorization.admm_tensor_train import callbacks
    >>> round(callbacks.needed_rho(200 * 390, learning_rate=0.05, exponent=39), 6)
    0.001
    """
    checks.whole(steps=steps)
    checks.numbers(learning_rate=learning_rate, momentum=momentum, exponent=exponent)
    if steps < 1 or not 0 < learning_rate < math.inf or not 0 <= momentum < 1 or not 0 < exponent < math.inf:
        raise ValueError(
            "steps must be at least 1, learning_rate and exponent positive, momentum in [0, 1), "
            f"got {steps}, {learning_rate}, {exponent} and {momentum}"
        )
    return exponent * (1 - momentum) / (learning_rate * steps)


def trained_weights(state: State, formats: Mapping[str, Format]) -> dict[str, nn.Parameter]:
    """Return the named weights; ``ValueError`` where the optimiser of the run does not train one of them."""
    checks.instances(State, state=state)
    found = weights(state.model, formats)
    for name, weight in found.items():
        if group_of(state.optimizer, weight) is None:
            raise ValueError(f"optimizer: the weight of {name!r} is in none of its groups")
    return found


def _plain(weight: nn.Parameter) -> Tensor:
    return weight.detach().contiguous()  # training may hold it in channels-last order
