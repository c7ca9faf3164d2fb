"""What the picture "The cut you can drag" shows: one residual network, cut in several orders at several budgets.

``make dragged-cut`` computes it anew: ten minutes on one core, most of it for least squares.
``book/_static/dragged-cut.js`` draws it; no network runs in the page.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import json
import string
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import data, models, surgery, training
from compactvision.pruning.energy_aware_pruning import energy
from compactvision.pruning.lrp_pruning import lrp
from compactvision.records.texts import write_text

NETWORK = "resnet20_glyphs"
# Characters: to be answered; with labels, for the scores; without, for BatchNorm's statistics and for least squares.
TEST, SCORED, MENDED = 200, 200, 50
BUDGETS = (100, 90, 80, 70, 60, 50, 40, 30, 20)  # percent of the MACs that may stay
STATES = ("cut", "renewed", "reconstructed", "ghost", "ghost renewed")
LOTS = 3
RECONSTRUCTED = ("l1", "taylor", "energy", "relevance", "scale", "lot0")  # least squares take long: not all are mended
QUALITY = 45  # of the pictures that the reader sees; the network read the originals
ACROSS = 20  # pictures in a row of the sheet
STREAMS = {"bn1": "layer1.2.relu2", "layer2.0.bn2": "layer2.2.relu2", "layer3.0.bn2": "layer3.2.relu2"}
DIGITS, LETTERS = 9, 5  # nine digits are a number below 64 ** 5
ALPHABET = string.ascii_letters + string.digits + "-_"


def importances(graph: surgery.ChannelGraph) -> dict[str, surgery.Importance]:
    """Return the picture's orders as importances: five rules, ``reverse`` (of ``l1``), and one for each lot.

    Parameters
    ----------
    graph : ChannelGraph
        Of ``models.pretrained(NETWORK)``.
    """
    checks.instances(surgery.ChannelGraph, graph=graph)
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
    return found | {f"lot{seed}": criteria.random(torch.Generator().manual_seed(seed)) for seed in range(LOTS)}


def plans(graph: surgery.ChannelGraph, importance: surgery.Importance) -> list[surgery.Plan]:
    """Return the plan at each budget: all groups, streams too, are thinned at the same rate, by scores asked once."""
    checks.instances(surgery.ChannelGraph, graph=graph)
    checks.functions(1, importance=importance)
    scores = importance(graph.model)
    return [surgery.make_plan(graph, scores, keep_macs=budget / 100) for budget in BUDGETS]


def ghost(model: nn.Module, plan: surgery.Plan) -> nn.Module:
    """Return a copy whose removed channels are zero in front of BatchNorm, which makes constants of them.

    Parameters
    ----------
    model : Module
        The whole network, unchanged.
    plan : Plan
        What stays.

    Examples
    --------
    >>> import torch
    >>> from compactvision import dragged_cut, models, surgery
    >>> model = models.pretrained("resnet20_glyphs")
    >>> graph = surgery.channel_graph(model, (3, 32, 32))
    >>> plan = surgery.keep_plan(graph, {"layer1.0.conv1": [0, 3, 5]})
    >>> masked = dragged_cut.ghost(model, plan)
    >>> int((masked.layer1[0].conv1.weight.flatten(1) != 0).any(1).sum())
    3
    """
    checks.instances(nn.Module, model=model)
    checks.instances(surgery.Plan, plan=plan)
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


def network(model: nn.Module, plan: surgery.Plan, state: str) -> nn.Module:
    """Return what a plan makes of the network, in one of ``STATES``.

    Raises
    ------
    ValueError
        If the state is unknown.
    """
    checks.one_of(STATES, state=state)
    found = ghost(model, plan) if state.startswith("ghost") else surgery.prune(model, plan)
    known = data.load("glyphs", n=MENDED).batches(MENDED)
    if state == "reconstructed":
        found = surgery.reconstruct(model, found, plan, known)
    return training.renewed(found, known) if state.endswith("renewed") else found.eval()


def answers(model: nn.Module, plan: surgery.Plan, state: str) -> str:
    """Return which class the network in this state names for each test character, one digit each.

    Raises
    ------
    ValueError
        If the state is unknown.
    """
    cut = network(model, plan, state)
    ((images, _),) = data.load("glyphs", train=False, n=TEST).batches(TEST)
    with torch.no_grad():
        return _digits(cut(images).argmax(1))


def order(graph: surgery.ChannelGraph, name: str, importance: surgery.Importance) -> dict[str, Any]:
    """Return what the picture needs of one order; those in ``RECONSTRUCTED`` have all ``STATES``.

    ``gone`` has a letter for each unit of the groups, one after the other: "b" if it is missing from the second budget
    on, ``.`` if it stays at the last. ``macs`` are the shares that are left, and each state has its packed answers.
    """
    cuts = plans(graph, importance)
    states = [state for state in STATES if state != "reconstructed" or name in RECONSTRUCTED]
    units = torch.cat([group.units for group in graph.groups.values()])
    kept = torch.stack([plan.kept[units] for plan in cuts])  # (budgets, units)
    first = (~kept).int().argmax(0)
    gone = [string.ascii_letters[place] if not stays else "." for place, stays in zip(first, kept[-1], strict=True)]
    return {
        "gone": "".join(gone),
        "macs": [round(plan.macs / graph.macs, 4) for plan in cuts],
        "answers": {state: [packed(answers(graph.model, plan, state)) for plan in cuts] for state in states},
    }


def packed(digits: str) -> str:
    """Return digits in about half as many letters: five for each nine.

    Examples
    --------
    >>> packed("012345678")
    'aVgfo'
    """
    numbers = [int(digits[place : place + DIGITS].ljust(DIGITS, "0")) for place in range(0, len(digits), DIGITS)]
    places = [64**power for power in reversed(range(LETTERS))]
    return "".join(ALPHABET[number // place % 64] for number in numbers for place in places)


def content(orders: dict[str, dict[str, Any]], graph: surgery.ChannelGraph) -> dict[str, Any]:
    """Return all that the picture needs, ready for JSON, from each order's part."""
    test = data.load("glyphs", train=False, n=TEST)
    return {
        "network": NETWORK,
        "budgets": BUDGETS,
        "groups": [[name, group.kind, group.size] for name, group in graph.groups.items()],
        "classes": list(test.classes),
        "targets": _digits(test.targets),
        "pictures": sheet(test.images),
        "across": ACROSS,
        "mended": MENDED,
        "orders": orders,
        "torch": torch.__version__.split("+")[0],
    }


def sheet(images: Tensor) -> str:
    """Return characters (N, 3, H, W) side by side, ``ACROSS`` a row, as WebP in base64."""
    rows = [torch.cat(list(row), 2) for row in images.split(ACROSS)]
    picture = Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).contiguous().numpy())
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=6)
    return base64.b64encode(file.getvalue()).decode("ascii")


def main(arguments: list[str] | None = None) -> None:
    """Compute what the picture shows and write it as a script for the page."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.dragged_cut", description=main.__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="book/_static/dragged-cut-data.js, for the book")
    path = parser.parse_args(arguments).path
    graph = surgery.channel_graph(models.pretrained(NETWORK), (3, 32, 32))
    orders = {name: order(graph, name, importance) for name, importance in importances(graph).items()}
    text = json.dumps(content(orders, graph), separators=(",", ":"))
    write_text(path, f"window.cvDraggedCut = {text};\n")
    sys.stdout.write(f"{path}\n")


def _digits(classes: Tensor) -> str:
    return "".join(map(str, classes.tolist()))


if __name__ == "__main__":
    main()
