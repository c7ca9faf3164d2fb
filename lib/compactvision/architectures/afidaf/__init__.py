"""AFIDAF: filters in the Fourier and in the image domain, one after the other (Zheng et al. 2024).

:class:`FourierFilter` (AFF) multiplies the spectrum by a mask that is made from the spectrum, :class:`ImageFilter`
(IDAF) multiplies the maps by the output of a large window, :class:`AlternatingFilter` does both::

    network = afidaf("small")
    logits = network(images)  # (B, 1000)

``skeleton`` swaps the mixer of one small network, ``swin`` the attention of a small Swin, and ``pictures`` draws what
the chapter cleans of noise.
"""

from . import filters, pictures, published, skeleton, swin
from .filters import AlternatingFilter, FourierFilter, ImageFilter, shuffle
from .published import FilterNet, afidaf

__all__ = [
    "AlternatingFilter",
    "FilterNet",
    "FourierFilter",
    "ImageFilter",
    "afidaf",
    "filters",
    "pictures",
    "published",
    "shuffle",
    "skeleton",
    "swin",
]
