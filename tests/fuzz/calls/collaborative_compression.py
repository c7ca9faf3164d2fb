"""Valid calls of collaborative compression and of its layer."""

import torch
from compactvision import surgery
from compactvision.factorization import collaborative_compression as cc
from compactvision.models.factorised import SVDConv2d

from .. import objects as o

SHAPE = (4, 3, 3, 3)


def _graph() -> surgery.ChannelGraph:
    return surgery.channel_graph(o.model(), o.SHAPE, residual="gather")


def _kernel() -> dict[str, torch.Tensor]:
    return {"kernel": o.normal(*SHAPE), "gradient": o.uniform(*SHAPE)}


def _working() -> cc.units.Working:
    return cc.units.Working(**_kernel())


def _path() -> cc.steps.Path:
    return cc.removal_path(**_kernel())


def _paths(graph: surgery.ChannelGraph) -> dict[str, cc.steps.Path]:
    return {name: cc.removal_path(kernel, kernel) for name, kernel in cc.gradients.kernels(graph).items()}


def _made(graph: surgery.ChannelGraph) -> cc.plans.Compression:
    return cc.plans.at_rates(graph, _paths(graph), {"features.4": 0.5})


def _curve() -> cc.rates.Sensitivity:
    return cc.rates.Sensitivity(0.01, 5)


def _at():
    graph = _graph()
    paths = _paths(graph)
    return lambda rate: cc.plans.at_rates(graph, paths, {"features.4": rate})


def _moments() -> torch.Tensor:
    rows = o.normal(27, 60)
    return rows @ rows.T / 60


def _part() -> cc.regression.Regression:
    return cc.regression.regression(o.normal(*SHAPE), _moments())


def _search() -> cc.scanning.Search:
    return cc.scanning.Search.of(o.normal(*SHAPE), _moments())


def _compressed() -> dict[str, object]:
    graph = _graph()
    return {"model": graph.model, "made": _made(graph)}


def _refitted() -> dict[str, object]:
    given = _compressed()
    moments = cc.second_moments(given["made"].plan.graph, [o.inputs()])
    return {"small": cc.compress(**given), "made": given["made"], "moments": moments}


def _scanned() -> dict[str, object]:
    graph = _graph()
    return {"graph": graph, "moments": cc.second_moments(graph, [o.inputs()]), "keep_macs": 0.8}


def _layer() -> SVDConv2d:
    return SVDConv2d(3, 4, 3, 2, generator=o.seeded())


CC = "factorization.collaborative_compression."
SVD = "models.factorised.svd_layers.SVDConv2d"

CALLS = {
    f"{CC}costs.break_even_rank": lambda: {"shape": SHAPE},
    f"{CC}costs.iso_macs": lambda: {"shape": SHAPE, "rate": 0.5},
    f"{CC}costs.largest_rank": lambda: {"shape": SHAPE, "channels": 2},
    f"{CC}costs.rank_for": lambda: {"shape": SHAPE, "channels": 2, "rate": 0.5},
    f"{CC}costs.saved": lambda: {"shape": SHAPE, "channels": 2, "rank": 2},
    f"{CC}costs.weights": lambda: {"shape": SHAPE, "channels": 2, "rank": 2},
    f"{CC}gradients.kernel_gradients": lambda: {"graph": _graph(), "batches": o.batches()},
    f"{CC}gradients.kernels": lambda: {"graph": _graph()},
    f"{CC}network.collaborate": lambda: {"graph": _graph(), "batches": o.batches(), "keep_macs": 0.8},
    f"{CC}network.compress": _compressed,
    f"{CC}plans.at_budget": lambda: {"at": _at(), "keep_macs": 0.9},
    f"{CC}plans.at_rates": lambda: {"graph": _graph(), "paths": _paths(_graph()), "rates": {"features.4": 0.5}},
    f"{CC}plans.compression": lambda: {"graph": _graph(), "choices": {"features.4": cc.costs.Choice((0, 2), 2)}},
    f"{CC}rates.Sensitivity.rate": lambda: {"self": _curve(), "log_slope": 0.1},
    f"{CC}rates.Sensitivity.slope": lambda: {"self": _curve(), "rate": 0.5},
    f"{CC}rates.bracketed": lambda: {"reached": lambda x: x >= 0.3, "ends": [0.0, 1.0]},
    f"{CC}rates.fitted": lambda: {"points": [(0.1, 0.2), (0.5, 0.4), (0.9, 1.0)]},
    f"{CC}rates.global_rates": lambda: {"curves": {"a": _curve()}, "macs": {"a": 3}, "target": 1.5},
    f"{CC}rates.sensitivity": _kernel,
    f"{CC}rates.two_rates": lambda: {
        "layers": {"a": (100, 6400), "b": (400, 6400)}, "early": ["a"], "parameters": 260, "macs": 7040,
    },
    f"{CC}regression.Regression.errors": lambda: {"self": _part(), "counts": [1, 3]},
    f"{CC}regression.Regression.kernel": lambda: {"self": _part(), "channels": 2, "rank": 2},
    f"{CC}scanning.Search.choice": lambda: {"self": _search(), "rate": 0.5},
    f"{CC}scanning.Search.error": lambda: {"self": _search(), "channels": 2, "rank": 2},
    f"{CC}scanning.Search.of": lambda: {"kernel": o.normal(*SHAPE), "moments": _moments()},
    f"{CC}scanning.refit": _refitted,
    f"{CC}regression.regression": lambda: {"kernel": o.normal(*SHAPE), "moments": _moments(), "order": [2, 0, 1]},
    f"{CC}scanning.scan": _scanned,
    f"{CC}regression.second_moments": lambda: {"graph": _graph(), "batches": o.batches()},
    f"{CC}steps.Path.choice": lambda: {"self": _path(), "rate": 0.4},
    f"{CC}steps.Path.saved_after": lambda: {"self": _path(), "count": 1},
    f"{CC}steps.removal_path": _kernel,
    f"{CC}units.Working": _kernel,
    f"{CC}units.Working.importances": lambda: {"self": _working(), "gamma": 0.9},
    f"{CC}units.Working.remove_channel": lambda: {"self": _working(), "channel": 1},
    f"{CC}units.Working.remove_value": lambda: {"self": _working(), "index": 1},
    f"{CC}units.information_loss": lambda: {**_kernel(), "changed": o.normal(*SHAPE)},
    SVD: lambda: {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "ranks": 2, "generator": o.seeded()},
    f"{SVD}.forward": lambda: {"self": _layer(), "x": o.inputs()},
    f"{SVD}.set_kernel_": lambda: {"self": _layer(), "kernel": o.normal(*SHAPE)},
}  # fmt: skip

AFTERWARDS = {}

FREE = {
    f"{CC}rates.Sensitivity.rate": ("log_slope",),
    f"{CC}rates.bracketed": ("ends:of -1",),
    f"{CC}rates.two_rates": ("layers:unknown key",),  # one more layer
    f"{CC}plans.at_rates": ("rates:empty", "paths:unknown key"),  # nothing is asked for, and no path is needed
    f"{CC}scanning.refit": ("small:of nan", "moments:unknown key"),  # weights are replaced; more layers may be there
    f"{CC}scanning.scan": ("moments:unknown key",),
    f"{CC}regression.second_moments": (  # labels are not looked at
        "batches:targets of two dimensions", "batches:targets out of range", "batches:without targets",
        "batches:triples", "batches:fewer targets", "batches:targets as floats", "batches:negative targets",
    ),
}  # fmt: skip
