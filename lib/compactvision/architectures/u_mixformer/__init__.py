"""U-MixFormer: a decoder in which each encoder map asks a mix of all levels :cite:p:`yeom2025umixformer`.

The decoder goes from coarse to fine. At each level the encoder's map asks (queries), and a *mixed* map answers (keys
and values): all levels, pooled to the coarsest grid, side by side. What a level has become takes its old map's place in
the next mix, as in a U-Net::

    encoder = encoders.mit_b0()
    decoder = UMixFormerHead(encoder.channels, num_classes=150)
    logits = decoder(encoder(images))  # (B, 150, H / 4, W / 4)

:class:`KeyValueMixer` is the mix, :class:`~compactvision.models.segmentation.QueryBlock` what asks it, and
:func:`u_mixformer` makes the published networks. ``decoder.look(maps)`` tells who took how much from where.
"""

from . import decoder, frozen, looking, mixing, published, rivals
from .decoder import UMixFormerHead
from .mixing import KeyValueMixer
from .published import u_mixformer

__all__ = [
    "KeyValueMixer",
    "UMixFormerHead",
    "decoder",
    "frozen",
    "looking",
    "mixing",
    "published",
    "rivals",
    "u_mixformer",
]
