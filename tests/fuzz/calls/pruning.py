"""Valid calls of the papers on pruning."""

import torch
import torch.nn.functional as F
from compactvision import surgery
from compactvision.pruning import autobot, dcff, proximal_network_slimming, rvsm_sparsity
from torch import nn

from .. import objects as o


def _operations() -> autobot.budget.Operations:
    return autobot.count_operations(o.graph())


def _weights() -> dict[str, torch.Tensor]:
    return {"classifier": o.normal(4, 6)}


def _layer() -> dict[str, object]:
    return {"a": o.normal(2, 3), "relevance": o.uniform(2, 4)}


def _fused() -> dcff.FusedConv2d:
    return dcff.FusedConv2d(nn.Conv2d(3, 4, 3), 6, generator=o.seeded())


def _of_maps(importance):
    return importance(o.model())


def _rule(rule):
    return rule(F.linear, o.uniform(2, 3), o.normal(4, 3), None, o.uniform(2, 4))


def _splitting(**given):
    return {"regulariser": "l1", "penalty": 0.1, "beta": 0.5, **given}


BOT = "pruning.autobot."
DCFF = "pruning.dcff."
ENERGY = "pruning.energy_aware_pruning."
LRP = "pruning.lrp_pruning."
SLIM = "pruning.proximal_network_slimming."
RVSM = "pruning.rvsm_sparsity."

CALLS = {
    f"{BOT}budget.Operations.__call__": lambda: {"self": _operations(), "gates": o.gates()},
    f"{BOT}budget.Operations.to": lambda: {"self": _operations(), "device": "cpu"},
    f"{BOT}budget.budget_loss": lambda: {"operations": torch.tensor(5.0), "target": 4.0, "whole": 9.0},
    f"{BOT}budget.count_operations": lambda: {"graph": o.graph()},
    f"{BOT}learning.LearnedGates": lambda: {"graph": o.graph(), "gates": o.gates()},
    f"{BOT}learning.LearnedGates.__call__": lambda: _learned(),
    f"{BOT}learning.binary_loss": lambda: {"gates": [o.uniform(3), o.uniform(4)]},
    f"{BOT}learning.learn_gates": lambda: {
        **o.graphed(), "batches": o.batches(), "steps": 2, "loss": F.cross_entropy,
    },
    f"{BOT}noise.noisy": lambda: {"generator": o.seeded()},
    f"{BOT}noise.statistics": lambda: {"x": o.inputs()},
    f"{DCFF}formulas.choose": lambda: {"scores": o.uniform(4), "keep": 2},
    f"{DCFF}formulas.description": lambda: {"tensor": o.uniform(4)},
    f"{DCFF}formulas.distances": lambda: {"weight": o.normal(4, 2, 3, 3)},
    f"{DCFF}formulas.divergences": lambda: {"distances": o.square(), "temperature": 2.0},
    f"{DCFF}formulas.importance": lambda: {"distances": o.square(), "temperature": 2.0, "previous": o.uniform(4)},
    f"{DCFF}formulas.in_place": lambda: {"chosen": torch.tensor([1, 2]), "before": torch.tensor([0, 1])},
    f"{DCFF}formulas.mixing": lambda: {"distances": o.square(), "temperature": 2.0},
    f"{DCFF}formulas.slow_temperature": lambda: {"distances": o.square(), "epoch": 1, "epochs": 4},
    f"{DCFF}formulas.temperature": lambda: {"epoch": 1, "epochs": 4},
    f"{DCFF}network.DynamicFusion": lambda: {"rule": dcff.rules.exact},
    f"{DCFF}network.DynamicFusion.load_state_dict": lambda: {
        "self": o.fusion()["self"], "state": o.fusion()["self"].state_dict(),
    },
    f"{DCFF}network.DynamicFusion.on_epoch": o.fusion,
    f"{DCFF}network.DynamicFusion.on_start": o.fusion,
    f"{DCFF}network.FusedConv2d": lambda: {"narrow": nn.Conv2d(3, 4, 3), "filters": 6, "generator": o.seeded()},
    f"{DCFF}network.FusedConv2d.forward": lambda: {"self": _fused(), "x": o.inputs()},
    f"{DCFF}network.FusedConv2d.mix_": lambda: {"self": _fused(), "mixing": o.uniform(4, 6)},
    f"{DCFF}network.compact": lambda: {"model": dcff.fuse(o.model(), o.wider())},
    f"{DCFF}network.fuse": lambda: {
        "narrow": o.model(), "full": o.wider(), "layers": ["features.0"], "generator": o.seeded(),
    },
    f"{DCFF}network.fused_layers": lambda: {"model": dcff.fuse(o.model(), o.wider())},
    f"{DCFF}published.full_network": lambda: {"name": "VGG-16", "device": "meta"},
    f"{DCFF}published.narrow_network": lambda: {"name": "VGG-16", "device": "meta"},
    f"{DCFF}published.narrow_resnet": lambda: {"stages": [4, 6, 8], "inner": [2, 2, 2], "num_classes": 4},
    f"{DCFF}published.narrowed": lambda: {"full": o.model(), "widths": {"features.0": 2}, "example_inputs": o.SHAPE},
    f"{DCFF}published.width": lambda: {"channels": 8, "rate": 0.5},
    **{
        f"{DCFF}rules.{name}": lambda: {
            "weight": o.normal(4, 2, 3, 3), "epoch": 1, "epochs": 4, "previous": o.uniform(4),
        }
        for name in ("exact", "first", "largest", "official")
    },
    f"{DCFF}rules.unmixed": lambda: {"rule": dcff.rules.largest},
    f"{ENERGY}energy": lambda: {"batches": o.batches(), "layers": {"features.0": "features.2"}},
    f"{ENERGY}filter_energy": lambda: {"weight": o.normal(4, 3, 3, 3)},
    f"{ENERGY}map_energy": lambda: {"maps": o.uniform(2, 3, 4, 4)},
    f"{ENERGY}map_rank": lambda: {"maps": o.uniform(2, 3, 4, 4)},
    f"{ENERGY}nuclear_norm": lambda: {"matrices": o.normal(3, 4, 5)},
    f"{ENERGY}rank": lambda: {"batches": o.batches(), "layers": {"features.0": "features.2"}},
    f"{LRP}importance.lrp": lambda: {"batches": o.batches()},
    f"{LRP}propagation.relevance": lambda: {"model": o.model(), "inputs": o.inputs(), "targets": o.targets()},
    f"{LRP}rules.alpha_beta": lambda: {"alpha": 2.0},
    f"{LRP}rules.box": lambda: {"low": -1.0, "high": 1.0},
    f"{LRP}rules.by_parts": lambda: {
        "apply": F.linear, **_layer(), "same": o.uniform(4, 3), "other": -o.uniform(4, 3),
    },
    f"{LRP}rules.epsilon": lambda: {"eps": 1e-3},
    f"{LRP}rules.quotient": lambda: {"relevance": o.normal(3), "z": o.uniform(3)},
    f"{LRP}rules.z_plus": lambda: {"apply": F.linear, **_layer(), "weight": o.normal(4, 3), "bias": o.normal(4)},
    f"{SLIM}callbacks.NetworkSlimming": lambda: {"penalty": 0.01},
    f"{SLIM}callbacks.NetworkSlimming.before_step": lambda: {
        "self": proximal_network_slimming.NetworkSlimming(0.01), "state": o.state(),
    },
    f"{SLIM}callbacks.NetworkSlimming.importance": lambda: {
        "self": proximal_network_slimming.NetworkSlimming(0.01), "model": o.model(),
    },
    f"{SLIM}callbacks.ProximalSlimming": lambda: {"penalty": 0.01, "generator": o.seeded()},
    f"{SLIM}callbacks.ProximalSlimming.importance": lambda: {"self": o.slimming()["self"], "model": o.model()},
    f"{SLIM}callbacks.ProximalSlimming.load_state_dict": lambda: {
        "self": o.slimming()["self"], "state": o.slimming()["self"].state_dict(),
    },
    f"{SLIM}callbacks.ProximalSlimming.objective": lambda: {"self": o.slimming()["self"], "loss": 1.0},
    f"{SLIM}callbacks.ProximalSlimming.on_start": o.slimming,
    f"{SLIM}callbacks.ProximalSlimming.on_step": o.slimming,
    f"{SLIM}shifts.behind_scales": lambda: {"graph": o.graph()},
    f"{SLIM}shifts.fold_shifts": lambda: _behind(),
    f"{SLIM}shifts.scales_at_zero": lambda: _behind(),
    f"{SLIM}steps.check_settings": lambda: {"beta": 1.0, "penalty": 0.1},
    f"{SLIM}steps.needed_penalty": lambda: {"steps": 10, "learning_rate": 0.1, "beta": 1.0},
    f"{SLIM}steps.proximal_step": lambda: {
        "gamma": o.normal(4), "xi": o.uniform(4), "alpha": 10.0, "beta": 1.0, "penalty": 0.1,
    },
    f"{SLIM}steps.reset_batch_norm_": lambda: {"model": o.model()},
    f"{SLIM}steps.scales": lambda: {"model": o.model()},
    f"{RVSM}RelaxedSplitting": lambda: _splitting(layers=["classifier"]),
    f"{RVSM}RelaxedSplitting.before_step": o.splitting,
    f"{RVSM}RelaxedSplitting.objective": lambda: {"self": o.splitting()["self"], "loss": 1.0},
    f"{RVSM}RelaxedSplitting.on_start": o.splitting,
    f"{RVSM}Subgradient": lambda: {"penalty": 0.1, "layers": ["classifier"]},
    f"{RVSM}Subgradient.before_step": lambda: o.started(rvsm_sparsity.Subgradient(0.1)),
    f"{RVSM}Subgradient.on_start": lambda: o.started(rvsm_sparsity.Subgradient(0.1)),
    f"{RVSM}chosen_weights": lambda: {"model": o.model(), "layers": ["classifier"]},
    f"{RVSM}needed_penalty": lambda: {"regulariser": "l1", "limit": 0.1, "beta": 0.5},
    f"{RVSM}objective": lambda: _splitting(loss=1.0, w=o.normal(3), u=o.uniform(3)),
    f"{RVSM}proximal_copy": lambda: _splitting(w=o.normal(3)),
    f"{RVSM}regulariser_value": lambda: {"u": o.normal(3), "regulariser": "transformed_l1"},
    f"{RVSM}replaced": lambda: {"model": o.model(), "weights": _weights()},
    f"{RVSM}smallest_zeroed": lambda: {"model": o.model(), "share": 0.5, "layers": ["classifier"]},
    f"{RVSM}sparsity": lambda: {"weights": _weights()},
    f"{RVSM}threshold": _splitting,
}  # fmt: skip


def _learned():
    given = o.graphed()
    return {"self": autobot.LearnedGates(given["graph"], o.gates()), "model": given["model"]}


def _behind():
    model = o.model()
    graph = proximal_network_slimming.behind_scales(surgery.channel_graph(model, o.SHAPE))
    return {"model": model, "plan": surgery.make_plan(graph, surgery.criteria.l1(), keep=0.5)}


AFTERWARDS = {
    f"{BOT}noise.noisy": lambda gate: gate(o.inputs(), o.uniform(3)),
    f"{DCFF}network.DynamicFusion": lambda fusion: fusion.on_start(o.state(dcff.fuse(o.model(), o.wider()))),
    f"{DCFF}rules.unmixed": lambda rule: rule(o.normal(4, 2), 0, 4, None),
    f"{ENERGY}energy": _of_maps,
    f"{ENERGY}rank": _of_maps,
    f"{LRP}importance.lrp": _of_maps,
    f"{LRP}rules.alpha_beta": _rule,
    f"{LRP}rules.box": _rule,
    f"{LRP}rules.epsilon": _rule,
    f"{SLIM}callbacks.ProximalSlimming": lambda slimming: slimming.on_start(o.state()),
    f"{SLIM}callbacks.NetworkSlimming": lambda slimming: slimming.before_step(o.state()),
    f"{RVSM}RelaxedSplitting": lambda splitting: splitting.on_start(o.state()),
    f"{RVSM}Subgradient": lambda splitting: splitting.on_start(o.state()),
}
FREE: dict[str, tuple[str, ...]] = {
    **{f"{DCFF}network.{name}": ("model:of nan",) for name in ("compact", "fused_layers")},  # the outputs are the same
    f"{DCFF}network.FusedConv2d": ("narrow:of nan",),  # only its shape is read
    f"{DCFF}network.fuse": ("narrow:of nan", "full:of nan"),  # only widths are read, other layers stay
    **{
        f"{ENERGY}{name}": (
            "batches:targets as floats", "batches:negative targets", "batches:targets out of range",
            "batches:targets of two dimensions", "batches:fewer targets", "layers:unknown key",
        )  # targets are not used, and a layer may have any name
        for name in ("energy", "rank")
    },
    f"{LRP}rules.box": ("low:-1",),  # any number below the other
    **{f"{SLIM}callbacks.{name}.importance": ("model:of nan",) for name in ("NetworkSlimming", "ProximalSlimming")},
    f"{SLIM}callbacks.ProximalSlimming.objective": ("loss:-1",),
    **{
        f"{SLIM}{name}": ("model:of nan",)
        for name in ("shifts.scales_at_zero", "steps.reset_batch_norm_", "steps.scales")
    },
    f"{RVSM}RelaxedSplitting.objective": ("loss:-1",),
    f"{RVSM}objective": ("loss:-1",),
    **{f"{RVSM}{name}": ("model:of nan",) for name in ("chosen_weights", "replaced")},  # other weights take their place
    f"{RVSM}sparsity": ("weights:number for a key", "weights:unknown key"),  # names are not looked at
}  # fmt: skip
