"""Really smaller networks: coupled channels, plans from scores and a budget, cutting, saving.

The way through::

    graph = surgery.channel_graph(model, (3, 32, 32))
    plan = surgery.make_plan(graph, surgery.criteria.l1(model), macs=0.5)
    small = surgery.prune(model, plan)
    surgery.save(small, "small.safetensors", builder="resnet56")
    same = surgery.load("small.safetensors")
"""

from compactvision.surgery import criteria
from compactvision.surgery.apply import mask, measured_latency, prune
from compactvision.surgery.files import load, save
from compactvision.surgery.graph import ChannelGraph, Group, Layer, channel_graph
from compactvision.surgery.iterate import Round, iterate
from compactvision.surgery.layers import Gathered, Scattered, activations_behind, named_layers
from compactvision.surgery.plan import Plan, keep_plan, make_plan

__all__ = [
    "ChannelGraph",
    "Gathered",
    "Group",
    "Layer",
    "Plan",
    "Round",
    "Scattered",
    "activations_behind",
    "channel_graph",
    "criteria",
    "iterate",
    "keep_plan",
    "load",
    "make_plan",
    "mask",
    "measured_latency",
    "named_layers",
    "prune",
    "save",
]
