"""What several processes do, and what one process alone does: `distributed_run.py FOLDER`, also under torchrun."""

import math
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from compactvision.data import ImageSet
from compactvision.training import Callback, NonFiniteLoss, evaluate, fit, schedules
from torch import nn

torch.set_num_threads(1)


class Branch(nn.Module):
    """No BatchNorm; the `spare` layer is used for images of one brightness only, so not on every process."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4))
        self.spare = nn.Linear(4, 4)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        self.seen += float(len(images)) * self.training
        outputs = self.body(images)
        bright = images.mean((1, 2, 3)) > 0.02
        return torch.cat([self.spare(outputs[bright]), outputs[~bright]])[_back(bright)] if bright.any() else outputs


def _back(bright):
    return torch.argsort(torch.cat([bright.nonzero()[:, 0], (~bright).nonzero()[:, 0]]))


class Look(Callback):
    def __init__(self, stop=0):
        self.stop, self.losses, self.names = stop, [], set()

    def on_step(self, state):
        self.losses.append(state.loss.item())
        self.names.add(type(state.model).__name__)
        if state.step == self.stop:
            raise KeyboardInterrupt


def images():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (41, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(41) % 4, tuple("abcd"), "random", "made up", (0.5,) * 3, (0.3,) * 3)


def start(seed=0):
    """A fresh model and its optimiser; processes start from different weights, of which the first one's count."""
    torch.manual_seed(seed)
    model = Branch()
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)


def run(checkpoint=None, stop=0, precision="fp32"):
    rank = dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))
    model, optimizer = start(seed=rank)
    look = Look(stop)
    # 41 images in batches of 8: the last batch is a single image, so one of two processes has none
    batches = images().batches(8, shuffle=True, crop=1, flip=True)
    try:
        history = fit(
            model, batches, epochs=3, optimizer=optimizer, schedule=schedules.one_cycle(), clip_norm=2.0,
            callbacks=[look], validate=images().batches(6), checkpoint=checkpoint,
            every_steps=4 if checkpoint else None, precision=precision,
        )  # fmt: skip
    except KeyboardInterrupt:
        return None
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
    return {"model": model.state_dict(), "rows": rows, "losses": look.losses, "names": sorted(look.names)}


def broken(rank):
    """The error of a loss that is NaN on the last process only."""
    calls = []

    def loss(outputs, targets):
        calls.append(0)
        return F.cross_entropy(outputs, targets) * (math.nan if rank == 1 and len(calls) == 3 else 1)

    try:
        fit(start()[0], images().batches(10), epochs=1, loss=loss)
    except NonFiniteLoss as error:
        return [error.epoch, error.step]


def uneven(rank):
    """The error of processes whose sources differ in length."""
    try:
        fit(start()[0], [(torch.zeros(2, 3, 8, 8), torch.zeros(2).long())] * (2 + rank), epochs=1)
    except ValueError as error:
        return str(error)


def main(folder):
    whole = run()  # starts the process group by itself
    rank = dist.get_rank()
    mine = folder / f"rank{rank}"
    mine.mkdir()
    run(mine / "run.pt")
    written = sorted(path.name for path in mine.iterdir())
    cut = folder / "cut.pt"
    assert run(cut, stop=9) is None
    resumed = run(cut)
    end = {
        "whole": whole, "resumed": resumed, "fp16": run(precision="fp16"), "written": written, "rank": rank,
        "evaluated": evaluate(start()[0], images().batches(7), metrics={"mean": lambda o, t: o.mean()}),
        "broken": broken(rank), "uneven": uneven(rank),
    }  # fmt: skip
    torch.save(end, folder / f"end{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
