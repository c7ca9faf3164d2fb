"""Valid calls of cells, of the bench of small ones, and of NAT++."""

import torch
from compactvision.models.cells import Edge, Genotype, SuperNetwork
from compactvision.search import nat_plus_plus as nat
from compactvision.search import small_cells

from .. import objects as o

PLACES = ((0, 2), (1, 2))
OPS = ("none", "skip_connect", "conv_1x1")
NAT = "search.nat_plus_plus."
CELLS = "models.cells."
CHOICE = ("conv_3x3", "none", "skip_connect", "conv_1x1")


def _edges() -> tuple[Edge, ...]:
    return (Edge("conv_1x1", 0, 2), Edge("skip_connect", 1, 2))


def _pair() -> tuple[tuple[Edge, ...], tuple[Edge, ...]]:
    return _edges(), _edges()[::-1]


def _genotype() -> Genotype:
    return Genotype(*_pair())


def _network() -> SuperNetwork:
    return SuperNetwork(PLACES, OPS, channels=2, cells=1, num_classes=4, stem=1, generator=o.seeded())


def _policy(operations: tuple[str, ...] = OPS) -> nat.GraphPolicy:
    return nat.GraphPolicy(operations, embedding=2, features=3, hidden=3, generator=o.seeded())


def _sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def _rows() -> dict[str, torch.Tensor]:
    mask = torch.tensor([[[True, True, False], [False, True, True]]])
    return {"logits": o.normal(1, 2, 3), "mask": mask}


def _world() -> nat.toy.Toy:
    return nat.toy.toy(0)


def _numbers() -> torch.Tensor:
    return torch.tensor([[9, 4, 0, 12], [10, 11, 5, 9]])


def _value(_: object) -> float:
    return 0.5


def _phase(policy: bool) -> dict[str, object]:
    network, actor = _network(), _policy()
    shared = {"network": network, "batches": o.batches(), "source": _pair}
    if not policy:
        return {**shared, "optimizer": _sgd(network)}
    more = {"baseline": nat.MovingBaseline(), "generator": o.seeded()}
    return {**shared, "policy": actor, "optimizer": _sgd(actor), **more}


def _training() -> dict[str, object]:
    world = _world()
    return {
        "policy": _policy(nat.policy.NAT_OPERATIONS),
        "reward": world.reward,
        "masks": world.masks,
        "sources": lambda count: _numbers()[:1].expand(count, -1),
        "places": nat.toy.PLACES,
        "recipe": nat.training.Recipe(steps=1, batch=2, draws=2),
        "generator": o.seeded(),
    }


def _built() -> dict[str, object]:
    return {"channels": 4, "cells": 1, "num_classes": 4, "stem": 1, "generator": o.seeded()}


CALLS = {
    f"{CELLS}costs.cost": lambda: {"name": "conv_3x3", "channels": 4, "size": 8, "stride": 2},
    f"{CELLS}drawing.cell_svg": lambda: {"edges": _edges(), "outputs": (2,), "title": "A cell"},
    f"{CELLS}drawing.colour": lambda: {"name": "conv_3x3"},
    f"{CELLS}drawing.short_name": lambda: {"name": "conv_3x3"},
    f"{CELLS}genotype.Genotype": lambda: {"normal": _edges(), "reduction": _edges(), "outputs": (2,)},
    f"{CELLS}genotype.Genotype.cell": lambda: {"self": _genotype(), "reduction": True},
    f"{CELLS}genotype.dense_edges": lambda: {"nodes": 3},
    f"{CELLS}genotype.discretise": lambda: {
        "alpha": o.normal(2, 3), "edges": PLACES, "operations": OPS, "incoming": 1,
    },
    f"{CELLS}genotype.replaced": lambda: {"edges": _edges(), "operations": {0: "none"}},
    f"{CELLS}network.CellNetwork": lambda: {"genotype": _genotype(), **_built()},
    f"{CELLS}network.CellNetwork.forward": lambda: {"self": small_cells.network(CHOICE), "x": o.inputs()},
    f"{CELLS}network.SuperNetwork": lambda: {"places": PLACES, "operations": OPS, **_built()},
    f"{CELLS}network.SuperNetwork.forward": lambda: {
        "self": _network(), "x": o.inputs(), "normal": _edges(), "reduction": o.uniform(2, 3),
    },
    f"{CELLS}operations.operation": lambda: {"name": "conv_3x3", "channels": 4, "stride": 2, "affine": False},
    "search.small_cells.canonical": lambda: {"choice": CHOICE},
    "search.small_cells.genotype": lambda: {"choice": CHOICE},
    "search.small_cells.key": lambda: {"choice": CHOICE},
    "search.small_cells.network": lambda: {"choice": CHOICE, "generator": o.seeded()},
    f"{NAT}controls.best_of": lambda: {"cells": [_edges(), _edges()[::-1]], "value": _value},
    f"{NAT}controls.best_random": lambda: {
        "edges": _edges(), "value": _value, "evaluations": 2, "operations": OPS, "generator": o.seeded(),
    },
    f"{NAT}controls.greedy_edits": lambda: {
        "edges": _edges(), "value": _value, "evaluations": 2, "operations": OPS, "generator": o.seeded(),
    },
    f"{NAT}controls.random_cell": lambda: {"edges": _edges(), "operations": OPS, "generator": o.seeded()},
    f"{NAT}learning.MovingBaseline": lambda: {"decay": 0.9},
    f"{NAT}learning.MovingBaseline.update": lambda: {"self": nat.MovingBaseline(), "reward": 0.5},
    f"{NAT}learning.log_likelihood": lambda: {**_rows(), "actions": torch.tensor([[0, 2]])},
    f"{NAT}learning.policy_loss": lambda: {
        **_rows(), "actions": torch.tensor([[0, 2]]), "advantages": o.normal(1), "entropy_weight": 0.1,
    },
    f"{NAT}phases.accuracy": lambda: {"network": _network(), "pair": _pair(), "batches": o.batches()},
    f"{NAT}phases.greedy": lambda: {"policy": _policy(), "genotype": _genotype()},
    f"{NAT}phases.policy_phase": lambda: _phase(policy=True),
    f"{NAT}phases.propose": lambda: {"policy": _policy(), "edges": _edges(), "generator": o.seeded()},
    f"{NAT}phases.random_source": lambda: {"network": _network(), "generator": o.seeded(), "same": True},
    f"{NAT}phases.transform": lambda: {
        "policy": _policy(), "pair": _pair(), "value": _value, "samples": 2, "generator": o.seeded(),
    },
    f"{NAT}phases.weights_phase": lambda: _phase(policy=False),
    f"{NAT}policy.GraphPolicy": lambda: {
        "operations": OPS, "embedding": 2, "features": 3, "hidden": 3, "generator": o.seeded(),
    },
    f"{NAT}policy.GraphPolicy.forward": lambda: {
        "self": _policy(), "cells": torch.tensor([[0, 2], [1, 1]]), "places": PLACES,
    },
    f"{NAT}policy.GraphPolicy.numbers": lambda: {"self": _policy(), "edges": _edges()},
    f"{NAT}policy.adjacency": lambda: {"places": PLACES, "self_loops": False},
    f"{NAT}policy.slots": lambda: {"places": PLACES},
    f"{NAT}softmax.binary_masked_softmax": _rows,
    f"{NAT}softmax.entropy": _rows,
    f"{NAT}softmax.log_probabilities": _rows,
    f"{NAT}softmax.sample": lambda: {**_rows(), "generator": o.seeded()},
    f"{NAT}toy.Toy.expected": lambda: {
        "self": _world(), "logits": o.normal(2, 4, 13), "mask": _world().masks(_numbers()),
    },
    f"{NAT}toy.Toy.gain": lambda: {"self": _world(), "sources": _numbers(), "reached": o.normal(2)},
    f"{NAT}toy.Toy.masks": lambda: {"self": _world(), "cells": _numbers()},
    f"{NAT}toy.Toy.optimum": lambda: {"self": _world(), "cells": _numbers()},
    f"{NAT}toy.Toy.reward": lambda: {"self": _world(), "cells": _numbers()},
    f"{NAT}toy.own_values": lambda: {"seed": 1},
    f"{NAT}toy.toy": lambda: {"seed": 1},
    f"{NAT}training.BlindPolicy": lambda: {"edges": 4, "operations": 13},
    f"{NAT}training.BlindPolicy.forward": lambda: {
        "self": nat.training.BlindPolicy(4, 13), "cells": _numbers(), "places": None,
    },
    f"{NAT}training.Recipe": lambda: {"steps": 3, "batch": 8, "draws": 2, "learning_rate": 0.01, "decay": 0.5},
    f"{NAT}training.train": _training,
    f"{NAT}transitions.allowed": lambda: {"name": "conv_1x1", "operations": OPS},
    f"{NAT}transitions.allowed_by_nat": lambda: {"name": "conv_1x1", "operations": OPS},
    f"{NAT}transitions.dearer": lambda: {"source": "none", "target": "skip_connect", "stride": 2},
    f"{NAT}transitions.kind": lambda: {"name": "conv_3x3"},
    f"{NAT}transitions.mask": lambda: {"edges": _edges(), "operations": OPS},
    f"{NAT}transitions.may_become": lambda: {"source": "conv_3x3", "target": "none"},
}  # fmt: skip

AFTERWARDS = {}

FREE = {
    f"{CELLS}drawing.cell_svg": ("edges:one short", "title:empty word"),  # a smaller cell; the title is free
    f"{NAT}learning.MovingBaseline.update": ("reward:-1",),  # rewards are differences
    f"{NAT}phases.random_source": ("network:of nan",),  # its weights are not looked at
    f"{NAT}training.BlindPolicy.forward": ("cells", "places"),  # not looked at
}
