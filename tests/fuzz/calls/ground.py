"""Valid calls of the lower floors: data, models, measure, hooks, proximal maps, training, surgery."""

from pathlib import Path

import torch
import torch.nn.functional as F
from compactvision import data, models, surgery, training
from compactvision.models.layers import ChannelMap
from torch import nn

from .. import objects as o

NETWORKS = {
    "densenet_cifar.densenet40": {"growth": 2},
    "efficientnet_lite.EfficientNetLite": {"in_channels": 3, "generator": o.seeded()},
    "efficientnet_lite.efficientnet_lite0": {},
    "googlenet_cifar.GoogLeNet": {"in_channels": 3, "generator": o.seeded()},
    "googlenet_cifar.googlenet": {},
    "preresnet_cifar.preresnet110": {"options": {"width": 1}},
    "preresnet_cifar.preresnet164": {"options": {"width": 1}},
    "resnet.resnet110": {"options": {"width": 1}},
    "resnet.resnet20": {"options": {"width": 1}},
    "resnet.resnet32": {"options": {"width": 1}},
    "resnet.resnet44": {"options": {"width": 1}},
    "resnet.resnet56": {"options": {"width": 1}},
    "vgg.vgg11_bn": {},
    "vgg.vgg13_bn": {},
    "vgg.vgg16_bn": {},
    "vgg.vgg19_bn": {},
}


def _folder() -> Path:
    from PIL import Image

    for label in ("a", "b"):
        for number in range(3):
            place = Path("pictures") / label / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * number, 90, 200 if label == "a" else 10)).save(place)
    return Path("pictures")


def _saved() -> Path:
    path = Path("small.safetensors")
    surgery.save(
        surgery.prune(**o.planned()), path, builder="small_cnn", arguments={"num_classes": 4, "widths": (4, 6)}
    )
    return path


def _history() -> training.History:
    return training.History([{"epoch": 0, "loss": 1.0}])


def _layered() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


CALLS = {
    "data.arrays.ImageSet": lambda: dict(vars(o.image_set())),
    "data.arrays.ImageSet.batches": lambda: {"self": o.image_set(), "batch_size": 4, "crop": 1, "device": "cpu"},
    "data.arrays.ImageSet.split": lambda: {"self": o.image_set(), "fraction": 0.5},
    "data.arrays.ImageSet.subset": lambda: {"self": o.image_set(), "indices": [0, 3]},
    "data.arrays.ImageSet.take": lambda: {"self": o.image_set(), "n": 4},
    "data.arrays.ImageSet.to": lambda: {"self": o.image_set(), "device": "cpu"},
    "data.batches.Batches": lambda: {"images": o.image_set(), "batch_size": 4, "crop": 1},
    "data.batches.Batches.set_epoch": lambda: {"self": data.Batches(o.image_set(), 4, shuffle=True), "epoch": 1},
    "data.batches.Batches.starting_at": lambda: {"self": data.Batches(o.image_set(), 4), "step": 1},
    "data.catalogue.describe": lambda: {"name": "digits"},
    "data.catalogue.load": lambda: {"name": "digits", "root": Path(), "download": False},
    "data.curves.load_curves": lambda: {"n": 2, "size": 32},
    "data.curves.make": lambda: {"n": 2, "size": 32},
    "data.digits.load_digits": lambda: {"train": True},
    "data.folders.from_folder": lambda: {"path": _folder(), "size": 8, "train_fraction": 0.5},
    "data.glyphs.load_glyphs": lambda: {"n": 2},
    "data.photos.load_photos": lambda: {"size": 16},
    "data.scenes.Scenes.class_masks": lambda: {"self": o.scenes(), "by": "shape"},
    "data.scenes.Scenes.classes": lambda: {"self": o.scenes(), "by": ["shape", "fill"]},
    "data.scenes.Scenes.image_set": lambda: {"self": o.scenes(), "targets": "labels"},
    "data.scenes.Scenes.labels": lambda: {"self": o.scenes(), "by": "fill"},
    "data.scenes.Scenes.object_classes": lambda: {"self": o.scenes(), "by": "colour"},
    "data.scenes.Scenes.segmentation": lambda: {"self": o.scenes(), "by": "shape"},
    "data.scenes.Scenes.subset": lambda: {"self": o.scenes(), "indices": [0, 2]},
    "data.scenes.load_scenes": lambda: {"n": 2},
    "data.scenes.scenes": lambda: {"n": 2},
    "hooks.Captured": lambda: {"keep_gradients": True},
    "hooks.capture": lambda: {"model": o.model(), "names": ["features.0"]},
    "hooks.replace_output": lambda: {"model": nn.Sequential(nn.ReLU()), "name": "0", "fn": torch.neg},
    "measure.classification.accuracy": lambda: {"model": o.model(), "batches": o.batches(), "top": 2},
    "measure.classification.confusion": lambda: {"model": o.model(), "batches": o.batches(), "num_classes": 4},
    "measure.classification.per_class_accuracy": lambda: {
        "model": o.model(), "batches": o.batches(), "num_classes": 4,
    },
    "measure.counts.macs": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    "measure.counts.macs_by_module": lambda: {"model": o.model(), "example_inputs": o.inputs()},
    "measure.counts.operations": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    "measure.counts.parameters": lambda: {"model": o.model()},
    "measure.counts.summary": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    "measure.operations.OperationCounter": lambda: {"where": lambda: "here"},
    "measure.state.evaluating": lambda: {"model": o.model()},
    "measure.timing.latency": lambda: {
        "model": o.model(), "example_inputs": o.SHAPE, "warmup": 1, "repeats": 3, "threads": 1,
    },
    "measure.timing.latency_ratio": lambda: {
        "models": {"a": o.model(), "b": o.model()}, "example_inputs": o.SHAPE, "reference": "a", "warmup": 1,
        "repeats": 3, "threads": 1,
    },
    **{f"models.{name}": lambda given=given: {"num_classes": 4, **given} for name, given in NETWORKS.items()},
    "models.deepening.deepened": lambda: {"model": o.residual(), "blocks": 2, "generator": o.seeded()},
    "models.densenet_cifar.DenseNet": lambda: {"layers": 1, "growth": 2, "generator": o.seeded()},
    "models.densenet_cifar.DenseNet.forward": lambda: {"self": models.DenseNet(1, 2), "x": o.inputs()},
    "models.efficientnet_lite.EfficientNetLite.forward": lambda: {
        "self": models.EfficientNetLite(2).eval(), "x": o.normal(2, 3, 32, 32),
    },
    "models.googlenet_cifar.GoogLeNet.forward": lambda: {"self": models.GoogLeNet(2), "x": o.inputs()},
    "models.layers.ChannelMap": lambda: {"source": [0, -1, 1], "in_channels": 2, "stride": 2},
    "models.layers.ChannelMap.forward": lambda: {"self": ChannelMap([0, -1, 2], 3, 2), "x": o.inputs()},
    "models.layers.ChannelMap.set_source": lambda: {"self": ChannelMap([0], 1), "source": [0, 1], "in_channels": 2},
    "models.layers.initialise_": lambda: {"model": o.model(), "generator": o.seeded()},
    "models.layers.option_a_shortcut": lambda: {"in_channels": 2, "out_channels": 4, "stride": 2},
    "models.preresnet_cifar.PreResNet": lambda: {"blocks": 1, "width": 2, "generator": o.seeded()},
    "models.preresnet_cifar.PreResNet.forward": lambda: {"self": models.PreResNet(1, width=2), "x": o.inputs()},
    "models.resnet.BasicBlock": lambda: {"in_channels": 2, "out_channels": 4, "stride": 2},
    "models.resnet.BasicBlock.forward": lambda: {"self": models.BasicBlock(3, 4, 2), "x": o.inputs()},
    "models.resnet.ResNet": lambda: {"blocks": 1, "width": 2, "generator": o.seeded()},
    "models.resnet.ResNet.forward": lambda: {"self": o.residual(), "x": o.inputs()},
    "models.shipped.pretrained": lambda: {"name": "resnet20_glyphs"},
    "models.shipped.pretrained_record": lambda: {"name": "resnet20_glyphs"},
    "models.small.SmallCNN": lambda: {"widths": (4, 6), "pool": [0], "size": 8, "generator": o.seeded()},
    "models.small.SmallCNN.forward": lambda: {"self": o.model(), "x": o.inputs()},
    "models.small.small_cnn": lambda: {"num_classes": 4, "widths": [4, 6]},
    "models.torchvision_models.imagenet": lambda: {"name": "squeezenet1_1", "num_classes": 4},
    "models.vgg.VGG": lambda: {"depth": 11, "hidden": 4, "generator": o.seeded()},
    "models.vgg.VGG.forward": lambda: {"self": models.vgg11_bn(2).eval(), "x": o.normal(1, 3, 32, 32)},
    "proximal.hard_threshold": lambda: {"x": o.normal(3, 4), "kappa": 0.5},
    "proximal.soft_threshold": lambda: {"x": o.normal(3, 4), "kappa": 0.5},
    "proximal.transformed_l1": lambda: {"x": o.normal(3, 4), "kappa": 0.5, "a": 1.0},
    "proximal.transformed_l1_threshold": lambda: {"kappa": 0.5, "a": 1.0},
    "surgery.apply.measured_latency": lambda: {
        "model": o.model(), "example_inputs": o.SHAPE, "warmup": 1, "repeats": 2, "threads": 1,
    },
    "surgery.apply.prune": o.planned,
    "surgery.budget.make_plan": lambda: {"graph": o.graph(), "importance": surgery.criteria.l1(), "keep_macs": 0.5},
    "surgery.criteria.gradient": lambda: {"batches": o.batches(), "loss": F.cross_entropy},
    "surgery.criteria.random": lambda: {"generator": o.seeded()},
    "surgery.criteria.reverse": lambda: {"importance": surgery.criteria.l1()},
    "surgery.criteria.taylor": lambda: {"batches": o.batches(), "loss": F.cross_entropy},
    "surgery.files.load": lambda: {"path": _saved()},
    "surgery.files.save": lambda: {
        "model": o.model(), "path": Path("a.safetensors"), "builder": "small_cnn",
        "arguments": {"num_classes": 4, "widths": [4, 6]},
    },
    "surgery.gating.gated": lambda: {**o.graphed(), "gates": o.gates()},
    "surgery.gating.mask": o.planned,
    "surgery.gating.multiply": lambda: {"x": o.inputs(), "gates": o.uniform(3)},
    "surgery.gating.ungated": lambda: {"graph": o.graph()},
    "surgery.graph.ChannelGraph.cost": lambda: {"self": o.graph(), "kept": torch.ones(o.graph().units).bool()},
    "surgery.graph.ChannelGraph.group_of": lambda: {"self": o.graph(), "name": "features.0"},
    "surgery.graph.ChannelGraph.only": lambda: {"self": o.graph(), "names": ["features.0"]},
    "surgery.graph.ChannelGraph.without": lambda: {"self": o.graph(), "names": ["features.0"]},
    "surgery.graph.channel_graph": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    "surgery.iterate.iterate": lambda: {
        "model": o.model(), "example_inputs": o.SHAPE, "importance": surgery.criteria.l1(), "keep": 0.5, "rounds": 2,
        "tune": lambda network: None,
    },
    "surgery.layers.Gathered": lambda: {"selection": ChannelMap([0, 2, 1], 3), "layer": _layered()},
    "surgery.layers.Scattered": lambda: {"layer": _layered(), "spread": ChannelMap([0, -1, 1, 2, 3], 4)},
    "surgery.behind.activations_behind": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    "surgery.behind.maps_behind": lambda: {"model": o.model(), "example_inputs": o.SHAPE},
    "surgery.layers.named_layers": lambda: {"model": o.model()},
    "surgery.plan.keep_plan": lambda: {"graph": o.graph(), "keep": {"features.0": [0, 2]}},
    "surgery.reconstruction.reconstruct": o.reconstruction,
    "training.evaluate.evaluate": lambda: {
        "model": o.model(), "batches": o.batches(), "metrics": {"loss2": F.cross_entropy}, "device": "cpu",
    },
    "training.fit.fit": lambda: {
        "model": o.model(), "batches": o.batches(), "epochs": 1, "schedule": training.schedules.cosine(),
        "validate": o.batches(), "device": "cpu", "checkpoint": Path("run.pt"), "every_steps": 1, "progress": False,
        "clip_norm": 1.0,
    },
    "training.groups.no_decay": lambda: {"name": "bn1.weight", "parameter": torch.ones(4)},
    "training.groups.parameter_groups": lambda: {"model": o.model(), "rule": training.no_decay},
    "training.history.History": lambda: {"rows": [{"epoch": 0, "loss": 1.0}]},
    "training.history.History.column": lambda: {"self": _history(), "name": "loss"},
    "training.history.History.from_json": lambda: {"text": _history().to_json()},
    "training.history.History.load_state_dict": lambda: {"self": _history(), "state": _history().state_dict()},
    "training.precision.fast_precision": lambda: {"device": torch.device("cpu")},
    "training.schedules.Schedule.__call__": lambda: {
        "self": training.schedules.cosine(), "optimizer": o.sgd(o.model()), "epochs": 2, "steps": 3,
    },
    "training.schedules.cosine": lambda: {"final": 0.1},
    "training.schedules.multi_step": lambda: {"milestones": [1, 2]},
    "training.schedules.one_cycle": lambda: {"rise": 0.3},
    "training.state.State.load_state_dict": lambda: {"self": o.state(), "state": o.state().state_dict()},
    "training.state.group_of": lambda: {"optimizer": o.sgd(o.model()), "parameter": nn.Parameter(torch.ones(2))},
    "training.tuning.renewed": lambda: {"model": o.model(), "batches": o.batches()},
    "training.tuning.tune": lambda: {"model": o.model(), "batches": o.batches()},
}  # fmt: skip

AFTERWARDS = {
    "data.arrays.ImageSet.batches": list,
    "data.batches.Batches": list,
    "data.batches.Batches.set_epoch": lambda _: None,
    "hooks.capture": lambda captured: dict(captured),
    "hooks.replace_output": lambda _: None,
    "surgery.apply.measured_latency": lambda measure: measure(o.planned()["plan"]),
    **{
        f"surgery.criteria.{name}": lambda importance: importance(o.model())
        for name in ("gradient", "random", "reverse", "taylor")
    },
    **{
        f"training.schedules.{name}": lambda schedule: schedule(o.sgd(o.model()), 3, 4)
        for name in ("cosine", "multi_step", "one_cycle")
    },
}
FREE: dict[str, tuple[str, ...]] = {
    **{f"models.{name}": ("options:empty text",) for name in NETWORKS},  # adds no option
    "models.deepening.deepened": ("model:of nan",),
    **{
        f"data.{name}": ("seed:-1",)  # any whole number
        for name in ("arrays.ImageSet.batches", "arrays.ImageSet.split", "batches.Batches", "curves.load_curves",
                     "curves.make", "folders.from_folder", "glyphs.load_glyphs", "scenes.load_scenes", "scenes.scenes")
    },
    "data.arrays.ImageSet.subset": ("indices:of -1",),
    "data.scenes.Scenes.subset": ("indices:of -1",),
    **{
        f"surgery.{name}": ("model:of nan",)  # structure, numbers of operations and times do not depend on the weights
        for name in ("apply.measured_latency", "behind.activations_behind", "behind.maps_behind", "gating.gated",
                     "gating.mask", "graph.channel_graph", "layers.named_layers")
    },
    **{f"measure.counts.{name}": ("model:of nan",) for name in ("macs", "macs_by_module", "operations", "summary")},
    "measure.timing.latency": ("model:of nan",),
    "models.layers.initialise_": ("model:of nan",),  # they are drawn anew
    "data.arrays.ImageSet": ("name:unknown word", "provenance:unknown word", "provenance:empty word", "mean:of -1"),
    "surgery.reconstruction.reconstruct": tuple(  # a batch begins with its inputs; nothing else is read
        f"batches:{each}"
        for each in ("without targets", "triples", "negative targets", "targets out of range", "targets as floats",
                     "fewer targets", "targets of two dimensions")
    ),
    "surgery.files.save": (  # whatever JSON can hold; weights as they are
        "arguments:of None", "arguments:of -1", "arguments:of text", "arguments:unknown key", "model:of nan",
    ),
    "surgery.layers.Gathered": ("layer:of nan", "selection:of nan"),
    "surgery.layers.Scattered": ("layer:of nan", "spread:of nan"),
    "models.layers.ChannelMap.forward": ("x:complex64",),
    "hooks.capture": ("names:empty text", "model:of nan"),  # "" is the model itself
    "hooks.replace_output": ("name:empty word", "model:of nan", "fn:module"),
    "measure.counts.parameters": ("model:of nan",),
    "measure.operations.OperationCounter": ("where:of nothing",),
    "measure.state.evaluating": ("model:of nan",),
    "measure.timing.latency_ratio": ("models:unknown key",),  # a second model
    "models.layers.ChannelMap": ("source:of -1",),
    "models.layers.ChannelMap.set_source": ("source:of -1",),
    "training.groups.no_decay": (  # any name; only dimensions are looked at
        "name:empty word", "name:unknown word", "parameter:complex64", "parameter:sparse",
    ),
    "training.evaluate.evaluate": ("metrics:unknown key", "model:of nan"),  # any name; a loss may be NaN
    "training.groups.parameter_groups": ("model:of nan",),
    "training.state.group_of": ("parameter:complex64", "parameter:sparse"),  # is in none
    "training.tuning.renewed": (  # targets are not looked at
        "batches:without targets", "batches:triples", "batches:targets out of range", "batches:negative targets",
        "batches:targets as floats", "batches:fewer targets", "batches:targets of two dimensions",
    ),
}  # fmt: skip
