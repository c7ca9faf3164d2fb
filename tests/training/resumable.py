"""Two training runs, killed again and again: `resumable.py FOLDER DELAY KILL...` prints what happened as JSON.

Each KILL is `STEPS:SECONDS` (SIGKILL so long after the process has taken so many steps) or `save:N` (SIGKILL in its
N-th save, when the new file is written but not yet in its place). After the kills the runs are started once more.
They keep their checkpoints in FOLDER/killed and leave their end weights and histories in its end.pt; the same runs
without interruption, made first, use FOLDER/whole. Every start is a process of its own, forked before torch has
computed anything. DELAY is a pause in seconds after each step.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from compactvision.data import ImageSet
from compactvision.training import Callback, fit, schedules
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
FOLDER, DELAY = Path(sys.argv[1]), float(sys.argv[2])


class Average(Callback):
    """A moving average of the weights, noise on the gradients, and a sign a step."""

    def __init__(self, pipe):
        self.pipe = pipe

    def settings(self):
        return {}  # the number of the pipe decides nothing

    def on_start(self, state):
        self.mean = [p.detach().clone() for p in state.model.parameters()]
        self.noise = torch.Generator().manual_seed(3)

    def before_step(self, state):
        for p in state.model.parameters():
            p.grad += 1e-3 * torch.randn(p.shape, generator=self.noise)

    @torch.no_grad()
    def on_step(self, state):
        torch._foreach_lerp_(self.mean, list(state.model.parameters()), 0.1)
        os.write(self.pipe, b".")
        time.sleep(DELAY)

    def on_epoch(self, state):
        state.history.rows[-1]["mean"] = self.mean[0].sum().item()

    def state_dict(self):
        return {"mean": self.mean, "noise": self.noise.get_state()}

    def load_state_dict(self, state):
        self.mean = state["mean"]
        self.noise.set_state(state["noise"])


class Noisy(Dataset):
    """Samples that draw from all three global generators."""

    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        factor = random.random() + np.random.rand()  # noqa: NPY002
        return self.images[i] / 255 * factor + 0.1 * torch.randn(()), self.targets[i]


def network():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(8 * 36, 4)
    )


def train(pipe, folder):
    torch.manual_seed(1)
    images, targets = torch.randint(0, 256, (45, 3, 8, 8), dtype=torch.uint8), torch.arange(45) % 4
    held = ImageSet(images, targets, tuple("abcd"), "random", "made up", (0.5,) * 3, (0.3,) * 3)
    keyed = held.batches(8, shuffle=True, crop=1, flip=True)
    loader = DataLoader(Noisy(images, targets), batch_size=8, shuffle=True)
    runs = {
        "keyed": (keyed, {"precision": "fp32", "schedule": schedules.one_cycle()}),
        "loader": (loader, {"precision": "bf16", "clip_norm": 1.0, "channels_last": True}),
    }
    end = {}
    for name, (batches, options) in runs.items():
        model = network()
        optimizer = torch.optim.AdamW(
            [{"params": model[0].parameters()}, {"params": model[-1].parameters(), "lr": 0.02}]
        )
        history = fit(
            model, batches, epochs=4, optimizer=optimizer, callbacks=[Average(pipe)], validate=held.batches(45),
            checkpoint=folder / f"{name}.pt", every_steps=2, **options,
        )  # fmt: skip
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
        end[name] = {"model": model.state_dict(), "rows": rows}
    torch.save(end, folder / "end.pt")


def die_in_save(n):
    """Let the n-th save from now on be the end of this process."""
    replace, left = os.replace, iter(range(n - 1, -1, -1))

    def replace_or_die(*paths):
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = replace_or_die


def attempt(kill, folder):
    """Run in a process of its own, killed as asked; returns its exit status and the number of its steps."""
    when, value = kill.split(":")
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            if when == "save":
                die_in_save(int(value))
            train(writing, folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    steps = 0
    while signs := os.read(reading, 1):
        steps += len(signs)
        if when.isdigit() and steps == int(when):
            time.sleep(float(value))
            os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), steps


if __name__ == "__main__":
    torch.optim.SGD([torch.zeros(1)], lr=1)  # loads what torch loads late, once for all processes
    report = []
    for kill, name in [("never:0", "whole"), *((kill, "killed") for kill in [*sys.argv[3:], "never:0"])]:
        status, steps = attempt(kill, FOLDER / name)
        report.append({"status": status, "steps": steps, "left": [p.name for p in (FOLDER / name).glob(".*")]})
    print(json.dumps(report))
