"""Parameter groups by rule: which parameters get which options of the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from compactvision import _checks as checks

Rule = Callable[[str, Tensor], Mapping[str, Any] | None]


def no_decay(name: str, parameter: Tensor) -> dict[str, float]:
    """Rule: no weight decay for biases and for scales and shifts of normalisations, one-dimensional as they are.

    The "no bias decay" of He et al., Bag of tricks for image classification (2019).

    Examples
    --------
    >>> import torch
    >>> from compactvision import training
    >>> training.no_decay("bn1.weight", torch.ones(16)), training.no_decay("conv1.weight", torch.ones(16, 3, 3, 3))
    ({'weight_decay': 0.0}, {})
    """
    checks.texts(name=name)
    checks.instances(Tensor, parameter=parameter)
    return {"weight_decay": 0.0} if parameter.ndim <= 1 or name.endswith(".bias") else {}


def parameter_groups(model: nn.Module, rule: Rule = no_decay) -> list[dict[str, Any]]:
    """Return groups of a model's parameters, for any optimiser of ``torch.optim``.

    Parameters
    ----------
    model : Module
        Each parameter gets into one group at most; the order within a group is the model's.
    rule : callable (name, parameter) -> dict or None, default :func:`no_decay`
        Options that differ from the optimiser's own, such as ``{"lr": 0.01}``; parameters with equal ones are a group.
        None leaves a parameter out, so that it is not trained.

    Returns
    -------
    list of dict
        ``"params"`` and the options.

    Raises
    ------
    ValueError
        If `model` is no module, the rule gives anything else, or it leaves out every parameter.

    Examples
    --------
    >>> import torch
    >>> from compactvision import models, training
    >>> model = models.small_cnn(10, (4, 8))
    >>> groups = training.parameter_groups(model)
    >>> [(len(group["params"]), group.get("weight_decay")) for group in groups]
    [(3, None), (5, 0.0)]
    >>> sgd = torch.optim.SGD(groups, lr=0.1, weight_decay=5e-4)
    >>> slow = lambda name, parameter: {"lr": 0.01} if name.startswith("features") else {}
    >>> [group.get("lr") for group in training.parameter_groups(model, slow)]
    [0.01, None]
    """
    checks.networks(model=model)
    checks.functions(2, rule=rule)
    groups: list[dict[str, Any]] = []
    for name, parameter in model.named_parameters():
        options = rule(name, parameter)
        if options is None:
            continue
        if not isinstance(options, Mapping) or "params" in options:
            raise ValueError(f"rule must give a dict of options or None, got {options!r} for {name!r}")
        same = (g for g in groups if {key: value for key, value in g.items() if key != "params"} == dict(options))
        group = next(same, None)
        if group is None:
            groups.append(group := {"params": [], **options})
        group["params"].append(parameter)
    if not groups:
        raise ValueError("rule leaves no parameter of the model to train")
    return groups
