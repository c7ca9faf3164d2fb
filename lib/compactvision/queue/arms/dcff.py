"""Filter fusion on CIFAR-10 by the published code's rule, rates and schedule."""

from __future__ import annotations

import torch

from compactvision.pruning import dcff
from compactvision.queue.job import Job
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value

FILES = ("pruning/dcff", "queue/arms/dcff.py", "surgery/apply.py", "surgery/graph.py", "training/fit.py")
SOURCE = "Lin et al. 2021, their code"
NETWORKS = {"vgg16": "VGG-16", "resnet56": "ResNet-56", "resnet110": "ResNet-110", "googlenet": "GoogLeNet"}


def _run(job: Job) -> dict[str, Value]:
    """Train by fusion; the published accuracy is that of the best epoch on the test images."""
    arm = job.entry.arm
    torch.manual_seed(job.seed)
    full, narrow = dcff.published.full_network(NETWORKS[arm]), dcff.published.narrow_network(NETWORKS[arm])
    model = dcff.fuse(narrow, full, generator=job.generator()).to(job.device)
    fusion = dcff.DynamicFusion(dcff.rules.official)
    _, best = job.fit(model, [fusion])
    return {
        f"trained.{arm}": best,
        f"trained.{arm}.last_epoch": job.accuracy(dcff.compact(model)),
        f"trained.{arm}.swaps": sum(sum(epoch.values()) for epoch in fusion.swaps()),
    }


ARMS = {
    arm: Arm(Recipe(f"{name}, narrow", 300, 256, 0.1, 5e-4, "steps", SOURCE), _run, FILES)
    for arm, name in NETWORKS.items()
}
