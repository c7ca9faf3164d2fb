"""The list: what is trained when a GPU comes, most valuable first.

Minutes are those of one seed alone on an H100, and memory is in GiB; both are estimates until a record says better.
A chapter adds its entries here and its arms in ``arms``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BASELINES = "baselines"
TRAINED, FULL = "trained", "full"


@dataclass(frozen=True)
class Entry:
    """One line of the list.

    Attributes
    ----------
    slug : str
        The chapter, or "baselines" for networks that several chapters cut.
    arm : str
        A name in the chapter's table of ``arms``; "full" for the full record of its notebook.
    kind : str
        "trained": a training that stops and continues. "full": a notebook, which starts anew.
    minutes, memory : float
        Expected minutes of a seed alone on an H100, and GiB of its memory.
    seeds : tuple of int
    needs : tuple of str
        Names of entries whose results it starts from, seed by seed.
    """

    slug: str
    arm: str
    kind: str
    minutes: float
    memory: float
    seeds: tuple[int, ...] = (0,)
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Chapter and arm."""
        return f"{self.slug}/{self.arm}"


def _baseline(arm: str, minutes: float, memory: float) -> Entry:
    return Entry(BASELINES, arm, TRAINED, minutes, memory)


def _autobot(arm: str, minutes: float, memory: float) -> tuple[Entry, Entry]:
    """Return the cut, which takes a minute, and the tuning behind it."""
    start, cut = f"{BASELINES}/{arm}", f"{arm}-cut"
    return (
        Entry("autobot", cut, TRAINED, 1, memory, needs=(start,)),
        Entry("autobot", f"{arm}-tuned", TRAINED, minutes, memory, needs=(start, f"autobot/{cut}")),
    )


def _dcff(arm: str, minutes: float, memory: float) -> Entry:
    return Entry("dcff", arm, TRAINED, minutes, memory)


def _slimming(arm: str, minutes: float, memory: float) -> Entry:
    return Entry("proximal_network_slimming", arm, TRAINED, minutes, memory)


def _energy(arm: str, minutes: float, memory: float) -> Entry:
    return Entry("energy_aware_pruning", arm, TRAINED, minutes, memory, needs=(f"{BASELINES}/{arm}",))


def _cell(arm: str, minutes: float, *beside: str) -> Entry:
    return Entry(
        "nat_plus_plus", arm, TRAINED, minutes, 3, (0, 1, 2), tuple(f"nat_plus_plus/{name}" for name in beside)
    )


def _toy(arm: str, minutes: float) -> Entry:
    return Entry("lrp_pruning", arm, TRAINED, minutes, 1)


def _full(slug: str, minutes: float) -> Entry:
    return Entry(slug, FULL, FULL, minutes, 6, seeds=(0, 1, 2))


ENTRIES: tuple[Entry, ...] = (
    _baseline("resnet56", 14, 3),
    _baseline("vgg16", 6, 3),
    _energy("resnet56", 9, 3),
    *_autobot("vgg16", 3, 3),
    _cell("darts_v2", 5),
    _cell("nat_darts", 5, "darts_v2"),
    _cell("nat2_darts", 5, "darts_v2"),
    _cell("random_darts", 5, "darts_v2", "nat_darts", "nat2_darts"),
    _cell("narrow_darts", 5, "darts_v2", "nat_darts", "nat2_darts"),
    _cell("vgg", 3),
    _cell("nat_vgg", 3, "vgg"),
    _cell("nat2_vgg", 3, "vgg"),
    _cell("resblock", 3),
    _cell("nat_resblock", 3, "resblock"),
    _cell("nat2_resblock", 3, "resblock"),
    _cell("mobilenet_v2", 3),
    _cell("nat_mobilenet_v2", 3, "mobilenet_v2"),
    *_autobot("resnet56", 9, 3),
    *(_toy(arm, 1) for arm in ("moons", "circles")),
    _toy("spiral", 2),
    _dcff("vgg16", 8, 3),
    _baseline("resnet110", 27, 4),
    _energy("resnet110", 18, 4),
    *_autobot("resnet110", 18, 4),
    _dcff("resnet56", 17, 3),
    _slimming("vgg19", 16, 3),
    _dcff("resnet110", 32, 4),
    _dcff("googlenet", 30, 6),
    _full("lrp_pruning", 12),
    _full("unit_ablation", 5),
    _full("xgrad_cam", 5),
    _full("rvsm_sparsity", 5),
    _full("energy_aware_pruning", 8),
    _full("autobot", 8),
    _full("dcff", 8),
    _full("proximal_network_slimming", 10),
    _full("u_mixformer", 9),
    _full("rarts", 5),
    _full("afidaf", 9),
    _full("sidt", 12),
    _slimming("densenet40", 38, 5),
    _baseline("googlenet", 25, 6),
    _baseline("densenet40", 50, 5),
    _slimming("resnet164", 95, 6),
)


def find(name: str, entries: Iterable[Entry] = ENTRIES) -> Entry:
    """Return the entry of a name such as "dcff/vgg16"; ``ValueError`` with the known names where there is none."""
    known = {entry.name: entry for entry in entries}
    if name not in known:
        raise ValueError(f"name: {name!r} is no entry of the queue; known are {', '.join(known)}")
    return known[name]
