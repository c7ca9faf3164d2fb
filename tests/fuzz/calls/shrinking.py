"""Valid calls of what makes a network of one's own smaller."""

import torch
from compactvision import shrinking, surgery
from torch import nn


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def _batches():
    torch.manual_seed(0)
    return [(torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])) for _ in range(2)]


def _report():
    rows = (shrinking.Row("whole", "whole network", metric=0.5), shrinking.Row("cut", "right after", metric=0.25))
    budget = {"name": "keep_macs", "asked": 0.5, "reached": 0.5, "met": True, "whole": 10}
    return shrinking.Report(rows, "accuracy", 4, budget, {})


def _compress():
    return {
        "model": _network(),
        "train_batches": _batches(),
        "test_batches": _batches(),
        "keep_macs": 0.8,
        "epochs": 1,
        "learning_rate": 0.01,
        "rivals": (),
    }


CALLS = {
    "shrinking.folding.folded": lambda: {"model": _network(), "example_inputs": (1, 6, 6)},
    "shrinking.report.Report.from_json": lambda: {"text": _report().to_json()},
    "shrinking.report.Report.measured": lambda: {"self": _report(), "stages": ("whole",)},
    "shrinking.scan.sensitivity": lambda: {
        "graph": surgery.channel_graph(_network(), (1, 6, 6)),
        "importance": surgery.criteria.l1(),
        "batches": _batches(),
    },
    "shrinking.whole.compress": _compress,
}
AFTERWARDS: dict = {}
FREE: dict[str, tuple[str, ...]] = {
    "shrinking.report.Report.measured": ("stages",),
    "shrinking.whole.compress": ("journal",),
}
