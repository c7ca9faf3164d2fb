"""Valid calls of factorised layers, and of the paper on tensor trains."""

import torch
from compactvision.factorization import admm_tensor_train as tt
from compactvision.factorization.admm_tensor_train import callbacks, formats, published, recurrent, rivals, whitening
from compactvision.models import factorised
from torch import nn

from .. import objects as o


def _formats() -> dict[str, tt.TensorTrain]:
    return {"features.4": tt.TensorTrain((3, 2))}


def _kernel() -> torch.Tensor:
    return o.normal(6, 4, 3, 3)


def _conv() -> nn.Conv2d:
    return nn.Conv2d(4, 6, 3, padding=1)


def _sizes(**given) -> dict[str, object]:
    return {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "generator": o.seeded(), **given}


def _admm() -> dict[str, object]:
    return o.started(tt.ADMM(_formats(), 0.1))


def _projected() -> dict[str, object]:
    return o.started(tt.Projected(_formats()))


def _rows(callback: object) -> dict[str, object]:
    given = o.started(callback) if hasattr(callback, "on_start") else {"self": callback, "state": o.state()}
    given["state"].history.rows.append({"epoch": 1})
    return given


def _restored(given: dict[str, object]) -> dict[str, object]:
    return {"self": given["self"], "state": given["self"].state_dict()}


def _train(**given) -> factorised.TTConv2d:
    return factorised.TTConv2d(4, 6, 3, (3, 2), padding=1, generator=o.seeded(), **given)


def _linear() -> factorised.TTLinear:
    return factorised.TTLinear(6, 4, (2,), generator=o.seeded())


def _svd() -> factorised.SVDConv2d:
    return factorised.SVDConv2d(4, 6, 3, 3, padding=1, generator=o.seeded())


def _whitened() -> whitening.Whitened:
    return whitening.whitened(o.model(), _formats(), o.batches())["features.4"]


def _table() -> published.Published:
    return published.TABLES["ResNet-32, TT"]


def _counted() -> dict[str, object]:
    dense = o.model()
    return {"dense": dense, "small": tt.decompose(dense, _formats()), "formats": _formats(), "side": 8}


TT = "factorization.admm_tensor_train."
LAYERS = "models.factorised."

CALLS = {
    f"{TT}callbacks.ADMM": lambda: {"formats": _formats(), "rho": 0.1},
    f"{TT}callbacks.ADMM.before_step": _admm,
    f"{TT}callbacks.ADMM.load_state_dict": lambda: _restored(_admm()),
    f"{TT}callbacks.ADMM.on_epoch": lambda: _rows(tt.ADMM(_formats(), 0.1)),
    f"{TT}callbacks.ADMM.on_start": _admm,
    f"{TT}callbacks.Distances": lambda: {"formats": _formats()},
    f"{TT}callbacks.Distances.on_epoch": lambda: _rows(callbacks.Distances(_formats())),
    f"{TT}callbacks.Projected": lambda: {"formats": _formats(), "every": "epoch"},
    f"{TT}callbacks.Projected.load_state_dict": lambda: _restored(_projected()),
    f"{TT}callbacks.Projected.on_start": _projected,
    f"{TT}callbacks.Projected.on_step": _projected,
    f"{TT}callbacks.needed_rho": lambda: {"steps": 100, "learning_rate": 0.1},
    f"{TT}callbacks.trained_weights": lambda: {"state": o.state(), "formats": _formats()},
    f"{TT}rivals.CP.factors": lambda: {"self": rivals.CP(2), "kernel": _kernel()},
    f"{TT}rivals.CP.parameters": lambda: {"self": rivals.CP(2), "kernel": _kernel()},
    f"{TT}rivals.CP.project": lambda: {"self": rivals.CP(2), "kernel": _kernel()},
    f"{TT}rivals.Ring.factors": lambda: {"self": rivals.Ring((2, 2, 2)), "kernel": _kernel()},
    f"{TT}rivals.Ring.parameters": lambda: {"self": rivals.Ring((2, 2, 2)), "kernel": _kernel()},
    f"{TT}rivals.Ring.project": lambda: {"self": rivals.Ring((2, 2, 2)), "kernel": _kernel()},
    f"{TT}formats.TensorTrain.layer": lambda: {"self": tt.TensorTrain((3, 2)), "dense": _conv()},
    f"{TT}formats.TensorTrain.project": lambda: {"self": tt.TensorTrain((3, 2)), "kernel": _kernel()},
    f"{TT}rivals.Tucker.layer": lambda: {"self": rivals.Tucker(3, 2), "dense": _conv()},
    f"{TT}rivals.Tucker.project": lambda: {"self": rivals.Tucker(3, 2), "kernel": _kernel()},
    f"{TT}formats.decompose": lambda: {"model": o.model(), "formats": _formats()},
    f"{TT}formats.distances": lambda: {"model": o.model(), "formats": _formats()},
    f"{TT}formats.projected": lambda: {"model": o.model(), "formats": _formats()},
    f"{TT}formats.known": lambda: {"formats": _formats()},
    f"{TT}formats.weights": lambda: {"model": o.model(), "formats": _formats()},
    f"{TT}published.Published.formats": lambda: {"self": _table(), "model": _table().build()},
    f"{TT}published.count": lambda: {"table": _table()},
    f"{TT}published.counted": _counted,
    f"{TT}recurrent.ColumnLSTM": lambda: {"num_classes": 4, "hidden": 3, "column": 24, "generator": o.seeded()},
    f"{TT}recurrent.ColumnLSTM.forward": lambda: {"self": recurrent.ColumnLSTM(4, 3, 24), "x": o.inputs()},
    f"{TT}selection.decomposable": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    f"{TT}selection.select_ranks": lambda: {
        "model": o.model(), "example_inputs": o.SHAPE, "factor": 1.2, "layers": ["features.4"],
    },
    f"{TT}toy.admm_path": lambda: {"values": [4.0, 3.0, 1.0], "rank": 2, "rho": 1.0, "steps": 3},
    f"{TT}toy.largest": lambda: {"values": o.normal(4), "rank": 2},
    f"{TT}toy.smallest_rho": lambda: {"values": [4.0, 3.0, 1.0], "rank": 2},
    f"{TT}whitening.Whitened.layer": lambda: {"self": _whitened(), "dense": o.model().features[4]},
    f"{TT}whitening.Whitened.project": lambda: {
        "self": _whitened(), "kernel": o.model().features[4].weight.detach(),
    },
    f"{TT}whitening.whitened": lambda: {"model": o.model(), "formats": _formats(), "batches": o.batches()},
    f"{LAYERS}replace.with_layers": lambda: {"model": o.model(), "change": {"features.4": lambda layer: layer}},
    f"{LAYERS}svd_layers.SVDConv2d": lambda: _sizes(ranks=3),
    f"{LAYERS}svd_layers.SVDConv2d.forward": lambda: {"self": _svd(), "x": o.normal(2, 4, 5, 5)},
    f"{LAYERS}svd_layers.SVDConv2d.set_kernel_": lambda: {"self": _svd(), "kernel": _kernel()},
    f"{LAYERS}trains.feasible_ranks": lambda: {"modes": (6, 9, 4), "ranks": (3, 2)},
    f"{LAYERS}trains.tt_parameters": lambda: {"modes": (6, 9, 4), "ranks": (3, 2)},
    f"{LAYERS}trains.tt_svd": lambda: {"tensor": o.normal(6, 9, 4), "ranks": (3, 2)},
    f"{LAYERS}trains.tt_tensor": lambda: {"cores": factorised.tt_svd(o.normal(6, 9, 4), (3, 2))},
    f"{LAYERS}tt_layers.TTConv2d": lambda: _sizes(ranks=(3, 2)),
    f"{LAYERS}tt_layers.TTConv2d.forward": lambda: {"self": _train(), "x": o.normal(2, 4, 5, 5)},
    f"{LAYERS}tt_layers.TTConv2d.set_kernel_": lambda: {"self": _train(), "kernel": _kernel()},
    f"{LAYERS}tt_layers.TTLinear": lambda: {
        "in_features": 6, "out_features": 4, "ranks": (2,), "generator": o.seeded(),
    },
    f"{LAYERS}tt_layers.TTLinear.forward": lambda: {"self": _linear(), "x": o.normal(3, 6)},
    f"{LAYERS}tt_layers.TTLinear.set_kernel_": lambda: {"self": _linear(), "kernel": o.normal(4, 6)},
    f"{LAYERS}tt_layers.from_modes": lambda: {
        "tensor": o.normal(6, 9, 4), "out_channels": 6, "in_channels": 4, "kernel_size": (3, 3),
    },
    f"{LAYERS}tt_layers.to_modes": lambda: {"kernel": _kernel(), "out_modes": (6,), "in_modes": (4,)},
}  # fmt: skip
AFTERWARDS = {
    f"{TT}callbacks.ADMM": lambda callback: callback.on_start(o.state()),
    f"{TT}callbacks.Distances": lambda callback: formats.distances(o.model(), callback.formats),
    f"{TT}callbacks.Projected": lambda callback: callback.on_start(o.state()),
}
FREE: dict[str, tuple[str, ...]] = {
    f"{TT}callbacks.ADMM.load_state_dict": ("state:unknown key",),
    f"{TT}callbacks.Projected.load_state_dict": ("state:unknown key",),
    f"{TT}formats.known": ("formats:unknown key", "formats:number for a key"),  # names are the network's affair
    f"{TT}formats.weights": ("model:of nan",),
    f"{TT}toy.admm_path": ("values:of -1",),  # any numbers
    f"{TT}toy.smallest_rho": ("values:of -1",),
    f"{TT}whitening.whitened": tuple(  # labels are not looked at
        f"batches:{each}"
        for each in (
            "fewer targets",
            "targets as floats",
            "targets of two dimensions",
            "triples",
            "negative targets",
            "targets out of range",
            "without targets",
        )
    ),
    f"{LAYERS}tt_layers.TTLinear": ("ranks:a number",),  # one number stands for a tuple of one
    f"{TT}published.Published.formats": ("model:of nan",),
    f"{TT}published.counted": ("dense:of nan", "small:of nan"),
    f"{TT}selection.decomposable": ("model:of nan",),
    f"{TT}selection.select_ranks": ("model:of nan",),  # the rule of shares looks at sizes only
    f"{LAYERS}replace.with_layers": ("model:of nan",),
}
