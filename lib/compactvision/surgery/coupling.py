"""Turns a recording into units and index sets: which channels are one, which stay, where a selection is put in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from compactvision.surgery.recording import Call, Recording

RESIDUAL_FORMS = ("grouped", "scatter", "gather")
"""What a residual sum does: share one index set, receive narrow branches, or be read in part."""

STREAM = "it writes into a stream that stays whole"


class Sets:
    """Disjoint sets of the integers below ``count``; the smallest member represents a set."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Return the representative of the item's set."""
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, first: Iterable[int], second: Iterable[int]) -> None:
        """Make one set of each item of ``first`` and its partner in ``second``."""
        for a, b in zip(first, second, strict=True):
            low, high = sorted((self.find(a), self.find(b)))
            self._parent[high] = low


@dataclass
class Coupling:
    """Units of a network under one residual form.

    Attributes
    ----------
    calls : dict of str to Call
        The layers; what they read and write are units.
    inserts : dict of str to str
        Layers that get a selection: "gather" in front of them or "scatter" behind them.
    units : int
        Number of units.
    index_sets : dict of int to list of int
        Units of each index set, ascending, by their smallest one.
    writers : dict of int to list of str
        What writes each index set: names of layers, or name + ":in" of selections to be put in.
    kinds, fixed : dict of int to str
        Kind of those index sets that are not "inner"; reason why an index set cannot be cut.
    """

    calls: dict[str, Call]
    inserts: dict[str, str]
    units: int
    index_sets: dict[int, list[int]] = field(default_factory=dict)
    writers: dict[int, list[str]] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    fixed: dict[int, str] = field(default_factory=dict)


class _Resolution:
    """Labels of a recording while they are joined into units."""

    def __init__(self, found: Recording) -> None:
        self.found = found
        self.calls = {name: replace(call) for name, call in found.layers.items()}
        self.inserts: dict[str, str] = {}
        self.kinds: dict[int, str] = {}  # label -> kind of its index set
        self.fixed: dict[int, str] = {}  # label -> reason
        self.labels = found.labels
        self.sets = Sets(found.labels + sum(len(call.reads) for call in self.calls.values()))
        for first, second in found.same:
            self.sets.join(first, second)

    def grouped(self) -> None:
        """Join the operands of every sum with its result."""
        self._join_followers()
        for summed in self.found.sums:
            for labels, _ in summed.operands:
                self.sets.join(labels, summed.result)
            self.kinds |= dict.fromkeys(summed.result, "stream")

    def scatter(self) -> None:
        """Keep sums whole; a layer that writes into one sum and nowhere else may write part of it."""
        self._join_followers()
        private = self._private_makers()
        for summed in self.found.sums:
            for labels, maker in summed.operands:
                if maker in private and self.calls[maker].writes == labels:
                    self.inserts[maker] = "scatter"
                    self.kinds |= dict.fromkeys(labels, "scatter")
                else:
                    self.fix(labels, STREAM)
            self.fix(summed.result, STREAM)

    def gather(self) -> None:
        """Keep sums and concatenations whole; a layer that reads one reads a part of its own."""
        whole = {label for labels in self.found.joined for label in labels}
        for summed in self.found.sums:
            whole.update(summed.result, *(labels for labels, _ in summed.operands))
        for name, call in self.calls.items():
            keeps_whole = not call.selectable or (call.passes_on and not whole.isdisjoint(call.writes))
            if whole.isdisjoint(call.reads) or keeps_whole:
                if call.passes_on:
                    self.sets.join(call.reads, call.writes)
                continue
            if call.calls > 1:
                raise ValueError(f"layer {name!r} runs {call.calls} times and reads a stream; gather it is not defined")
            call.reads = call.writes if call.passes_on else self._fresh(len(call.reads))
            self.inserts[name] = "gather"
            self.kinds |= dict.fromkeys(call.reads, "gather")
        self.fix(whole, STREAM)

    def fix(self, labels: Iterable[int], reason: str) -> None:
        """Exclude labels from every cut; the first reason counts."""
        for label in labels:
            self.fixed.setdefault(label, reason)

    def _join_followers(self) -> None:
        for call in self.calls.values():
            if call.passes_on:
                self.sets.join(call.reads, call.writes)

    def _private_makers(self) -> set[str]:
        find = self.sets.find
        added = Counter(find(label) for summed in self.found.sums for labels, _ in summed.operands for label in labels)
        elsewhere = {find(label) for call in self.calls.values() if not call.passes_on for label in call.reads}
        elsewhere |= {find(label) for labels in self.found.joined for label in labels}
        elsewhere |= {find(label) for label in self.found.fixed}
        return {
            name
            for name, call in self.calls.items()
            if call.calls == 1
            and call.selectable
            and all(added[find(label)] == 1 and find(label) not in elsewhere for label in call.writes)
        }

    def _fresh(self, count: int) -> list[int]:
        self.labels += count
        return list(range(self.labels - count, self.labels))


def couple(found: Recording, residual: str) -> Coupling:
    """Return the units and index sets of a recording; ``residual`` is one of ``RESIDUAL_FORMS``."""
    resolution = _Resolution(found)
    resolution.fixed |= found.fixed
    getattr(resolution, residual)()
    unit_of = _numbering(resolution)
    calls = {
        name: replace(call, reads=[unit_of[x] for x in call.reads], writes=[unit_of[x] for x in call.writes])
        for name, call in resolution.calls.items()
    }
    coupling = Coupling(calls, resolution.inserts, 1 + max(unit_of, default=-1))
    _index_sets(coupling)
    owner = {unit: index for index, units in coupling.index_sets.items() for unit in units}
    for source, target in ((resolution.kinds, coupling.kinds), (resolution.fixed, coupling.fixed)):
        for label, text in source.items():
            if unit_of[label] in owner:
                target.setdefault(owner[unit_of[label]], text)
    return coupling


def _numbering(resolution: _Resolution) -> Sequence[int]:
    """Return the unit of each label: joined ones share a number, in the order of appearance."""
    number: dict[int, int] = {}
    return [number.setdefault(resolution.sets.find(label), len(number)) for label in range(resolution.labels)]


def _index_sets(coupling: Coupling) -> None:
    """Join the units that one layer writes, or one selection passes on, into index sets."""
    written: list[tuple[str, list[int]]] = []
    for name, call in coupling.calls.items():
        if coupling.inserts.get(name) == "gather":
            written.append((f"{name}:in", call.reads))
        if not call.passes_on:
            written.append((name, call.writes))
    sets = Sets(coupling.units)
    for _, units in written:
        sets.join(units[:-1], units[1:])
    for unit in sorted({unit for _, units in written for unit in units}):
        coupling.index_sets.setdefault(sets.find(unit), []).append(unit)
    for name, units in written:
        coupling.writers.setdefault(sets.find(units[0]), []).append(name)
