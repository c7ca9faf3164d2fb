"""The options of ``python -m compactvision shrink``."""

from __future__ import annotations

import argparse
from pathlib import Path

from compactvision.shrinking.arguments import CRITERIA, RIVALS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    given = parser.add_argument
    given("--model", required=True, metavar="NETWORK",
          help="torchvision:resnet18, timm:NAME, compactvision:NAME, or module.py:build")  # fmt: skip
    given("--weights", type=Path, metavar="FILE", help="its weights: safetensors, or a state dictionary of torch")
    given("--data", type=Path, required=True, metavar="FOLDER",
          help="pictures: train/ and test/ with a folder a class, or a folder a class, which is split")  # fmt: skip
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--keep-macs", type=float, metavar="SHARE", help="share of the MACs that may be left, such as 0.6"
    )
    budget.add_argument("--latency-ms", type=float, metavar="MS", help="milliseconds that one picture may take here")
    given(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where everything is written; a run that stopped goes on",
    )
    given("--minutes", type=float, help="time for everything; of it half a minute for ONNX, which some networks exceed")
    given("--device", default="auto", help="auto, cpu, cuda or mps")
    given("--plan-only", action="store_true", help="say what would be cut, and tune nothing")
    given("--importance", default="taylor", choices=CRITERIA,
          help="the criterion that says what stays: by default taylor, which reads labels; l1 reads none. After a mild "
          "cut and tuning they end close together (compared in the chapter on your own network)")  # fmt: skip
    given("--rivals", nargs="*", default=list(RIVALS), choices=RIVALS, help="what the small network is compared with")
    given("--epochs", type=float, help="passes of tuning; by default 3, with --minutes as many as there is time for")
    given(
        "--first-epochs",
        type=int,
        default=5,
        metavar="N",
        help="passes over the pictures for a network that is not trained",
    )
    given("--learning-rate", type=float, default=0.02)
    given("--frozen-batch-norm", action="store_true", help="tune with BatchNorm's statistics as they are")
    given("--size", type=int, help="pixels of a side; by default the pictures' usual short side, at most 224")
    given("--batch-size", type=int, default=64)
    given("--crop", type=int, help="pixels by which training pictures are moved at random; an eighth of the side")
    given("--flip", action="store_true", help="mirror training pictures at random")
    given("--mean", type=float, nargs=3, metavar="X", help="what the network's pictures are normalised by, in [0, 1]")
    given("--std", type=float, nargs=3, metavar="X")
    given("--test-share", type=float, default=0.2, help="of a folder that is split")
    given("--pickle", action="store_true", help="write the whole module with pickle as well; reading it runs code")
    given("--no-onnx", action="store_true", help="write no ONNX file")
    given("--seed", type=int, default=0)
