"""Valid calls of RARTS."""

import torch
from compactvision import models
from compactvision.models.cells import SuperNetwork
from compactvision.search import rarts

from .. import objects as o

TABLE = {(a, b): float(ord(a) + 2 * ord(b)) for a in "abc" for b in "abc"}
WORDS = list(TABLE)


def _tensor(value: float = 1.0) -> torch.Tensor:
    return torch.full((2,), value, requires_grad=True)


def _block(value: float = 1.0) -> rarts.Block:
    return rarts.Block.descent([_tensor(value)], 0.1)


def _loss(weights, alpha):
    return (weights[0] * alpha[0]).square().sum()


def _losses() -> dict[str, object]:
    return {"train": _loss, "valid": _loss}


def _single() -> dict[str, object]:
    return {"weights": _block(), "alpha": _block(2.0), **_losses()}


def _optimised() -> dict[str, object]:
    tensors = [_tensor()]
    return {"tensors": tensors, "optimizer": torch.optim.SGD(tensors, lr=0.1), "clip": 1.0}


def _network() -> SuperNetwork:
    return SuperNetwork([(0, 2), (1, 2)], ("skip_connect", "conv_1x1"), 2, 1, 4, stem=1, generator=o.seeded())


def _searched() -> dict[str, object]:
    options = {"passes": 4, "training_weight": 0.5, "coupling": 0.5, "shared": True, "generator": o.seeded()}
    return {"network": _network(), "train": o.batches(), "valid": o.batches(), "method": "rarts", **options}


def _widths() -> dict[str, object]:
    model = models.small_cnn(4, widths=(4, 6), generator=o.seeded())
    options = {"passes": 4, "penalty": 0.1, "layers": rarts.width.scale_names(model)[:1], "recipe": rarts.loop.Recipe()}
    return {"model": model, "train": o.batches(), "valid": o.batches(), **options}


def _signals() -> rarts.memoriser.Signals:
    return rarts.memoriser.signals(o.seeded(), count=4, length=9)


def _edge() -> dict[str, object]:
    options = {"steps": 2, "coupling": 0.5, "training_weight": 0.5, "rate": 0.05, "alpha_rate": 0.01}
    return {"given": _signals(), "method": "rarts", "generator": o.seeded(), **options}


R = "search.rarts."
SOLVABLE = f"{R}solvable."
POINT = (2.0, -2.0, -2.0)

CALLS = {
    f"{R}bench.best_so_far": lambda: {"visited": WORDS[:3], "scores": TABLE},
    f"{R}bench.expected_best": lambda: {"scores": TABLE, "truth": TABLE, "count": 2},
    f"{R}bench.local_search": lambda: {"scores": TABLE, "count": 3, "generator": o.seeded()},
    f"{R}bench.most_parameters": lambda: {"parameters": TABLE},
    f"{R}bench.random_search": lambda: {"scores": TABLE, "count": 3, "generator": o.seeded()},
    f"{R}bench.regret": lambda: {"choice": WORDS[0], "truth": TABLE},
    f"{R}loop.Recipe": lambda: {"rate": 0.1, "final_rate": 0.01, "momentum": 0.5, "alpha_betas": (0.5, 0.9)},
    f"{R}loop.Recipe.alpha": lambda: {"self": rarts.loop.Recipe(), "tensors": (_tensor(),)},
    f"{R}loop.Recipe.weights": lambda: {"self": rarts.loop.Recipe(), "tensors": (_tensor(),)},
    f"{R}loop.cosine": lambda: {"recipe": rarts.loop.Recipe(), "share": 0.5},
    f"{R}loop.endless": lambda: {"batches": o.batches(), "name": "train"},
    f"{R}loop.entropy": lambda: {"alpha": (o.normal(2, 3),)},
    f"{R}loop.search": _searched,
    f"{R}memoriser.filtered": lambda: {"x": o.normal(2, 9), "taps": o.normal(3)},
    f"{R}memoriser.first_weights": lambda: {"length": 9, "generator": o.seeded()},
    f"{R}memoriser.mixture": lambda: {
        "x": o.normal(2, 9), "weights": rarts.memoriser.first_weights(9, o.seeded()), "alpha": o.normal(5),
    },
    f"{R}memoriser.run": _edge,
    f"{R}memoriser.signals": lambda: {"generator": o.seeded(), "count": 4, "length": 9, "noise": 0.5},
    f"{SOLVABLE}Point": lambda: dict(zip(("alpha", "w", "y"), POINT, strict=True)),
    f"{SOLVABLE}darts_iterates": lambda: {"steps": 3, "unroll": 0.5, "rate": 0.01, "start": POINT},
    f"{SOLVABLE}darts_limit": lambda: {"unroll": 0.5},
    f"{SOLVABLE}determinant": lambda: {"training_weight": 1.0, "coupling": 2.0},
    f"{SOLVABLE}mixed_level_iterates": lambda: {"steps": 3, "training_weight": 1.0, "rate": 0.01, "start": POINT},
    f"{SOLVABLE}rarts_iterates": lambda: {
        "steps": 3, "training_weight": 1.0, "coupling": 2.0, "rate": 0.01, "order": "jacobi", "start": POINT,
    },
    f"{SOLVABLE}rarts_limit": lambda: {"training_weight": 3.0, "coupling": 2.0},
    f"{SOLVABLE}relaxed_loss": lambda: {"point": POINT, "training_weight": 1.0, "coupling": 2.0},
    f"{SOLVABLE}single_level_iterates": lambda: {"steps": 3, "training_weight": 1.0, "rate": 0.01, "start": POINT},
    f"{SOLVABLE}single_level_limit": lambda: {"training_weight": 3.0},
    f"{SOLVABLE}training_loss": lambda: {"w": 1.0, "alpha": 2.0},
    f"{SOLVABLE}validation_loss": lambda: {"w": 1.0, "alpha": 2.0},
    f"{R}block.Block": _optimised,
    f"{R}block.Block.descend": lambda: {"self": _block(), "gradients": [torch.ones(2)]},
    f"{R}block.Block.descent": lambda: {"tensors": [_tensor()], "rate": 0.1, "clip": 1.0},
    f"{R}steps.darts_": lambda: {**_single(), "second": True, "unroll": 0.1},
    f"{R}block.largest_coupling": lambda: {"rate": 0.1, "momentum": 0.9},
    f"{R}steps.mixed_level_": lambda: {**_single(), "training_weight": 0.5},
    f"{R}steps.rarts_": lambda: {
        **_single(), "twin": _block(), "training_weight": 0.5, "coupling": 0.5, "order": "jacobi",
    },
    f"{R}block.refuse_resonance": lambda: {"coupling": 1.0, "rate": 0.1, "momentum": 0.5},
    f"{R}steps.single_level_": lambda: {**_single(), "training_weight": 0.5, "order": "jacobi"},
    f"{R}width.scale_names": lambda: {"model": o.model()},
    f"{R}width.width_search": _widths,
}  # fmt: skip

AFTERWARDS = {f"{R}loop.endless": lambda found: next(found)}

FREE = {
    f"{SOLVABLE}Point": ("alpha", "w", "y"),  # a plain tuple; those who take one check it
    f"{SOLVABLE}training_loss": ("w", "alpha"),  # numbers, arrays or tensors
    f"{SOLVABLE}validation_loss": ("w", "alpha"),
    f"{SOLVABLE}relaxed_loss": ("point:of -1",),  # any point of the plane
    f"{R}loop.endless": ("name", "batches"),  # hands on whatever the series holds; those who take a batch check it
    f"{R}width.scale_names": ("model:of nan",),  # reads names only
    f"{R}bench.expected_best": ("truth:unknown key", "truth:of -1", "scores:of -1"),  # any numbers; may know more cells
    f"{R}bench.best_so_far": ("scores:unknown key", "scores:of -1"),
    f"{R}bench.most_parameters": ("parameters:unknown key", "parameters:of -1"),
    f"{R}bench.regret": ("truth:unknown key", "truth:of -1"),
    f"{R}bench.local_search": ("scores:of -1",),
    f"{R}bench.random_search": ("scores:unknown key", "scores:of -1"),
}
