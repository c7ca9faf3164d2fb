"""A network of an encoder and a decoder, and the published ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models import encoders
from compactvision.models.segmentation.feedformer import FeedFormerHead
from compactvision.models.segmentation.heads import SegFormerHead, enlarge
from compactvision.models.segmentation.lightham import LightHamHead


class Segmenter(nn.Module):
    """Encoder, decoder, and logits enlarged to the images.

    Parameters
    ----------
    encoder : nn.Module
        Maps images (B, 3, H, W) to a list of maps, fine to coarse.
    decoder : nn.Module
        Maps that list to logits (B, K, H / s, W / s).
    enlarged : bool, default True
        Whether the logits are bilinearly enlarged to (B, K, H, W), as loss and score want them.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, enlarged: bool = True) -> None:
        super().__init__()
        checks.networks(encoder=encoder, decoder=decoder)
        checks.flags(enlarged=enlarged)
        self.encoder, self.decoder, self.enlarged = encoder, decoder, enlarged

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, K, H, W), or on the decoder's grid."""
        logits = self.decoder(self.encoder(x))
        return enlarge(logits, (x.shape[2], x.shape[3])) if self.enlarged else logits


ENCODERS = ("mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5", "lvt", "mscan_t", "mscan_s", "mscan_b")
"""Names of the published encoders."""

LARGE = ("mit_b2", "mit_b3", "mit_b4", "mit_b5")
"""Encoders whose decoders are 768 wide."""


def encoder_named(name: str, generator: torch.Generator | None = None) -> nn.Module:
    """Return an encoder of :mod:`compactvision.models.encoders` by name; a ValueError where there is none."""
    checks.one_of(ENCODERS, encoder=name)
    return getattr(encoders, name)(generator=generator)


def channels_of(encoder: nn.Module) -> tuple[int, ...]:
    """Return the widths of an encoder's maps, fine to coarse; a ValueError where it does not say them."""
    checks.networks(encoder=encoder)
    channels = getattr(encoder, "channels", None)
    if not isinstance(channels, tuple):
        raise ValueError(f"encoder must have channels, the widths of its maps, got {checks.shown(encoder)}")
    return channels


def segformer(encoder: str = "mit_b0", num_classes: int = 150, **options) -> Segmenter:
    """Return SegFormer with an encoder by name; ``options`` are those of :class:`SegFormerHead`.

    Counts of B0: 3,753,718 parameters, 8,387,821,568 MACs at 512 x 512.
    """
    body = encoder_named(encoder, options.get("generator"))
    options.setdefault("width", 768 if encoder in LARGE else 256)
    return Segmenter(body, SegFormerHead(channels_of(body), num_classes, **options))


def feedformer(encoder: str = "mit_b0", num_classes: int = 150, **options) -> Segmenter:
    """Return FeedFormer with an encoder by name; ``options`` are those of :class:`FeedFormerHead`.

    Counts of B0: 4,415,126 parameters (4,453,676 with ``count_dead=True``), 7,760,904,192 MACs at 512 x 512.
    """
    body = encoder_named(encoder, options.get("generator"))
    options.setdefault("width", 768 if encoder in LARGE else 128)
    return Segmenter(body, FeedFormerHead(channels_of(body), num_classes, **options))


def segnext(encoder: str = "mscan_t", num_classes: int = 150, **options) -> Segmenter:
    """Return SegNeXt with an encoder by name; ``options`` are those of :class:`LightHamHead`.

    Counts of T: 4,263,414 parameters, 6,404,341,760 MACs at 512 x 512 (7 steps of the factorisation).
    """
    body = encoder_named(encoder, options.get("generator"))
    options.setdefault("width", 512 if encoder == "mscan_b" else 256)
    return Segmenter(body, LightHamHead(channels_of(body), num_classes, **options))
