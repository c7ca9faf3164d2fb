"""Trains the whole networks that the chapter on SiDT cuts, and stores them as fp16 safetensors beside a record.

.. code-block:: bash

    python -m compactvision.whole_networks naming boxes

The detector starts from the stored network that names, so that one comes first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict

import torch

from compactvision import records
from compactvision.models import shipped
from compactvision.pruning.sidt.tasks import TASKS, WEIGHTS, build, dense, detector_on
from compactvision.pruning.sidt.whole import RECIPES, SEED, fit
from compactvision.records.places import cache_folder
from compactvision.records.texts import write_text


def train(name: str, *, device: torch.device | None = None, progress: bool = True) -> dict:
    """Train and store the network of a task, and return its record. An interrupted call continues.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    recipe, task = RECIPES[name], TASKS[name]
    commit, dirty = records.commit()
    model = (build(name) if name == "naming" else detector_on(dense("naming"))).to(device or "cpu").train()
    folder = cache_folder() / "whole"
    folder.mkdir(parents=True, exist_ok=True)
    history = fit(model, name, recipe, checkpoint=folder / f"sidt_{name}.pt", progress=progress)
    state = shipped.rounded(model.state_dict())
    model.load_state_dict(state)
    pictures = task.load(False, SEED)
    record = {
        "name": name,
        "recipe": {**asdict(recipe), "started_from": "" if name == "naming" else "naming"},
        f"test_{task.measured}": round(task.score(model.float().eval(), pictures), 5),
        "history": history.rows,
        "seconds": round(sum(history.column("seconds")), 1),
        "data": pictures.provenance.replace(f"{len(pictures)} images", f"{recipe.pictures} images"),
        "commit": commit,
        "dirty": dirty,
        "device": asdict(records.describe_device("cpu" if device is None else device.type)),
        "versions": records.versions(),
        "finished": time.strftime("%Y-%m-%d"),
    }
    return _store(name, state, record)


def _store(name: str, state: dict[str, torch.Tensor], record: dict) -> dict:
    from safetensors.torch import save

    WEIGHTS.mkdir(parents=True, exist_ok=True)
    content = save(state)
    record = {**record, "sha256": hashlib.sha256(content).hexdigest()}
    (WEIGHTS / f"{name}.safetensors").write_bytes(content)
    write_text(WEIGHTS / f"{name}.json", json.dumps(record, indent=1) + "\n")
    return record


def main(arguments: list[str] | None = None) -> None:
    """Train the networks that are named, or both, on the GPU where there is one."""
    parser = argparse.ArgumentParser(prog="python -m compactvision.whole_networks", description=main.__doc__)
    parser.add_argument("names", nargs="*", choices=[*RECIPES, []], metavar="NAME", help=", ".join(RECIPES))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in parser.parse_args(arguments).names or RECIPES:
        record = train(name, device=device)
        measured = TASKS[name].measured
        sys.stdout.write(f"{name}: {measured} {record[f'test_{measured}']:.2%}, {record['seconds']:.0f} s\n")


if __name__ == "__main__":
    main()
