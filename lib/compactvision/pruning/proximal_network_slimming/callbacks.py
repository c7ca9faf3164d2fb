"""Network slimming and its proximal form as callbacks of training, each ending in an importance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision.surgery import criteria
from compactvision.training import State, group_of

from .steps import check_settings, proximal_step, scales


class ProximalSlimming:
    """Callback of ``training.fit`` that takes the steps of Eq. (3) behind each step of the optimiser.

    What is minimised over the weights, ``gamma`` and ``xi`` is, Eq. (2),
    ``loss + penalty ||xi||_1 + beta / 2 ||gamma - xi||^2``. The inverse step size follows the learning rate of the
    parameter group that a scale is in, also when a schedule changes it. The copies are part of a checkpoint.

    Parameters
    ----------
    penalty : float
        Weight of the l1 norm, not negative. With momentum ``m`` its effect is that of ``(1 - m) penalty`` in an
        ordinary l1 problem, Eq. (4).
    beta : float, default 100
        Strength of the tie, not negative.
    generator : torch.Generator, optional
        Source of the first copies, uniform in [0.47, 0.53]; by default one with seed 0.

    Attributes
    ----------
    gamma, xi : dict of str to Tensor
        Scales and copies (C,) of each BatchNorm by its name, empty before training.

    Raises
    ------
    ValueError
        If a number is out of its range; at the start of training: if the model has no BatchNorm with scales, or the
        optimiser does not train one of them.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, surgery, training
    >>> from compactvision.pruning import proximal_network_slimming as slim
    >>> model = models.small_cnn(4, widths=(6, 8), generator=torch.Generator().manual_seed(1))
    >>> slim.steps.reset_batch_norm_(model)
    >>> noise = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    >>> slimming = slim.ProximalSlimming(slim.steps.needed_penalty(16, learning_rate=0.1, beta=100.0))
    >>> _ = training.fit(
    ...     model,
    ...     [(noise, torch.arange(16) % 4)] * 16,
    ...     epochs=1,
    ...     optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    ...     callbacks=[slimming],
    ...     progress=False,
    ... )
    >>> graph = slim.behind_scales(surgery.channel_graph(model, (3, 8, 8)))
    >>> plan = surgery.make_plan(graph, slimming.importance, keep_above=0.0)
    >>> sum(plan.widths.values()) == 14 - slimming.zeros()["copies"] < 14
    True
    """

    def __init__(self, penalty: float, beta: float = 100.0, *, generator: torch.Generator | None = None) -> None:
        check_settings(beta, penalty)
        self.penalty, self.beta = penalty, beta
        self.generator = generator or torch.Generator().manual_seed(0)
        self.xi: dict[str, Tensor] = {}
        self.gamma: dict[str, nn.Parameter] = {}

    def on_start(self, state: State) -> None:
        """Find the scales and make their copies."""
        self.gamma, self.xi = dict(scales(state.model)), {}
        for name, gamma in self.gamma.items():
            if group_of(state.optimizer, gamma) is None:
                raise ValueError(f"optimizer: the scale of {name!r} is in none of its groups")
            uniform = torch.rand(gamma.shape, generator=self.generator, device=self.generator.device)
            self.xi[name] = (0.47 + 0.06 * uniform).to(gamma)

    def on_step(self, state: State) -> None:
        """Take one proximal step with the learning rate of this moment."""
        with torch.no_grad():
            for name, gamma in self.gamma.items():
                learning_rate = float(group_of(state.optimizer, gamma)["lr"])
                if learning_rate == 0:  # alpha is infinite: nothing moves
                    continue
                alpha = 1 / learning_rate
                moved, self.xi[name] = proximal_step(gamma, self.xi[name], alpha, self.beta, self.penalty)
                gamma.copy_(moved)

    def importance(self, model: nn.Module, *, mask: str = "copies") -> dict[str, Tensor]:
        """Return a score of each channel (C,) by layer, an importance for ``make_plan(..., keep_above=0.0)``.

        Parameters
        ----------
        model : nn.Module
            The trained network, or a copy of it.
        mask : {"copies", "official"}, default "copies"
            "copies": ``|xi|`` where it is not 0. Where it is, a negative number that is higher for larger ``|gamma|``,
            so that the best channel of a layer that would be emptied is the one with the largest scale. "official": as
            the published code, which looks at the scales and removes those equal to the smallest one of the network;
            where training left no exact zero among them, that is a single channel.

        Raises
        ------
        ValueError
            If ``mask`` is unknown, training has not started, or the scales of the model are not those of the copies.
        """
        if mask not in ("copies", "official"):
            raise ValueError(f'mask must be "copies" or "official", got {mask!r}')
        self._refuse_unstarted()
        size = {name: gamma.detach().abs() for name, gamma in scales(model)}
        widths, trained = ({name: len(each) for name, each in part.items()} for part in (size, self.xi))
        if widths != trained:
            raise ValueError(f"model: its scales by layer are {widths}, those of the training were {trained}")
        if mask == "official":
            smallest = min(float(each.min()) for each in size.values())
            return {name: each - smallest for name, each in size.items()}
        return {
            name: torch.where(xi != 0, xi.abs(), -1 / (1 + size[name].to(xi.device))) for name, xi in self.xi.items()
        }

    def zeros(self) -> dict[str, int]:
        """Count channels, scales and copies that are exactly 0, and scales below 1e-6.

        Raises
        ------
        ValueError
            If training has not started.
        """
        self._refuse_unstarted()
        gamma = torch.cat([each.detach().abs().flatten().cpu() for each in self.gamma.values()])
        copies = torch.cat([each.flatten().cpu() for each in self.xi.values()])
        return {
            "channels": gamma.numel(),
            "copies": int((copies == 0).sum()),
            "scales": int((gamma == 0).sum()),
            "tiny scales": int((gamma < 1e-6).sum()),
        }

    def objective(self, loss: float) -> float:
        """Return Eq. (2): a loss, the penalty of the copies and the tie.

        Raises
        ------
        ValueError
            If training has not started.
        """
        self._refuse_unstarted()
        norm = sum(float(xi.abs().sum()) for xi in self.xi.values())
        distance = sum(float((self.gamma[name].detach() - xi).square().sum()) for name, xi in self.xi.items())
        return loss + self.penalty * norm + self.beta / 2 * distance

    def state_dict(self) -> dict[str, Tensor]:
        """Return the copies, for a checkpoint."""
        return dict(self.xi)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the copies of a checkpoint; ``ValueError`` if they are those of other scales."""
        if state.keys() != self.xi.keys():
            raise ValueError(f"state: copies of {sorted(state)} do not fit the scales of {sorted(self.xi)}")
        self.xi = {name: state[name].to(self.gamma[name]) for name in self.xi}

    def _refuse_unstarted(self) -> None:
        if not self.xi:
            raise ValueError("slimming: training has not started, so there are no scales and copies yet")


class NetworkSlimming:
    """Callback of ``training.fit`` for network slimming as it was: the sub-gradient of Eq. (1) in every step.

    Parameters
    ----------
    penalty : float
        Weight of the l1 norm of the scales, not negative.

    Raises
    ------
    ValueError
        If ``penalty`` is negative or not finite; at the first step: if the model has no BatchNorm with scales.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> from compactvision.pruning.proximal_network_slimming import NetworkSlimming
    >>> slimming = NetworkSlimming(penalty=1e-4)  # in the callbacks of training.fit
    >>> graph = surgery.channel_graph(models.small_cnn(4, widths=(6, 8)), (3, 8, 8))
    >>> surgery.make_plan(graph, slimming.importance, keep_count=8, global_pruning=True).widths
    {'features.0': 1, 'features.4': 7}
    """

    def __init__(self, penalty: float) -> None:
        check_settings(0.0, penalty)
        self.penalty = penalty

    def before_step(self, state: State) -> None:
        """Add the sub-gradient to the gradients."""
        for _, gamma in scales(state.model):
            if gamma.grad is not None:
                gamma.grad.add_(gamma.detach().sign(), alpha=self.penalty)

    def importance(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the absolute scale of each channel (C,) by layer, as ``surgery.criteria.batch_norm_scale()`` does."""
        return criteria.batch_norm_scale()(model)
