"""Train every small cell by one recipe and store what came out (``make small-cells``)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from compactvision import data, measure, records
from compactvision.records.places import cache_folder
from compactvision.records.texts import write_text
from compactvision.search import small_cells
from compactvision.training.progress import Bar


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum under a one-cycle schedule; a seed sets the first weights and the order of images."""

    images: int = 4000
    valid: int = 1000
    test: int = 2000
    difficulty: str = "easy"
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 3e-4
    seeds: tuple[int, ...] = (0, 1, 2)


RECIPE = Recipe()


@dataclass(frozen=True)
class Pictures:
    """Images (N, 3, 16, 16) and labels (N,) of the three parts, and where they come from."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    sources: dict


def pictures(recipe: Recipe = RECIPE) -> Pictures:
    """Return characters at half size; validation images are training images that no network is trained on."""
    known = data.load("glyphs", train=True, n=recipe.images + recipe.valid, difficulty=recipe.difficulty)
    judged = data.load("glyphs", train=False, n=recipe.test, difficulty=recipe.difficulty)
    (images, labels), new = _halved(known), _halved(judged)
    sources = {
        part: {"provenance": found.provenance, "digest": found.digest()}
        for part, found in (("train", known), ("test", judged))
    }
    split = recipe.images
    return Pictures((images[:split], labels[:split]), (images[split:], labels[split:]), new, sources)


def _halved(found: data.ImageSet) -> tuple[Tensor, Tensor]:
    images, labels = next(iter(found.batches(len(found))))
    return F.adaptive_avg_pool2d(images, small_cells.SIZE), labels


def train(choice: small_cells.Choice, seed: int, sets: Pictures, recipe: Recipe = RECIPE) -> tuple[float, float, float]:
    """Return the accuracies on validation and test images and the seconds of training of one cell."""
    generator = torch.Generator().manual_seed(seed)
    model = small_cells.network(choice, generator)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    images, labels = sets.train
    passes = -(-recipe.steps * recipe.batch_size // len(images))
    order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(passes)])
    begin = time.perf_counter()
    for step in range(recipe.steps):
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - begin
    return _accuracy(model, sets.valid), _accuracy(model, sets.test), seconds


@torch.no_grad()
def _accuracy(model: torch.nn.Module, part: tuple[Tensor, Tensor]) -> float:
    images, labels = part
    return float((model.eval()(images).argmax(1) == labels).double().mean())


def make(folder: Path, recipe: Recipe = RECIPE, *, progress: bool = True) -> dict:
    """Train all cells and return the record; a stopped call goes on where it was, with what lies in ``folder``."""
    commit, dirty = records.commit()
    sets = pictures(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / f"small_cells_{commit}.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    done = {(key, seed): values for key, seed, *values in map(json.loads, lines)}
    choices = sorted(set(map(small_cells.canonical, small_cells.all_choices())), key=small_cells.key)
    waiting = [(c, s) for s in recipe.seeds for c in choices if (small_cells.key(c), s) not in done]
    with journal.open("a", encoding="utf-8") as file, Bar(progress) as bar:
        bar.start(len(done), len(done) + len(waiting))
        for choice, seed in waiting:
            values = train(choice, seed, sets, recipe)
            done[small_cells.key(choice), seed] = values
            file.write(json.dumps([small_cells.key(choice), seed, *values]) + "\n")
            file.flush()
            bar.step()
    return {
        "recipe": asdict(recipe),
        "cells": {small_cells.key(c): _row(c, [done[small_cells.key(c), s] for s in recipe.seeds]) for c in choices},
        "data": sets.sources,
        "commit": commit,
        "dirty": dirty,
        "device": asdict(records.describe_device("cpu")),
        "versions": records.versions(),
        "finished": time.strftime("%Y-%m-%d"),
    }


def _row(choice: small_cells.Choice, values: list) -> list:
    valid, test, seconds = zip(*values, strict=True)
    model = small_cells.network(choice)
    example = torch.zeros(1, 3, small_cells.SIZE, small_cells.SIZE)
    counts = [measure.parameters(model), measure.macs(model, example)]
    return [list(valid), list(test), [round(value, 2) for value in seconds], *counts]


def main(arguments: list[str] | None = None) -> None:
    """Train all small cells, on one thread of the processor, and store the results in the package."""
    argparse.ArgumentParser(prog="python -m compactvision.small_cells", description=main.__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    record = make(cache_folder() / "small_cells")
    head = {name: value for name, value in record.items() if name != "cells"}
    rows = ",\n".join(f'  "{key}": {json.dumps(row)}' for key, row in record["cells"].items())
    text = json.dumps(head, indent=1).removesuffix("\n}") + ',\n "cells": {\n' + rows + "\n }\n}\n"
    write_text(small_cells.FILE, text)
    sys.stdout.write(f"{len(record['cells'])} cells\n")


if __name__ == "__main__":
    main()
