"""Encoders that give a pyramid: a list of maps, fine to coarse, at strides 4, 8, 16 and 32.

Each has ``channels``, the widths of its maps in that order, which a decoder takes::

    encoder = encoders.mit_b0()
    decoder = segmentation.SegFormerHead(encoder.channels, num_classes=19)
    logits = decoder(encoder(images))
"""

from compactvision.models.encoders.lvt import LVT, lvt
from compactvision.models.encoders.mit import MiT, mit_b0, mit_b1, mit_b2, mit_b3, mit_b4, mit_b5
from compactvision.models.encoders.mscan import MSCAN, mscan_b, mscan_s, mscan_t
from compactvision.models.encoders.published import load_published_

__all__ = [
    "LVT",
    "MSCAN",
    "MiT",
    "load_published_",
    "lvt",
    "mit_b0",
    "mit_b1",
    "mit_b2",
    "mit_b3",
    "mit_b4",
    "mit_b5",
    "mscan_b",
    "mscan_s",
    "mscan_t",
]
