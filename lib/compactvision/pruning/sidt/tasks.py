"""Two tasks for one small Swin: to name a character, and to find and name several; and networks trained for them.

The detector began with the backbone of the network that names, as detectors begin with one from ImageNet, so that a
dimension of the one has its likeness in the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from compactvision import _checks as checks
from compactvision import data, measure
from compactvision.data import Batches, ImageSet
from compactvision.models.detection import DetectionLoss, Detector, SwinMaps

WEIGHTS = Path(__file__).resolve().parent / "weights"
CLASSES = 10


@dataclass(frozen=True)
class Task:
    """What a network is to do, with pictures of its own.

    Attributes
    ----------
    name : str
        "naming" or "boxes".
    side : int
        Pixels of a picture's side.
    pictures : int
        Training pictures of an epoch of search or tuning.
    judged : int
        Pictures of a test.
    batch_size : int
    loss : callable (outputs, targets) -> scalar Tensor
    measured : str
        What :meth:`score` returns.
    options : tuple of (str, object)
        Of the set of pictures.
    """

    name: str
    side: int
    pictures: int
    judged: int
    batch_size: int
    loss: Callable
    measured: str
    options: tuple[tuple[str, object], ...]

    def load(self, train: bool, seed: int, n: int | None = None) -> ImageSet:
        """Return pictures of a seed: ``pictures`` to train on, or ``judged`` to test on, or ``n``."""
        checks.flags(train=train)
        dataset = "glyphs" if self.name == "naming" else "glyph_boxes"
        n = (self.pictures if train else self.judged) if n is None else n
        return data.load(dataset, train=train, n=n, seed=seed, **dict(self.options))

    def batches(self, pictures: ImageSet, seed: int, device: str | torch.device | None = None) -> Batches:
        """Return pictures to train on as batches in another order each epoch."""
        checks.instances(ImageSet, pictures=pictures)
        return pictures.batches(self.batch_size, shuffle=True, seed=seed, device=device)

    def score(self, model: nn.Module, pictures: ImageSet) -> float:
        """Return the accuracy, or COCO's average precision (mean over overlaps of 0.5 to 0.95), in [0, 1]."""
        checks.networks(model=model)
        checks.instances(ImageSet, pictures=pictures)
        if self.name == "naming":
            return measure.accuracy(model, pictures)
        device = next(model.parameters()).device
        found, true = measure.detected(model, pictures.batches(100, device=device))
        return measure.average_precision(found, true, num_classes=CLASSES).mean


TASKS = {
    "naming": Task("naming", 32, 2400, 1000, 64, F.cross_entropy, "accuracy", (("difficulty", "easy"),)),
    "boxes": Task("boxes", 64, 640, 400, 32, DetectionLoss(), "ap", ()),
}


def build(name: str, *, generator: torch.Generator | None = None) -> nn.Module:
    """Return an untrained network for a task.

    A Swin with patches of 4 x 4 pixels, windows of 4 x 4 places, two blocks of 48 channels and 3 heads, and two of 96
    channels and 6 heads: 303,532 parameters with its classifier. For "boxes" its two maps go into a
    :class:`~compactvision.models.detection.Detector` of width 48.

    Parameters
    ----------
    name : str
        "naming" or "boxes".
    generator : torch.Generator, optional
        Source of the initial weights; one with seed 0 by default.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    checks.one_of(TASKS, name=name)
    checks.generators(generator=generator)
    generator = generator or torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        swin = SwinTransformer([4, 4], 48, [2, 2], [3, 6], [4, 4], stochastic_depth_prob=0.0, num_classes=CLASSES)
        return swin if name == "naming" else detector_on(swin, generator=generator)


def detector_on(swin: SwinTransformer, *, generator: torch.Generator | None = None) -> Detector:
    """Return a detector whose backbone is a Swin's own layers; pyramid and head are untrained.

    Their initial weights come from the generator, one with seed 0 by default.
    """
    maps = SwinMaps(swin)
    generator = generator or torch.Generator().manual_seed(0)
    return Detector(maps, maps.channels, maps.strides, CLASSES, width=48, generator=generator)


def dense(name: str) -> nn.Module:
    """Return the trained network of a task, whole, in evaluation mode.

    Raises
    ------
    ValueError
        If the name is unknown, or the file is not the one that its record describes.
    """
    from safetensors.torch import load

    record = dense_record(name)
    content = (WEIGHTS / f"{name}.safetensors").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != record["sha256"]:
        raise ValueError(
            f"name: the weights of {name!r} are damaged (sha256 {found[:12]}..., the record says "
            f"{record['sha256'][:12]}...); install the package anew"
        )
    model = build(name)
    model.load_state_dict({key: _restored(each) for key, each in load(content).items()})
    return model.eval()


def dense_record(name: str) -> dict:
    """Return how the network of a task was trained: recipe, data, device, seconds and scores.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    checks.one_of(TASKS, name=name)
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))


def _restored(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
