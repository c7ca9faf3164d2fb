"""The recipes of the networks in ``models/weights``, and the code that trains and stores them (``make baselines``)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from compactvision import data, measure, models, records, training
from compactvision.models import shipped
from compactvision.records.places import cache_folder
from compactvision.records.texts import write_text


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: SGD with Nesterov momentum under a one-cycle schedule.

    With ``grown_from``, training starts from that shipped network, made deeper by :func:`models.deepened`.
    """

    dataset: str
    epochs: int
    options: tuple[tuple[str, object], ...] = ()
    batch_size: int = 128
    crop: int = 4
    flip: bool = True
    learning_rate: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    precision: str = "fp32"
    seed: int = 0
    grown_from: str = ""


GENERATED_TEST_IMAGES = 2_000
RECIPES = {
    "resnet20_glyphs": Recipe("glyphs", 6, (("n", 10_000),), crop=2, flip=False, learning_rate=0.2),
    "resnet20_cifar10": Recipe("cifar10", 10),
    "resnet56_cifar10": Recipe("cifar10", 2, learning_rate=0.1, grown_from="resnet20_cifar10"),
    "small_cnn_glyphs": Recipe("glyphs", 12, (("n", 20_000),), crop=2, flip=False, learning_rate=0.2),
}


def train(name: str, *, device: torch.device, progress: bool = True) -> dict:
    """Train a shipped network by its recipe, and store weights and record in the package.

    An interrupted call continues from its last epoch. The recorded accuracies are those of the stored fp16 weights.

    Parameters
    ----------
    name : str
        One of ``RECIPES``.
    device : torch.device
        Where to train.
    progress : bool, default True
        Show a bar.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in RECIPES:
        raise ValueError(f"name: {name!r} is not one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    commit, dirty = records.commit()
    sets = {part: _load(recipe, part) for part in ("train", "test")}
    model = _initial(name, recipe).to(device)
    history = _fit(name, recipe, model, sets, device, progress)

    state = shipped.rounded(model.state_dict())
    model.load_state_dict(state)
    accuracies = {part: measure.accuracy(model.float(), sets[part].batches(500, device=device)) for part in sets}
    record = {
        "name": name,
        "recipe": {**asdict(recipe), "options": dict(recipe.options)},
        "train_accuracy": round(accuracies["train"], 5),
        "test_accuracy": round(accuracies["test"], 5),
        "history": history.rows,
        "seconds": round(sum(history.column("seconds")), 1),
        "data": {part: {"provenance": s.provenance, "digest": s.digest()} for part, s in sets.items()},
        "commit": commit,
        "dirty": dirty,
        "device": asdict(records.describe_device(device.type)),
        "versions": records.versions(),
        "finished": time.strftime("%Y-%m-%d"),
    }
    return _store(name, state, record)


def _initial(name: str, recipe: Recipe) -> nn.Module:
    generator = torch.Generator().manual_seed(recipe.seed)
    model = shipped.BUILDERS[name](generator=generator)
    if not recipe.grown_from:
        return model
    return models.deepened(shipped.pretrained(recipe.grown_from), len(model.layer1), generator=generator).train()


def _load(recipe: Recipe, part: str) -> data.ImageSet:
    options = dict(recipe.options)
    if "n" in options and part == "test":
        options["n"] = GENERATED_TEST_IMAGES
    return data.load(recipe.dataset, train=part == "train", **options)


def _fit(
    name: str, recipe: Recipe, model: nn.Module, sets: dict, device: torch.device, progress: bool
) -> training.History:
    folder = cache_folder() / "baselines"
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    batches = sets["train"].batches(
        recipe.batch_size,
        shuffle=True,
        crop=recipe.crop,
        flip=recipe.flip,
        seed=recipe.seed,
        drop_last=True,
        device=device,
    )
    return training.fit(
        model,
        batches,
        epochs=recipe.epochs,
        optimizer=optimizer,
        schedule=training.schedules.one_cycle(),
        validate=sets["test"].batches(500, device=device),
        precision=recipe.precision,
        channels_last=True,
        checkpoint=folder / f"{name}.pt",
        progress=progress,
        seed=recipe.seed,
    )


def _store(name: str, state: dict[str, torch.Tensor], record: dict, folder: Path | None = None) -> dict:
    from safetensors.torch import save

    folder = folder or shipped.WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    content = save(state)
    record = {**record, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / f"{name}.safetensors").write_bytes(content)
    write_text(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
    return record


def main(arguments: list[str] | None = None) -> None:
    """Train the networks that are named, or all of them, on the GPU where there is one."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.baselines", description=main.__doc__)
    parser.add_argument("names", nargs="*", choices=[*RECIPES, []], metavar="NAME", help=", ".join(RECIPES))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in parser.parse_args(arguments).names or RECIPES:
        record = train(name, device=device)
        sys.stdout.write(f"{name}: {record['test_accuracy']:.2%} of the test images, {record['seconds']:.0f} s\n")


if __name__ == "__main__":
    main()
