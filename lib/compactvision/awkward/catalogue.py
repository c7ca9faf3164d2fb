"""The networks that are tried: torchvision's and timm's, without weights, with few classes and small images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

CLASSES = 10
_SEGMENTING = ("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")


@dataclass(frozen=True)
class Network:
    """A ready-made network.

    Attributes
    ----------
    source : {"torchvision", "timm"}
        The package that builds it.
    name : str
        Its name there.
    size : int
        Height and width of the images that it is tried on.
    options : mapping
        Further arguments of its builder.
    """

    source: str
    name: str
    size: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return it in evaluation mode, with weights that are the same at each call.

        Raises
        ------
        ValueError
            If the package that builds it is not installed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _timm(self) if self.source == "timm" else _torchvision(self)
        return model.eval()


def _timm(network: Network) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ValueError(f"network {network.name!r} needs the package timm: pip install timm") from None
    return timm.create_model(network.name, pretrained=False, num_classes=CLASSES, **network.options)


def _torchvision(network: Network) -> nn.Module:
    from torchvision import models

    if network.name == "fasterrcnn_resnet50_fpn.backbone":
        detector = models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        return detector.backbone
    if network.name in _SEGMENTING:
        builder = getattr(models.segmentation, network.name)
        return builder(weights=None, weights_backbone=None, num_classes=CLASSES)
    return getattr(models, network.name)(weights=None, num_classes=CLASSES, **network.options)


_WITH_HEADS = {"aux_logits": True, "init_weights": False}
_FROM_TORCHVISION = (
    ("resnet18", 64, {}),
    ("resnet50", 64, {}),
    ("mobilenet_v2", 64, {}),
    ("mobilenet_v3_small", 64, {}),
    ("efficientnet_b0", 64, {}),
    ("densenet121", 64, {}),
    ("googlenet", 64, _WITH_HEADS),
    ("inception_v3", 299, _WITH_HEADS),
    ("squeezenet1_1", 64, {}),
    ("mnasnet0_5", 64, {}),
    ("vgg16_bn", 64, {}),
    ("regnet_y_400mf", 64, {}),
    ("resnext50_32x4d", 64, {}),
    ("shufflenet_v2_x1_0", 64, {}),
    ("convnext_tiny", 64, {}),
    ("vit_b_16", 64, {"image_size": 64}),
    ("swin_t", 64, {}),
    ("deeplabv3_mobilenet_v3_large", 64, {}),
    ("lraspp_mobilenet_v3_large", 64, {}),
    ("fasterrcnn_resnet50_fpn.backbone", 64, {}),
)
_FROM_TIMM = (
    ("resnet18", 64, {}),
    ("resnet26d", 64, {}),
    ("dla34", 64, {}),
    ("vgg11_bn", 64, {}),
    ("selecsls42b", 64, {}),
    ("hrnet_w18_small", 64, {}),
    ("efficientnet_b0", 64, {}),
    ("mobilenetv3_small_100", 64, {}),
    ("hardcorenas_a", 64, {}),
    ("repvgg_a0", 64, {}),
    ("mobileone_s0", 64, {}),
    ("fastvit_t8", 64, {}),
    ("cspresnet50", 64, {}),
    ("eca_resnet33ts", 64, {}),
    ("inception_v4", 128, {}),
    ("xception41", 96, {}),
    ("dpn48b", 64, {}),
    ("ghostnet_100", 64, {}),
    ("res2net50_26w_4s", 64, {}),
    ("skresnet18", 64, {}),
    ("nfnet_l0", 64, {}),
    ("poolformer_s12", 64, {}),
    ("convnext_atto", 64, {}),
    ("vit_tiny_patch16_224", 64, {"img_size": 64}),
    ("mixer_s32_224", 64, {"img_size": 64}),
    ("resnetblur18", 64, {}),
)
NETWORKS = tuple(
    Network(source, *each)
    for source, listed in (("torchvision", _FROM_TORCHVISION), ("timm", _FROM_TIMM))
    for each in listed
)
"""All of them, in the order of the table."""
