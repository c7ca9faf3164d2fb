"""What ``compress`` may be asked for, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.shrinking import sources
from compactvision.surgery import criteria
from compactvision.surgery.budget import refuse_share

RIVALS = ("random", "resolution", "whole_tuned", "bf16")
"""What the small network is compared with, the most telling first: where time is short, the last ones are left out."""

CRITERIA = ("taylor", "gradient", "l1", "l2", "batch_norm_scale", "random")
"""Importances that have a name; any other is a function, see :data:`compactvision.surgery.Importance`."""


def budget(keep_macs: Any, latency_ms: Any) -> tuple[str, float]:
    """Return name and value of the one budget."""
    if (keep_macs is None) == (latency_ms is None):
        raise ValueError(f"one of keep_macs and latency_ms is needed, got {keep_macs!r} and {latency_ms!r}")
    if keep_macs is not None:
        refuse_share("keep_macs", keep_macs)
        return "keep_macs", float(keep_macs)
    checks.finite(latency_ms=latency_ms)
    if latency_ms <= 0:
        raise ValueError(f"latency_ms must be positive, got {latency_ms}")
    return "latency_ms", float(latency_ms)


def check(model: Any, train: Any, test: Any, **given: Any) -> None:
    """Refuse wrong arguments of ``compress``, each by its name."""
    checks.materialised(model=model)
    sources.again(train_batches=train, test_batches=test)
    checks.functions(2, networks=True, loss=given["loss"])
    checks.functions(2, metric=given["metric"])
    checks.functions(1, optional=True, select=given["select"], say=given["say"])
    checks.whole(seed=given["seed"])
    if given["seed"] < 0:
        raise ValueError(f"seed must not be negative, got {given['seed']}")
    for name in ("minutes", "epochs"):
        if given[name] is not None:
            checks.finite(**{name: given[name]})
            if given[name] <= 0:
                raise ValueError(f"{name} must be positive, got {given[name]}")
    checks.finite(learning_rate=given["learning_rate"])
    if not 0 < given["learning_rate"] < torch.finfo(torch.float32).max:
        raise ValueError(f"learning_rate must be positive, got {given['learning_rate']}")
    rivals = given["rivals"]
    if isinstance(rivals, str) or not isinstance(rivals, Iterable):
        raise ValueError(f"rivals must be some of {', '.join(RIVALS)}, got {checks.shown(rivals)}")
    for rival in rivals:
        checks.one_of(RIVALS, rivals=rival)


def folder(journal: Any) -> Path | None:
    """Return the journal's folder."""
    if journal is None:
        return None
    if not isinstance(journal, (str, os.PathLike)) or "\0" in str(journal) or not str(journal):
        raise ValueError(f"journal must be the name of a folder, got {checks.shown(journal)}")
    path = Path(journal)
    try:
        in_the_way = path.exists() and not path.is_dir()
    except OSError as error:
        raise ValueError(f"journal: {str(path)[:60]!r} is no name of a folder ({error.strerror})") from None
    if in_the_way:
        raise ValueError(f"journal must be a folder, but {str(path)!r} is a file")
    return path


def importance_of(
    asked: Any, batches: list, loss: Callable, seed: int, device: torch.device
) -> tuple[str, Callable[[nn.Module], dict]]:
    """Return name and function of the importance that was asked for."""
    if asked is None:
        asked = "taylor"
    if callable(asked):
        checks.functions(1, importance=asked)
        return getattr(asked, "__name__", type(asked).__name__), asked
    checks.one_of(CRITERIA, importance=asked)
    if asked in ("taylor", "gradient"):
        other = next((targets for _, targets in batches if not isinstance(targets, Tensor)), None)
        if other is not None:
            raise ValueError(
                f"importance: {asked!r} needs targets that are tensors, and train_batches gives {checks.shown(other)}; "
                "take 'l1', or a function of your own"
            )
        moved = [(inputs.to(device), targets.to(device)) for inputs, targets in batches]
        return asked, getattr(criteria, asked)(moved, loss=loss)
    if asked == "random":
        return asked, criteria.random(torch.Generator().manual_seed(seed))
    return asked, getattr(criteria, asked)()
