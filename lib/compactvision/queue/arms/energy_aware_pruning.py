"""ResNets cut by energy to the abstract's shares of operations and parameters, and tuned.

The paper's schedule could not be confirmed. Tuned is as its authors' next paper logs it (Castells and Yeom 2021); the
claim takes the last epoch.
"""

from __future__ import annotations

from itertools import islice

from torch import Tensor, nn

from compactvision import models, surgery
from compactvision.pruning import energy_aware_pruning
from compactvision.queue.arms import baselines
from compactvision.queue.job import Job
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value

FILES = (
    "pruning/energy_aware_pruning.py",
    "queue/arms/baselines.py",
    "queue/arms/energy_aware_pruning.py",
    "surgery/apply.py",
    "surgery/budget.py",
    "surgery/graph.py",
    "surgery/ranking.py",
    "training/fit.py",
)
TUNING = "Castells and Yeom 2021, their logs; this paper's own is not confirmed"
REMOVED = {  # shares removed in stages 1 to 3, of the streams and inside: the chapter's reconstruction
    "resnet56": ((0.25, 0.25, 0.0), (0.0, 0.35, 0.45)),
    "resnet110": ((0.25, 0.0, 0.0), (0.35, 0.4, 0.55)),
}
BATCHES = 5
IMAGE = (3, 32, 32)


def start(arm: str, job: Job) -> nn.Module:
    """Return the trained network, its stem untied from the first stage's stream."""
    model = baselines.trained(arm, job)
    model.layer1[0].shortcut = models.ChannelMap(range(16), 16)
    return model


def keeps(arm: str, graph: surgery.ChannelGraph) -> dict[str, float]:
    """Return the share of each group that stays; the stem's is whole."""
    streams, inside = REMOVED[arm]
    shares = {}
    for name in graph.groups:
        if name != "conv1":
            stage = int(name[5]) - 1
            shares[name] = 1 - (inside if name.endswith("conv1") else streams)[stage]
    return shares


def _kept(arm: str, job: Job, graph: surgery.ChannelGraph) -> dict[str, Tensor]:
    train, _ = job.images
    rows = train.batches(job.recipe.batch_size // 2, shuffle=True, seed=job.seed)
    layers = dict(surgery.activations_behind(graph.model, IMAGE))
    layers |= {
        name: name.removesuffix("bn2") + "relu2"
        for name, _, _ in surgery.named_layers(graph.model)
        if name.endswith("bn2")
    }
    importance = energy_aware_pruning.energy(list(islice(rows, BATCHES)), layers=layers)
    return {"kept": surgery.make_plan(graph, importance, keep=keeps(arm, graph)).kept}


def _run(job: Job) -> dict[str, Value]:
    arm = job.entry.arm
    model = start(arm, job)
    graph = surgery.channel_graph(model, IMAGE)
    plan = surgery.Plan(graph, job.once("kept", lambda: _kept(arm, job, graph))["kept"].bool())
    whole, small = job.accuracy(model), surgery.prune(model, plan)
    cut = job.accuracy(small)
    last, best = job.fit(small)
    name = f"converged.{arm}"
    return {
        name: last,
        f"{name}.best_epoch": best,
        f"{name}.whole": whole,
        f"{name}.cut": cut,
        f"{name}.macs": plan.macs / graph.macs,
        f"{name}.parameters": plan.parameters / graph.parameters,
    }


ARMS = {
    arm: Arm(Recipe(network, 200, 256, 0.02, 2e-3, "cosine", TUNING), _run, FILES)
    for arm, network in (("resnet56", "ResNet-56, cut"), ("resnet110", "ResNet-110, cut"))
}
