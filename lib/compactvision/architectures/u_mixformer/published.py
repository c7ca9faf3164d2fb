"""The published networks, with the counts that go with them."""

from __future__ import annotations

import torch

from compactvision import _checks as checks
from compactvision.architectures.u_mixformer.decoder import UMixFormerHead
from compactvision.models.segmentation import Segmenter
from compactvision.models.segmentation.networks import LARGE, channels_of, encoder_named


def u_mixformer(
    encoder: str = "mit_b0",
    num_classes: int = 150,
    *,
    cityscapes: bool = False,
    generator: torch.Generator | None = None,
    **options,
) -> Segmenter:
    """Return U-MixFormer with an encoder by name.

    Parameters
    ----------
    encoder : str, default "mit_b0"
        "mit_b0" to "mit_b5", "lvt", "mscan_t", "mscan_s" or "mscan_b".
    num_classes : int, default 150
        Channels of the logits.
    cityscapes : bool, default False
        The decoder for large images: all maps are pooled by twice as much, and queries by 2.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.
    options
        Those of :class:`UMixFormerHead`.

    Notes
    -----
    Counts of B0: 5,044,982 parameters (6,138,252 with ``count_dead=True``), 6,079,774,720 MACs at 512 x 512.

    Examples
    --------
    >>> from compactvision import measure
    >>> with torch.device("meta"):
    ...     model = u_mixformer("mit_b0", count_dead=True)
    >>> measure.parameters(model), measure.macs(model, (3, 512, 512))
    (6138252, 6079774720)
    """
    checks.flags(cityscapes=cityscapes)
    body = encoder_named(encoder, generator)
    options.setdefault("width", 768 if encoder in LARGE else 128)
    if cityscapes:
        options.setdefault("query_pool", 2)
    return Segmenter(body, UMixFormerHead(channels_of(body), num_classes, generator=generator, **options))
