"""How a network of the list is trained, and how much of that is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compactvision.records import Value


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD on randomly cropped and mirrored images.

    Attributes
    ----------
    network : str
        For people.
    epochs, batch_size : int
        0 epochs where the arm trains no weights.
    learning_rate, weight_decay, momentum : float
    schedule : str
        "steps": a tenth at half and again at three quarters of the epochs. "cosine": down to 0. "constant": for arms
        that train no weights.
    nesterov : bool
    dataset : str
        A name of :func:`compactvision.data.load`; empty where an arm draws all its points for each step by itself.
    crop, flip : int, bool
        Pixels of border around the random crop, and whether half of the images are mirrored.
    source : str
        Where the numbers come from.
    """

    network: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    schedule: str
    source: str
    momentum: float = 0.9
    nesterov: bool = False
    dataset: str = "cifar10"
    crop: int = 4
    flip: bool = True


@dataclass(frozen=True)
class Arm:
    """One training of the list.

    Attributes
    ----------
    recipe : Recipe
    run : callable (job) -> dict of str to number
        What is done, and what came out by name.
    files : tuple of str
        Files behind it, relative to the package.
    """

    recipe: Recipe
    run: Callable[[Any], dict[str, Value]]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """How much of a training is done; only an unchanged one is the paper's.

    Attributes
    ----------
    epochs, images, batch_size : int or None
        Fewer epochs than the recipe has, images of both parts, images in a batch.
    dry : bool
        Only try the way: a few steps on a few generated images.
    """

    epochs: int | None = None
    images: int | None = None
    batch_size: int | None = None
    dry: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "images", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not at least 1")

    @property
    def kind(self) -> str:
        """What the record will be: "dry", "scaled" or "trained"."""
        return "dry" if self.dry else "scaled" if self.epochs or self.images or self.batch_size else "trained"
