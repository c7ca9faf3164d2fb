"""Training: one readable :func:`fit`, :func:`evaluate`, learning-rate schedules, checkpoints, callbacks."""

from . import schedules
from .evaluate import evaluate
from .fit import fit
from .history import History
from .losses import NonFiniteLoss
from .plane import plane_network
from .precision import fast_precision
from .schedules import Schedule
from .state import Callback, State, Stopped
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
    "plane_network",
    "renewed",
    "schedules",
    "tune",
]
