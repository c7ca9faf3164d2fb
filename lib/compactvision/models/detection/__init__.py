"""A small anchor-free detector on any backbone that gives feature maps, and its loss.

:class:`Detector` joins a backbone, a pyramid of one or more levels and a head shared by all levels, as FCOS does
(Tian et al. 2019). Each cell of each level says, for every class, whether an object lies there, and how far the
sides of its box are from the cell's centre. :class:`DetectionLoss` compares that with boxes;
:meth:`Detector.predict` turns it into boxes. Nothing is compiled, and nothing loops over cells, images or windows.

Boxes of a batch are one padded tensor (B, M, 5), ``(x0, y0, x1, y1, class)`` in pixels with -1 where there is no
object, see :mod:`compactvision.data.boxes`.

A backbone is a module that maps images (B, 3, H, W) to a list of maps (B, C_i, H_i, W_i), fine to coarse:
:class:`SwinMaps` and :class:`ViTMaps` make one of torchvision's transformers, :class:`ChosenMaps` one of the encoders
of this package, or of a network of timm made with ``features_only=True``.
"""

from compactvision.models.detection.backbones import ChosenMaps, SwinMaps, ViTMaps
from compactvision.models.detection.losses import DetectionLoss, focal_loss, generalised_iou
from compactvision.models.detection.network import Cells, Detector
from compactvision.models.detection.positives import positives
from compactvision.models.detection.selection import survivors

__all__ = [
    "Cells",
    "ChosenMaps",
    "DetectionLoss",
    "Detector",
    "SwinMaps",
    "ViTMaps",
    "focal_loss",
    "generalised_iou",
    "positives",
    "survivors",
]
