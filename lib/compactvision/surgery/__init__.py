"""Really smaller networks: coupled channels, plans from an importance and a budget, cutting, saving.

The way through::

    graph = surgery.channel_graph(model, (3, 32, 32))
    plan = surgery.make_plan(graph, surgery.criteria.l1(), keep_macs=0.5)
    small = surgery.prune(model, plan)
    surgery.save(small, "small.safetensors", builder="resnet56")
    same = surgery.load("small.safetensors")
"""

from compactvision.surgery import criteria
from compactvision.surgery.apply import measured_latency, prune
from compactvision.surgery.attention import block_scores, cut_dimensions, insert_scores, mask_dimensions
from compactvision.surgery.behind import activations_behind, maps_behind
from compactvision.surgery.blocks import Block, Site, find_blocks
from compactvision.surgery.budget import make_plan
from compactvision.surgery.criteria import Importance
from compactvision.surgery.descriptions import SelfDescribing
from compactvision.surgery.files import load, save
from compactvision.surgery.gating import gated, mask, multiply, ungated
from compactvision.surgery.graph import ChannelGraph, Group, Layer, channel_graph
from compactvision.surgery.iterate import Round, iterate
from compactvision.surgery.layers import Gathered, Scattered, named_layers
from compactvision.surgery.plan import Plan, keep_plan
from compactvision.surgery.ranking import Scores
from compactvision.surgery.reconstruction import reconstruct

__all__ = [
    "Block",
    "ChannelGraph",
    "Gathered",
    "Group",
    "Importance",
    "Layer",
    "Plan",
    "Round",
    "Scattered",
    "Scores",
    "SelfDescribing",
    "Site",
    "activations_behind",
    "block_scores",
    "channel_graph",
    "criteria",
    "cut_dimensions",
    "find_blocks",
    "gated",
    "insert_scores",
    "iterate",
    "keep_plan",
    "load",
    "make_plan",
    "maps_behind",
    "mask",
    "mask_dimensions",
    "measured_latency",
    "multiply",
    "named_layers",
    "prune",
    "reconstruct",
    "save",
    "ungated",
]
