"""Valid calls of boxes, the detector and its loss, and average precision."""

import torch
from compactvision import measure
from compactvision.data.scenes import scenes
from compactvision.models import detection
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from .. import objects as o

MODEL, DATA = "models.detection.", "data."


def _targets() -> Tensor:
    return torch.tensor([[[2.0, 2, 12, 10, 1], [4, 4, 14, 14, 0]], [[0.0, 0, 8, 8, 0], [-1] * 5]])


def _rows() -> list[Tensor]:
    return [_targets()[0], _targets()[1, :1]]


def _images() -> Tensor:
    return o.normal(2, 3, 16, 16)


def _maps() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4))


def _detector() -> detection.Detector:
    return detection.Detector(detection.ChosenMaps(_maps(), (0,)), (8,), (4,), 2, width=8, generator=o.seeded()).eval()


def _cells() -> detection.Cells:
    return detection.Cells(*(part.detach() for part in _detector()(_images())))


def _swin() -> SwinTransformer:
    return SwinTransformer([4, 4], 8, [1, 1], [1, 2], [2, 2], num_classes=2).eval()


def _vit() -> VisionTransformer:
    return VisionTransformer(16, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=2).eval()


def _found() -> list[measure.Detections]:
    return [measure.Detections(each[:, :4], o.uniform(len(each)), each[:, 4].long()) for each in _rows()]


def _precision() -> measure.AveragePrecision:
    return measure.average_precision(_found(), _targets())


CALLS = {
    f"{DATA}boxes.padded": lambda: {
        "boxes": [each[:, :4] for each in _rows()],
        "classes": [each[:, 4] for each in _rows()],
    },
    f"{DATA}boxes.ragged": lambda: {"targets": _targets()},
    f"{DATA}boxes.present": lambda: {"targets": _targets()},
    f"{DATA}boxes.moved": lambda: {
        "targets": _targets(),
        "top": torch.tensor([0, 1]),
        "left": torch.tensor([2, 1]),
        "mirrored": torch.tensor([0, 1]),
        "crop": 1,
        "size": (16, 16),
    },
    f"{DATA}objects.objects": lambda: {"n": 2, "shapes": ["disc", "cross"], "fills": ["dots"], "count": [1, 2]},
    f"{DATA}objects.load_objects": lambda: {"n": 2},
    f"{DATA}scenes.Scenes.boxes_with_classes": lambda: {"self": scenes(2), "by": ["shape", "fill"]},
    "measure.detection.average_precision": lambda: {
        "predictions": _found(),
        "targets": _targets(),
        "num_classes": 3,
        "thresholds": [0.5, 0.75],
        "most": 3,
    },
    "measure.detection.box_iou": lambda: {"first": _targets()[0, :, :4], "second": _targets()[1, :1, :4]},
    "measure.detection.detected": lambda: {"model": _detector(), "batches": [(_images(), _targets())]},
    "measure.detection.AveragePrecision.at": lambda: {"self": _precision(), "threshold": 0.5},
    f"{MODEL}backbones.SwinMaps": lambda: {"network": _swin(), "stages": [0, 1]},
    f"{MODEL}backbones.SwinMaps.forward": lambda: {"self": detection.SwinMaps(_swin()), "x": _images()},
    f"{MODEL}backbones.ViTMaps": lambda: {"network": _vit()},
    f"{MODEL}backbones.ViTMaps.forward": lambda: {"self": detection.ViTMaps(_vit()), "x": _images()},
    f"{MODEL}backbones.ChosenMaps": lambda: {"network": _maps(), "levels": [0]},
    f"{MODEL}backbones.ChosenMaps.forward": lambda: {"self": detection.ChosenMaps(_maps(), (0,)), "x": _images()},
    f"{MODEL}network.Detector": lambda: {
        "backbone": detection.ChosenMaps(_maps(), (0,)),
        "widths": [8],
        "strides": [4],
        "classes": 2,
        "width": 8,
        "generator": o.seeded(),
    },
    f"{MODEL}network.Detector.forward": lambda: {"self": _detector(), "x": _images()},
    f"{MODEL}network.Detector.pyramid": lambda: {"self": _detector(), "maps": [o.normal(1, 8, 4, 4)]},
    f"{MODEL}network.Detector.predict": lambda: {
        "self": _detector(),
        "images": _images(),
        "score": 0.001,
        "overlap": 0.5,
        "most": 3,
        "candidates": 10,
    },
    f"{MODEL}losses.DetectionLoss": lambda: {"alpha": 0.5, "gamma": 1.0, "radius": 1.0, "box_weight": 2.0},
    f"{MODEL}losses.DetectionLoss.__call__": lambda: {
        "self": detection.DetectionLoss(),
        "outputs": _cells(),
        "targets": _targets(),
    },
    f"{MODEL}losses.DetectionLoss.parts": lambda: {
        "self": detection.DetectionLoss(),
        "outputs": _cells(),
        "targets": _targets(),
    },
    f"{MODEL}losses.focal_loss": lambda: {
        "logits": o.normal(3),
        "targets": torch.tensor([0.0, 1, 1]),
        "alpha": 0.5,
        "gamma": 1.0,
    },
    f"{MODEL}losses.generalised_iou": lambda: {"first": _targets()[0, :, :4], "second": _targets()[0, :, :4] + 1},
    f"{MODEL}positives.positives": lambda: {
        "centres": _cells().centres,
        "strides": _cells().strides,
        "targets": _targets(),
        "radius": 1.0,
    },
    f"{MODEL}selection.survivors": lambda: {
        "boxes": _targets()[..., :4].abs(),
        "classes": torch.tensor([[0, 0], [1, 0]]),
        "there": torch.tensor([[True, True], [True, False]]),
        "overlap": 0.5,
    },
}
AFTERWARDS: dict = {}
FREE = {
    "measure.detection.detected": ("batches:negative targets", "batches:targets out of range"),  # handed on
    f"{DATA}objects.objects": ("seed:-1",),
    f"{DATA}objects.load_objects": ("seed:-1",),
}
