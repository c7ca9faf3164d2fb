"""Published cells and what NAT and NAT++ made of them, on CIFAR-10 by one short recipe of ours for all.

An arm takes accuracies of others along, seed by seed, so that one record holds what is compared.
"""

from __future__ import annotations

from functools import partial

import torch

from compactvision import measure
from compactvision.models import cells
from compactvision.queue.job import Job
from compactvision.queue.recipes import Arm, Recipe
from compactvision.records import Value
from compactvision.search.nat_plus_plus import controls

FILES = (
    "models/cells",
    "queue/arms/nat_plus_plus.py",
    "search/nat_plus_plus/controls.py",
    "search/nat_plus_plus/transitions.py",
    "training/fit.py",
)
SOURCE = "ours: the paper trains 20 cells of 36 channels for 600 epochs"
DEPTH, CHANNELS, NARROW = 8, 16, 14  # 14 channels: the cell of DARTS with about as many MACs as its transformations
DARTS, VGG, RESBLOCK, MOBILENET = "darts_v2", "vgg", "resblock", "mobilenet_v2"
BESIDE: dict[str, tuple[str, ...]] = {  # arms whose accuracies an arm takes along
    DARTS: (),
    "nat_darts": (DARTS,),
    "nat2_darts": (DARTS,),
    "random_darts": (DARTS, "nat_darts", "nat2_darts"),
    "narrow_darts": (DARTS, "nat_darts", "nat2_darts"),
    VGG: (),
    "nat_vgg": (VGG,),
    "nat2_vgg": (VGG,),
    RESBLOCK: (),
    "nat_resblock": (RESBLOCK,),
    "nat2_resblock": (RESBLOCK,),
    MOBILENET: (),
    "nat_mobilenet_v2": (MOBILENET,),  # NAT++ gives the same cell
}
GENOTYPES = {**cells.PUBLISHED, **cells.CONSISTENT}


def genotype(arm: str, job: Job) -> cells.Genotype:
    """Return the cells of an arm; random ones are drawn by the seed, legal moves from those of DARTS."""
    if arm == "random_darts":
        darts, draw = GENOTYPES[DARTS], job.generator(1)
        both = (controls.random_cell(cell, generator=draw) for cell in (darts.normal, darts.reduction))
        return cells.Genotype(*both, darts.outputs)
    return GENOTYPES[DARTS if arm == "narrow_darts" else arm]


def _run(job: Job, arm: str) -> dict[str, Value]:
    """Train from nothing; accuracies are those on the test images after the last epoch."""
    channels = NARROW if arm == "narrow_darts" else CHANNELS
    model = cells.CellNetwork(genotype(arm, job), channels, DEPTH, generator=job.generator()).to(job.device)
    job.fit(model)
    accuracy = job.accuracy(model)
    job.keep_tensors({"accuracy": torch.tensor([accuracy], dtype=torch.float64)})
    image = torch.zeros(1, 3, 32, 32, device=job.device)
    values = {
        f"{arm}.accuracy": accuracy,
        f"{arm}.macs": measure.macs(model, image),
        f"{arm}.parameters": measure.parameters(model),
    }
    for other in BESIDE[arm]:
        kept = job.result_of(f"nat_plus_plus/{other}")["accuracy"]
        values[f"{other}.accuracy"] = round(float(kept), 6)  # kept in float32
    return values


ARMS = {
    arm: Arm(Recipe(f"cells: {arm}", 30, 128, 0.05, 3e-4, "cosine", SOURCE), partial(_run, arm=arm), FILES)
    for arm in BESIDE
}
