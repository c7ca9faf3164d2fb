"""Proximal slimming's networks for CIFAR-10: one training by the published code's numbers, one cut, no tuning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from compactvision import models, surgery
from compactvision.pruning import proximal_network_slimming as slim
from compactvision.queue.job import Job
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value

FILES = (
    "proximal.py",
    "pruning/proximal_network_slimming",
    "queue/arms/proximal_network_slimming.py",
    "surgery/apply.py",
    "surgery/budget.py",
    "surgery/graph.py",
    "training/fit.py",
)
SOURCE = "Bui et al. 2023, their code"
NETWORKS: dict[str, tuple[str, Callable[..., nn.Module], str, float, float]] = {  # residual form, penalty, beta
    "vgg19": ("VGG-19", models.vgg19_bn, "grouped", 0.0045, 100.0),
    "resnet164": ("pre-activation ResNet-164", models.preresnet164, "gather", 0.002, 0.25),
    "densenet40": ("DenseNet-40", models.densenet40, "gather", 0.004, 100.0),
}


def _run(job: Job, build: Callable[..., nn.Module], residual: str, penalty: float, beta: float) -> dict[str, Value]:
    """Train with the copies' steps, cut what they set to zero, and judge the last epoch."""
    arm = job.entry.arm
    model = build(generator=job.generator()).to(job.device)
    slim.steps.reset_batch_norm_(model)
    slimming = slim.ProximalSlimming(penalty, beta, generator=job.generator(1))
    last, best = job.fit(model, [slimming])
    graph = slim.behind_scales(surgery.channel_graph(model, (3, 32, 32), residual=residual))
    plan = surgery.make_plan(graph, slimming.importance, keep_above=0.0)
    small, zeros = surgery.prune(model, plan), slimming.zeros()
    return {
        f"{arm}.cut": job.accuracy(small),
        f"{arm}.folded": job.accuracy(slim.fold_shifts(model, plan)),
        f"{arm}.last_epoch": last,
        f"{arm}.best_epoch": best,
        f"{arm}.zero_copies": zeros["copies"] / zeros["channels"],
        f"{arm}.removed": int((~plan.kept).sum()),
        f"{arm}.macs": plan.macs / graph.macs,
        f"{arm}.parameters": plan.parameters / graph.parameters,
    }


ARMS = {
    arm: Arm(
        Recipe(name, 160, 64, 0.1, 1e-4, "steps", f"{SOURCE}: penalty {penalty}, beta {beta}"),
        partial(_run, build=build, residual=residual, penalty=penalty, beta=beta),
        FILES,
    )
    for arm, (name, build, residual, penalty, beta) in NETWORKS.items()
}
