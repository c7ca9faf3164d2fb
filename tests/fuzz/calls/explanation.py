"""Valid calls of the papers on explanation."""

import torch
from compactvision.explanation import heads
from compactvision.explanation.unit_ablation import ablations
from compactvision.explanation.xgrad_cam import XGradCAM
from torch import nn

from .. import objects as o

LAYER = "features.6"  # the last activation, (B, 6, 4, 4)


def _head() -> heads.Head:
    return heads.Head(o.model(), LAYER, o.inputs())


def _looked() -> dict[str, object]:
    return {"model": o.model(), "layer": LAYER, "inputs": o.inputs(), "targets": o.targets()}


def _counted() -> dict[str, object]:
    return {"base": o.bits(8), "correct": o.bits(3, 8), "targets": torch.arange(8) % 2, "num_classes": 2}


EVIDENCE = "explanation.evidence."
QUALITY = "explanation.map_quality."
ABLATIONS = "explanation.unit_ablation.ablations."
ATTRIBUTES = "explanation.unit_ablation.attributes."
DROPS = "explanation.unit_ablation.class_drops."
CAM = "explanation.xgrad_cam."

CALLS = {
    f"{EVIDENCE}check_floating": lambda: {"inputs": o.inputs()},
    f"{EVIDENCE}check_inputs": lambda: {"inputs": o.inputs()},
    f"{EVIDENCE}chosen_targets": lambda: {"logits": o.normal(4, 4), "targets": o.targets()},
    f"{EVIDENCE}enlarged": lambda: {"raw": o.normal(2, 4, 4), "size": (8, 8)},
    f"{EVIDENCE}gather": _looked,
    f"{EVIDENCE}picture": lambda: {"raw": o.normal(2, 4, 4), "size": (8, 8)},
    f"{EVIDENCE}scaled": lambda: {"maps": o.uniform(2, 4, 4)},
    f"{EVIDENCE}wide": lambda: {"x": o.normal(2, 3)},
    "explanation.heads.Head": lambda: {"model": o.model(), "layer": LAYER, "example_inputs": o.inputs()},
    "explanation.heads.Head.__call__": lambda: {"self": _head(), "activation": o.uniform(4, 6, 4, 4)},
    "explanation.heads.LayerCache.subset": lambda: {"self": o.cache(), "images": torch.tensor([0, 2])},
    "explanation.heads.cache_layer": lambda: {"model": o.model(), "layer": LAYER, "batches": o.batches()},
    f"{QUALITY}area_under": lambda: {"curves": o.uniform(2, 5)},
    f"{QUALITY}average_drop": lambda: {"full": o.uniform(4) + 0.1, "masked": o.uniform(4)},
    f"{QUALITY}blur": lambda: {"inputs": o.inputs(), "sigma": 1.0},
    f"{QUALITY}bootstrap_interval": lambda: {"values": o.uniform(5), "repeats": 20},
    f"{QUALITY}centre_gaussian": lambda: {"size": (4, 6), "count": 2},
    f"{QUALITY}energy_share": lambda: {"maps": o.uniform(2, 4, 4), "masks": o.bits(2, 4, 4)},
    f"{QUALITY}perturbation_curves": lambda: {
        "model": o.model(), "inputs": o.inputs(), "maps": o.uniform(4, 8, 8), "targets": o.targets(), "steps": 3,
        "blurred": o.inputs() * 0,
    },
    f"{QUALITY}pointing_game": lambda: {"maps": o.uniform(2, 4, 4), "masks": o.bits(2, 4, 4)},
    f"{ABLATIONS}gap_linear_logits": lambda: {
        "logits": o.normal(4, 3), "means": o.uniform(4, 6), "weight": o.normal(3, 6),
    },
    f"{ABLATIONS}keep_units": lambda: {"activation": o.normal(4, 6, 2, 2), "units": [0, 2]},
    f"{ABLATIONS}predictions": lambda: {
        "cache": o.cache(), "edits": [lambda activation: ablations.zero_units(activation, 0)], "batch_size": 4,
    },
    f"{ABLATIONS}random_rotation": lambda: {"units": 3, "generator": o.seeded()},
    f"{ABLATIONS}remove_direction": lambda: {
        "activation": o.normal(4, 6, 2, 2), "direction": torch.eye(6)[1], "mean": o.normal(6),
    },
    f"{ABLATIONS}set_units": lambda: {
        "activation": o.normal(4, 6, 2, 2), "units": torch.tensor([0, 2]), "values": o.normal(6),
    },
    f"{ABLATIONS}zero_units": lambda: {"activation": o.normal(4, 6, 2, 2), "units": 1},
    f"{ATTRIBUTES}class_correlation": lambda: {"means": o.uniform(8, 3), "probabilities": o.uniform(8, 2)},
    f"{ATTRIBUTES}class_means": lambda: {"means": o.uniform(8, 3), "targets": torch.arange(8) % 2, "num_classes": 2},
    f"{ATTRIBUTES}class_permutation_test": lambda: {
        "x": o.uniform(4, 3), "y": o.normal(4, 3), "generator": o.seeded(), "rounds": 9,
    },
    f"{ATTRIBUTES}concept_iou": lambda: {
        "activation": o.uniform(4, 3, 4, 4), "masks": o.bits(4, 2, 8, 8), "top": 0.1, "batch_size": 2,
    },
    f"{ATTRIBUTES}filter_l1": lambda: {"convolution": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4)},
    f"{ATTRIBUTES}mutual_information": lambda: {
        "means": o.uniform(8, 3), "targets": torch.arange(8) % 2, "num_classes": 2,
    },
    f"{ATTRIBUTES}rank_correlation": lambda: {"x": o.uniform(5), "y": o.normal(5)},
    f"{ATTRIBUTES}selectivity": lambda: {"averages": o.uniform(3, 4)},
    f"{ATTRIBUTES}taylor_rise": lambda: {"cache": o.cache(), "batch_size": 4},
    f"{ATTRIBUTES}unit_means": lambda: {"activation": o.uniform(4, 6, 2, 2)},
    f"{DROPS}balanced_accuracy": lambda: {
        "predicted": torch.arange(8).expand(3, 8) % 3 % 2, "targets": torch.arange(8) % 2, "num_classes": 2,
    },
    f"{DROPS}class_accuracy": lambda: {"correct": o.bits(3, 8), "targets": torch.arange(8) % 2, "num_classes": 2},
    f"{DROPS}deal_flips": lambda: {"base": o.bits(8), "correct": o.bits(3, 8), "generator": o.seeded()},
    f"{DROPS}drops": _counted,
    f"{DROPS}halves": lambda: {"targets": torch.arange(8) % 2, "generator": o.seeded()},
    f"{DROPS}split_half_largest": lambda: {**_counted(), "generator": o.seeded(), "repeats": 2},
    f"{DROPS}unit_drops": lambda: {"cache": o.cache()},
    "explanation.unit_ablation.pruning.importance": lambda: {"batches": o.batches()},
    f"{CAM}activation_maps.XGradCAM": lambda: {"model": o.model(), "layer": LAYER},
    f"{CAM}activation_maps.XGradCAM.__call__": lambda: {
        "self": XGradCAM(o.model(), LAYER), "inputs": o.inputs(), "targets": o.targets(),
    },
    f"{CAM}activation_maps.XGradCAM.raw": lambda: {
        "self": XGradCAM(o.model(), LAYER), "inputs": o.inputs(), "targets": 1,
    },
    f"{CAM}activation_maps.grad_cam_weights": lambda: {"gradient": o.normal(2, 3, 4, 4)},
    f"{CAM}activation_maps.weighted_map": lambda: {"activation": o.normal(2, 3, 4, 4), "weights": o.normal(2, 3)},
    f"{CAM}activation_maps.xgrad_cam_weights": lambda: {
        "activation": o.uniform(2, 3, 4, 4), "gradient": o.normal(2, 3, 4, 4),
    },
    f"{CAM}axioms.bias_term": _looked,
    f"{CAM}axioms.channel_drops": _looked,
    f"{CAM}axioms.conservation_residual": lambda: {"score": o.normal(2), "mass": o.normal(2, 3)},
    f"{CAM}axioms.masses": lambda: {"activation": o.normal(2, 3, 4, 4), "weights": o.normal(2, 3)},
    f"{CAM}axioms.sensitivity_residual": lambda: {"drops": o.normal(2, 3), "mass": o.normal(2, 3)},
    f"{CAM}baselines.ablation_cam_sum_weights": lambda: {
        "drops": o.normal(2, 3), "activation": o.uniform(2, 3, 4, 4),
    },
    f"{CAM}baselines.ablation_cam_weights": lambda: {"drops": o.normal(2, 3), "score": o.normal(2)},
    f"{CAM}baselines.grad_cam_plus_plus_weights": lambda: {
        "activation": o.uniform(2, 3, 4, 4), "gradient": o.normal(2, 3, 4, 4),
    },
    f"{CAM}baselines.hires_cam_map": lambda: {"activation": o.uniform(2, 3, 4, 4), "gradient": o.normal(2, 3, 4, 4)},
    f"{CAM}baselines.masked_scores": lambda: {
        "model": o.model(), "inputs": o.inputs(), "activation": o.uniform(4, 6, 4, 4), "targets": o.targets(),
    },
    f"{CAM}baselines.score_cam_weights": lambda: {"scores": o.normal(2, 3)},
}  # fmt: skip
AFTERWARDS = {
    "explanation.unit_ablation.pruning.importance": lambda importance: importance(o.model()),
    f"{CAM}activation_maps.XGradCAM": lambda cam: cam(o.inputs()),
}
FREE: dict[str, tuple[str, ...]] = {}
