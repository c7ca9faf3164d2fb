"""What the page "Try it" needs to cut a network in the reader's browser (``make generated`` writes it for the book).

The network itself goes as the bytes of its safetensors file; ``book/_static/cut-network.js`` reads, cuts and runs it.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import data, measure, models, surgery
from compactvision.models import shipped
from compactvision.records.texts import write_text
from compactvision.surgery.ranking import rank

NETWORK = "small_cnn_glyphs"
TEST, SCORED, RENEWAL = 200, 200, 50  # characters: to be answered, for the scores, for BatchNorm's statistics
LARGEST_MACS, LARGEST_WEIGHTS = 2_000_000, 300_000  # for an image; characters of text


def description(model: nn.Module) -> dict[str, Any]:
    """Return the order of a network's layers, for those who know a chain of blocks only.

    Parameters
    ----------
    model : nn.Module
        :class:`compactvision.models.SmallCNN` with BatchNorm, average pooling in the end and widths that the page's
        code can halve: blocks of a 3 x 3 convolution, BatchNorm, ReLU and perhaps 2 x 2 max-pooling.

    Returns
    -------
    dict
        ``blocks``, a list of names of convolution (``conv``) and BatchNorm (``norm``) and of whether a pooling follows
        (``pool``); ``head``, the name of the linear layer.

    Raises
    ------
    ValueError
        If the network is another.

    Examples
    --------
    >>> from compactvision import in_browser, models
    >>> in_browser.description(models.small_cnn(widths=(4, 8)))["blocks"][1]
    {'conv': 'features.4', 'norm': 'features.5', 'pool': False}
    """
    checks.instances(models.SmallCNN, model=model)
    layers = [*model.features.named_children(), ("", None)]
    if not any(isinstance(module, nn.BatchNorm2d) for _, module in layers):
        raise ValueError(f"model: the page's code runs blocks with BatchNorm, got {checks.shown(model.features[1])}")
    if not isinstance(model.avgpool, nn.AdaptiveAvgPool2d):
        raise ValueError(f"model: the page's code ends in an average pooling, got {checks.shown(model.avgpool)}")
    blocks = [
        {
            "conv": f"features.{name}",
            "norm": f"features.{layers[place + 1][0]}",
            "pool": isinstance(layers[place + 3][1], nn.MaxPool2d),
        }
        for place, (name, module) in enumerate(layers)
        if isinstance(module, nn.Conv2d)
    ]
    return {"blocks": blocks, "head": "classifier"}


def scores(model: nn.Module, importance: surgery.Importance) -> list[list[float]]:
    """Return an importance's score for each channel of each block, in their order: what ``make_plan`` compares.

    Parameters
    ----------
    model : nn.Module
        As :func:`description` has it, for images of 32 x 32 pixels.
    importance : callable
        From the model to scores by layer.

    Raises
    ------
    ValueError
        If the network is another, or the scores do not suit it.

    Examples
    --------
    >>> from compactvision import in_browser, models, surgery
    >>> model = models.small_cnn(widths=(4, 8))
    >>> [len(block) for block in in_browser.scores(model, surgery.criteria.l1())]
    [4, 8]
    """
    blocks = description(model)["blocks"]
    checks.functions(1, importance=importance)
    graph = surgery.channel_graph(model, (model.features[0].in_channels, 32, 32))
    found = rank(graph, importance(model)).scores
    return [found[graph.group_of(block["conv"]).units].tolist() for block in blocks]


def payload() -> dict[str, Any]:
    """Return all that the page needs, ready for JSON: network, scores, characters to answer, characters to renew with.

    ``weights`` are the bytes of the shipped file in base64, ``images`` those of characters (N, 3, 32, 32) in 0..255.

    Raises
    ------
    ValueError
        If the network has more than two million MACs, or its weights take more than 300 kB of text.
    """
    model = models.pretrained(NETWORK)
    test = data.load("glyphs", train=False, n=TEST)
    known = data.load("glyphs", train=True, n=SCORED)
    size = test.images.shape[-1]
    weights = _text((shipped.WEIGHTS / f"{NETWORK}.safetensors").read_bytes())
    macs = measure.macs(model, test.images.shape[1:])
    if macs > LARGEST_MACS or len(weights) > LARGEST_WEIGHTS:
        raise ValueError(f"{NETWORK}: {macs:,} MACs and {len(weights):,} characters of weights are too much for a page")
    taylor = surgery.criteria.taylor(known.batches(100))
    return {
        "network": {**description(model), "size": size, "weights": weights},
        "macs": macs,
        "parameters": measure.parameters(model),
        "scores": {"l1": scores(model, surgery.criteria.l1()), "taylor": scores(model, taylor)},
        "classes": list(test.classes),
        "mean": list(test.mean),
        "std": list(test.std),
        "test": {"images": _bytes(test.images), "targets": test.targets.tolist()},
        "renewal": {"images": _bytes(known.images[:RENEWAL])},
    }


def page(content: dict[str, Any]) -> str:
    """Return the piece of HTML that the page includes: a :func:`payload` as JSON in a script that nobody runs."""
    text = json.dumps(content, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json" id="cv-try-it-data">{text}</script>\n'


def main(arguments: list[str] | None = None) -> None:
    """Write the network of the page "Try it" into a file, if it is not there as it would be."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.in_browser", description=main.__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="book/generated/try-it.html, for the book")
    path = parser.parse_args(arguments).path
    text = page(payload())
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    sys.stdout.write(f"{path}\n")


def _bytes(images: Tensor) -> str:
    return _text(images.contiguous().numpy().tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


if __name__ == "__main__":
    main()
