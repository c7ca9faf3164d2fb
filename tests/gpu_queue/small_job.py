"""The worker with a training of its own: `small_job.py NAME SEED --work ...`; PAUSE is seconds after each step."""

import os
import sys
import time

import torch
from compactvision.queue import arms, worker
from compactvision.queue.entries import Entry
from compactvision.queue.recipes import Arm, Recipe
from torch import nn

ENTRY = Entry("baselines", "small", "trained", 10, 2)
NEXT = Entry("baselines", "next", "trained", 5, 2, needs=("baselines/small",))
RECIPE = Recipe("a small one", 4, 64, 0.05, 0.0, "steps", "made up", dataset="digits", crop=1, flip=False)
STEPS = 4 * 22


class Slow:
    """A pause after each step."""

    def on_step(self, state):
        time.sleep(float(os.environ.get("PAUSE", "0")))


def network(job):
    torch.manual_seed(job.seed)
    return nn.Sequential(
        nn.Conv2d(3 if job.scale.dry else 1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def run(job):
    model = network(job)
    last, best = job.fit(model, [Slow()])
    job.keep_tensors(model.state_dict())
    return {"small.last": last, "small.best": best}


def run_next(job):
    model = network(job)
    model.load_state_dict(job.result_of("baselines/small"))
    last, _ = job.fit(model)
    return {"next.last": last}


ARM = Arm(RECIPE, run, ("training/fit.py",))
ARMS = {"small": ARM, "next": Arm(RECIPE, run_next, ("training/fit.py",))}


def install(setattr_):
    setattr_(worker, "find", lambda name: {ENTRY.name: ENTRY, NEXT.name: NEXT}[name])
    setattr_(arms, "find", lambda entry: ARMS[entry.arm])


if __name__ == "__main__":
    torch.set_num_threads(1)
    install(setattr)
    sys.exit(worker.main(sys.argv[1:]))
