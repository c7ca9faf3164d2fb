"""Training: one readable :func:`fit`, :func:`evaluate`, learning-rate schedules, checkpoints, callbacks."""

from . import schedules
from .evaluate import evaluate
from .fit import fit
from .groups import no_decay, parameter_groups
from .history import History
from .losses import NonFiniteLoss
from .precision import fast_precision
from .schedules import Schedule
from .state import Callback, State, Stopped, group_of
from .tuning import renewed, tune

__all__ = [
    "Callback",
    "History",
    "NonFiniteLoss",
    "Schedule",
    "State",
    "Stopped",
    "evaluate",
    "fast_precision",
    "fit",
    "group_of",
    "no_decay",
    "parameter_groups",
    "renewed",
    "schedules",
    "tune",
]
