"""Decoders that turn a pyramid of maps into logits for each pixel, and a network of an encoder and a decoder.

A decoder takes a list of maps, fine to coarse, with the ``channels`` that it was made for, and gives logits
(B, num_classes, H_1, W_1) on the grid of the first map. It needs no encoder: maps that were computed once will do.

=======================  ============================================================  ===========================
decoder                  how one place hears of others                                 paper
=======================  ============================================================  ===========================
:class:`SegFormerHead`   it does not: enlarge, put side by side, a linear layer        :cite:t:`xie2021segformer`
:class:`FeedFormerHead`  coarse maps ask the finest one, then as above                 :cite:t:`shim2023feedformer`
:class:`LightHamHead`    all places share a few bases (a matrix factorisation)         :cite:t:`guo2022segnext`
=======================  ============================================================  ===========================

:func:`segformer`, :func:`feedformer` and :func:`segnext` make the published networks.
"""

from compactvision.models.segmentation.blocks import QueryBlock
from compactvision.models.segmentation.feedformer import FeedFormerHead
from compactvision.models.segmentation.heads import FuseHead, SegFormerHead, dead_parameters, enlarge
from compactvision.models.segmentation.lightham import LightHamHead, nmf
from compactvision.models.segmentation.networks import Segmenter, feedformer, segformer, segnext

__all__ = [
    "FeedFormerHead",
    "FuseHead",
    "LightHamHead",
    "QueryBlock",
    "SegFormerHead",
    "Segmenter",
    "dead_parameters",
    "enlarge",
    "feedformer",
    "nmf",
    "segformer",
    "segnext",
]
