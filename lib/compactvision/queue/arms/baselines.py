"""Networks for CIFAR-10 as they are before a cut, each by the schedule that its own paper publishes."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from compactvision import models
from compactvision.queue.job import Job
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value

FILES = ("queue/arms/baselines.py", "training/fit.py")
RESNET = "He et al. 2016: 64,000 steps (no warm-up)"
DCFF = "Lin et al. 2021, for their narrow networks"
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet56": models.resnet56,
    "resnet110": models.resnet110,
    "vgg16": lambda **options: models.vgg16_bn(conv_bias=True, hidden=512, **options),
    "densenet40": models.densenet40,
    "googlenet": models.googlenet,
}
RECIPES = {
    "resnet56": Recipe("ResNet-56", 164, 128, 0.1, 1e-4, "steps", RESNET),
    "resnet110": Recipe("ResNet-110", 164, 128, 0.1, 1e-4, "steps", RESNET),
    "vgg16": Recipe("VGG-16-BN", 300, 256, 0.1, 5e-4, "steps", DCFF),
    "googlenet": Recipe("GoogLeNet", 300, 256, 0.1, 5e-4, "steps", DCFF),
    "densenet40": Recipe("DenseNet-40", 300, 64, 0.1, 1e-4, "steps", "Huang et al. 2017", nesterov=True),
}


def built(arm: str, job: Job) -> nn.Module:
    """Return the network of a baseline as it begins, on the job's device."""
    return BUILDERS[arm](generator=job.generator()).to(job.device)


def trained(arm: str, job: Job) -> nn.Module:
    """Return the network of a baseline as its entry has left it, on the job's device."""
    model = BUILDERS[arm]().to(job.device)
    model.load_state_dict(job.result_of(f"baselines/{arm}"))
    return model.eval()


def _run(job: Job) -> dict[str, Value]:
    model = built(job.entry.arm, job)
    last, best = job.fit(model)
    job.keep(model)
    return {"accuracy": job.accuracy(model), "accuracy.last_epoch": last, "accuracy.best_epoch": best}


ARMS = {name: Arm(recipe, _run, FILES) for name, recipe in RECIPES.items()}
