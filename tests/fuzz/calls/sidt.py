"""Valid calls of the search of dimensions."""

import dataclasses

import torch
from compactvision import surgery
from compactvision.pruning import sidt
from compactvision.pruning.sidt.counts import SWINS, BlockShape
from compactvision.training import State, parameter_groups
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from .. import objects as o

S = "pruning.sidt."


def _swin() -> SwinTransformer:
    torch.manual_seed(0)
    return SwinTransformer([4, 4], 8, [2], [2], [2, 2], stochastic_depth_prob=0.0, num_classes=3).eval()


def _scores() -> dict[str, dict[str, Tensor]]:
    return {"a": {"qk": o.normal(2, 3), "hidden": o.normal(6)}, "b": {"qk": o.normal(2, 3), "hidden": o.normal(6)}}


def _keep() -> dict[str, dict[str, Tensor]]:
    return {"a": {"qk": torch.ones(2, 3).bool().tril(), "hidden": torch.arange(6) < 4}}


def _searching() -> dict[str, object]:
    scored: nn.Module = surgery.insert_scores(_swin())
    optimizer = torch.optim.SGD(parameter_groups(scored, sidt.score_rule(0.1)), lr=0.1)
    state = State(scored, optimizer, torch.device("cpu"), 1, 1)
    search = sidt.DimensionSearch(0.1)
    search.on_start(state)
    return {"self": search, "state": state}


def _block() -> BlockShape:
    return BlockShape.dense(8, 2, 4, 2)


def _naming() -> sidt.tasks.Task:
    return dataclasses.replace(sidt.tasks.TASKS["naming"], pictures=2, judged=2)


CALLS = {
    f"{S}counts.BlockShape.dense": lambda: {"width": 8, "heads": 2, "ratio": 4, "window": 2},
    f"{S}counts.BlockShape.of": lambda: {"block": surgery.find_blocks(_swin())["features.1.0"]},
    f"{S}counts.block_macs": lambda: {"shape": _block(), "tokens": (4, 6), "executed": True},
    f"{S}counts.block_parameters": lambda: {"shape": _block()},
    f"{S}counts.swin_macs": lambda: {"shape": SWINS["swin_t"], "size": (64, 64), "executed": True},
    f"{S}counts.swin_parameters": lambda: {"shape": SWINS["swin_t"]},
    f"{S}counts.uniform": lambda: {"shape": _block(), "head": 3, "hidden": 0.5, "inputs": 0.5},
    f"{S}rivals.weight_norms": lambda: {"model": _swin(), "kinds": ("qk", "mlp_input")},
    f"{S}search.DimensionSearch": lambda: {"penalty": {"qk": 0.1, "v": 0.2, "hidden": 0.3}},
    f"{S}search.DimensionSearch.on_start": _searching,
    f"{S}search.DimensionSearch.on_step": _searching,
    f"{S}search.score_rule": lambda: {"learning_rate": 0.1},
    f"{S}selection.random_of_same_widths": lambda: {"keep": _keep(), "generator": o.seeded()},
    f"{S}selection.random_scores": lambda: {"scores": _scores(), "generator": o.seeded()},
    f"{S}selection.same_widths": lambda: {"scores": {"a": _scores()["a"]}, "keep": _keep()},
    f"{S}selection.select": lambda: {"scores": _scores(), "rho": 0.4, "scope": "layer"},
    f"{S}tasks.Task.batches": lambda: {"self": _naming(), "pictures": _naming().load(True, 0), "seed": 0},
    f"{S}tasks.Task.load": lambda: {"self": _naming(), "train": True, "seed": 0, "n": 2},
    f"{S}tasks.Task.score": lambda: {
        "self": _naming(),
        "model": sidt.tasks.build("naming"),
        "pictures": _naming().load(False, 0),
    },
    f"{S}tasks.build": lambda: {"name": "naming", "generator": o.seeded()},
    f"{S}tasks.dense": lambda: {"name": "naming"},
    f"{S}tasks.dense_record": lambda: {"name": "naming"},
    f"{S}tasks.detector_on": lambda: {"swin": _swin(), "generator": o.seeded()},
}
AFTERWARDS = {}
FREE = {
    f"{S}counts.BlockShape.of": ("block:of nan",),
    f"{S}rivals.weight_norms": ("model:of nan",),
    f"{S}selection.random_scores": ("scores:of nan",),
    f"{S}tasks.Task.batches": ("seed:-1",),
    f"{S}tasks.Task.load": ("seed:-1",),
    f"{S}tasks.detector_on": ("swin:of nan", "swin:meta"),
}
