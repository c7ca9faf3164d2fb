"""All small cells, and how good each of them is: a space that is small enough to know the truth.

A cell has two inputs and two nodes with two edges each; an edge holds one of the five operations of NAS-Bench-201
(Dong and Yang 2020). That makes 625 cells. All were trained by us, three times each, by one recipe; the results are
shipped with the package (``make small-cells`` makes them anew). The same cell serves as normal and as reduction cell.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from compactvision import _checks as checks
from compactvision.models.cells import CellNetwork, Edge, Genotype
from compactvision.models.cells.operations import NONE

OPERATIONS = (NONE, "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")
PLACES = ((0, 2), (1, 2), (1, 3), (2, 3))
CHANNELS, CELLS, SIZE, CLASSES = 4, 3, 16, 10  # of the networks; images are SIZE x SIZE
FILE = Path(__file__).with_name("small_cells.json")
Choice = tuple[str, str, str, str]  # an operation for each place


def all_choices() -> tuple[Choice, ...]:
    """Return the 625 choices of an operation for each place.

    Examples
    --------
    >>> len(all_choices()), len(set(map(canonical, all_choices())))
    (625, 605)
    """
    return tuple(itertools.product(OPERATIONS, repeat=len(PLACES)))


def canonical(choice: Sequence[str]) -> Choice:
    """Return the cell that stands for all that tell their output the same: what reads a node of zeros reads nothing."""
    found = _choice(choice)
    return (*found[:3], NONE) if found[:2] == (NONE, NONE) else found


def genotype(choice: Sequence[str]) -> Genotype:
    """Return the genotype of a choice; its normal and its reduction cell are alike."""
    edges = [Edge(name, *place) for name, place in zip(_choice(choice), PLACES, strict=True)]
    return Genotype(edges, edges)


def network(choice: Sequence[str], generator: torch.Generator | None = None) -> CellNetwork:
    """Return the network by which a cell is judged: three cells of 4 to 16 channels, images of 16 x 16 pixels."""
    return CellNetwork(genotype(choice), CHANNELS, CELLS, CLASSES, stem=1, generator=generator)


def _choice(choice: Sequence[str]) -> Choice:
    listed = hasattr(choice, "__iter__") and not isinstance(choice, type)
    found = tuple(choice) if listed else ()
    if len(found) != len(PLACES):
        raise ValueError(f"choice must name an operation for each of {len(PLACES)} places, got {checks.shown(choice)}")
    checks.one_of(OPERATIONS, **{f"choice[{index}]": name for index, name in enumerate(found)})
    return found


@dataclass(frozen=True)
class Trained:
    """What is known of one cell: accuracies in [0, 1] for each seed, and what its network costs."""

    valid: tuple[float, ...]
    test: tuple[float, ...]
    seconds: tuple[float, ...]
    parameters: int
    macs: int


@cache
def table() -> dict[Choice, Trained]:
    """Return the results of all 625 choices.

    Raises
    ------
    FileNotFoundError
        If the results are not there.
    """
    stored = json.loads(FILE.read_text(encoding="utf-8"))["cells"]
    known = {key: Trained(*map(tuple, row[:3]), *row[3:]) for key, row in stored.items()}
    return {choice: known[key(canonical(choice))] for choice in all_choices()}


def key(choice: Sequence[str]) -> str:
    """Return the digits of a choice, one for each place: ``0`` to ``4`` in the order of the operations."""
    return "".join(str(OPERATIONS.index(name)) for name in _choice(choice))
