"""AutoBot's three networks for CIFAR-10: cut to the logged operations by gates, then tuned as the logs say."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from compactvision import surgery
from compactvision.pruning import autobot
from compactvision.queue.arms import baselines
from compactvision.queue.job import Job
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value

FILES = (
    "pruning/autobot",
    "queue/arms/autobot.py",
    "queue/arms/baselines.py",
    "surgery/apply.py",
    "surgery/budget.py",
    "surgery/gating.py",
    "surgery/graph.py",
    "training/fit.py",
)
LOGS = "Castells and Yeom 2021, their logs"
BUDGETS = {"resnet56": 55.84e6, "vgg16": 108.71e6, "resnet110": 85.3e6}  # operations as the tool thop counts them
NAMES = {"resnet56": "ResNet-56", "vgg16": "VGG-16-BN", "resnet110": "ResNet-110"}
GATES = Recipe("", 0, 64, 0.5, 0.0, "constant", f"{LOGS}: 200 steps of Adam on gates")
TUNING = Recipe("", 200, 256, 0.02, 2e-3, "cosine", LOGS)
STEPS = 200
IMAGE = (3, 32, 32)


def _graph(arm: str, model: nn.Module) -> surgery.ChannelGraph:
    return surgery.channel_graph(model, IMAGE, residual="grouped" if arm == "vgg16" else "scatter")


def _cut(job: Job, arm: str) -> dict[str, Value]:
    """Learn gates and cut; what is kept are the units that stay."""
    model = baselines.trained(arm, job)
    graph = _graph(arm, model)
    operations = autobot.count_operations(graph, convention="thop")
    share = BUDGETS[arm] / operations.whole

    def learned() -> dict[str, Tensor]:
        gates = autobot.learn_gates(
            model,
            graph,
            job.batches(job.images[0]),
            keep_macs=share,
            operations=operations,
            steps=job.steps(STEPS),
            learning_rate=job.recipe.learning_rate,
        )
        return {"gates": gates.gates}

    gates = autobot.LearnedGates(graph, job.once("gates", learned)["gates"])
    plan = surgery.make_plan(graph, gates, keep_macs=share, cost=operations, global_pruning=True)
    small = surgery.prune(model, plan)
    values = {
        f"{arm}.whole": job.accuracy(model),
        f"{arm}.cut": job.accuracy(small),
        f"{arm}.operations": float(operations(plan.kept)),
        f"{arm}.parameters": plan.parameters,
    }
    job.keep_tensors({"kept": plan.kept})
    return values


def _tune(job: Job, arm: str) -> dict[str, Value]:
    """Tune the network of the cut; the logs report the best epoch on the test images."""
    model = baselines.trained(arm, job)
    kept = job.result_of(f"autobot/{arm}-cut")["kept"].bool()
    small = surgery.prune(model, surgery.Plan(_graph(arm, model), kept))
    last, best = job.fit(small)
    return {f"{arm}.tuned": best, f"{arm}.tuned.last_epoch": last}


ARMS = {
    name: arm
    for net, told in NAMES.items()
    for name, arm in {
        f"{net}-cut": Arm(replace(GATES, network=f"{told}, gates"), partial(_cut, arm=net), FILES),
        f"{net}-tuned": Arm(replace(TUNING, network=f"{told}, cut"), partial(_tune, arm=net), FILES),
    }.items()
}
