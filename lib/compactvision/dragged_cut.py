"""What the picture "The cut you can drag" shows: one residual network, cut by several rules at several budgets.

``python -m compactvision.dragged_cut book/_static/dragged-cut-data.js`` computes it anew, in a few minutes.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from compactvision import data, models, surgery, training
from compactvision.pruning.energy_aware_pruning import energy
from compactvision.pruning.lrp_pruning import lrp
from compactvision.records.texts import write_text

NETWORK = "resnet20_glyphs"
TEST, SCORED, RENEWAL = 200, 200, 50  # characters: to be answered, for the scores, for BatchNorm's statistics
BUDGETS = (100, 95, 90, 80, 70, 60, 50, 40, 30, 20)  # percent of the MACs that may stay
STATES = ("cut", "renewed", "ghost", "ghost renewed")
LOTS = 3
QUALITY = 45  # of the pictures that the reader sees; the network read the originals
STREAMS = {"bn1": "layer1.2.relu2", "layer2.0.bn2": "layer2.2.relu2", "layer3.0.bn2": "layer3.2.relu2"}


def rules(graph: surgery.ChannelGraph) -> dict[str, dict[str, Tensor]]:
    """Return the scores by each rule of the picture."""
    known = data.load("glyphs", n=SCORED).batches(100)
    inner = {
        name.replace("conv1", "bn1"): name.replace("conv1", "relu1")
        for name, group in graph.groups.items()
        if group.kind == "inner"
    }
    criteria = surgery.criteria
    found = {
        "l1": criteria.l1(),
        "taylor": criteria.taylor(known),
        "energy": energy(known, layers=inner | STREAMS),
        "relevance": lrp(known),
        "scale": criteria.batch_norm_scale(),
        "reverse": criteria.reverse(criteria.l1()),
    }
    lots = [criteria.random(torch.Generator().manual_seed(seed)) for seed in range(LOTS)]
    found |= {f"random{seed}": lot for seed, lot in enumerate(lots)}
    return {name: importance(graph.model) for name, importance in found.items()}


def ghost(model: nn.Module, plan: surgery.Plan) -> nn.Module:
    """Return a copy whose removed channels are zero in front of BatchNorm, which makes constants of them."""
    masked = copy.deepcopy(model)
    for name, layer in plan.graph.layers.items():
        written = plan.kept[layer.writes]
        module = masked.get_submodule(name)
        if layer.kind == "conv":
            module.weight.data[~written] = 0
        elif layer.kind == "map":
            source = torch.where(written, module.source, -1)
            module.set_source(source.tolist(), layer.reads.numel())
    return masked


def answers(model: nn.Module, plan: surgery.Plan, state: str) -> Tensor:
    """Return which class the network in this state names for each test character (200,)."""
    network = ghost(model, plan) if state.startswith("ghost") else surgery.prune(model, plan)
    if state.endswith("renewed"):
        network = training.renewed(network, data.load("glyphs", n=RENEWAL).batches(RENEWAL))
    ((images, _),) = data.load("glyphs", train=False, n=TEST).batches(TEST)
    with torch.no_grad():
        return network.eval()(images).argmax(1)


def content() -> dict[str, Any]:
    """Return all that the picture needs, ready for JSON."""
    model = models.pretrained(NETWORK)
    graph = surgery.channel_graph(model, (3, 32, 32))
    test = data.load("glyphs", train=False, n=TEST)
    cells = {}
    for rule, scores in rules(graph).items():
        cells[rule] = []
        for budget in BUDGETS:
            plan = surgery.make_plan(graph, scores, keep_macs=budget / 100)
            cells[rule].append(
                {
                    "macs": round(plan.macs / graph.macs, 4),
                    "kept": ["".join(str(int(k)) for k in plan.kept[g.units]) for g in graph.groups.values()],
                    **{s: "".join(map(str, answers(model, plan, s).tolist())) for s in STATES},
                }
            )
    return {
        "network": NETWORK,
        "budgets": BUDGETS,
        "groups": [[name, group.kind, len(group.writers)] for name, group in graph.groups.items()],
        "classes": list(test.classes),
        "targets": "".join(map(str, test.targets.tolist())),
        "pictures": _sheet(test.images),
        "cells": cells,
        "torch": torch.__version__.split("+")[0],
    }


def main(arguments: list[str] | None = None) -> None:
    """Compute what the picture shows and write it as a script for the page."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.dragged_cut", description=main.__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="book/_static/dragged-cut-data.js, for the book")
    path = parser.parse_args(arguments).path
    write_text(path, f"window.cvDraggedCut = {json.dumps(content(), separators=(',', ':'))};\n")
    sys.stdout.write(f"{path}\n")


def _sheet(images: Tensor) -> str:
    """Return the characters (N, 3, H, W) side by side, twenty a row, as WebP in base64."""
    rows = [torch.cat(list(row), 2) for row in images.split(20)]
    sheet = Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).contiguous().numpy())
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=QUALITY, method=6)
    return base64.b64encode(file.getvalue()).decode("ascii")


if __name__ == "__main__":
    main()
