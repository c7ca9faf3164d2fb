"""Rivals that need no super-network, on a table of all cells: they pay for each cell that they train.

A table maps a choice (a tuple of operations, one for each place) to a number. All functions are pure; which number a
search may see (validation) and which one judges it (test) is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from compactvision import _checks as checks

from .arguments import refuse_no_sequence, refuse_scores

Choice = tuple[str, ...]
Table = Mapping[Choice, float]


def regret(choice: Choice, truth: Table) -> float:
    """Return how much a choice is worse than the best of the table, 0 for the best.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> round(rarts.bench.regret(("skip", "conv"), {("skip", "conv"): 0.7, ("conv", "conv"): 0.9}), 6)
    0.2
    """
    refuse_scores(truth=truth)
    _refuse_unknown(choice, truth)
    return max(truth.values()) - truth[choice]


def random_search(scores: Table, count: int, generator: torch.Generator | None = None) -> list[Choice]:
    """Return so many different choices by lot, in the order in which they are trained."""
    refuse_scores(scores=scores)
    checks.counts(count=count)
    checks.generators(generator=generator)
    known = list(scores)
    if count > len(known):
        raise ValueError(f"count must be at most the table's {len(known)}, got {count}")
    return [known[index] for index in torch.randperm(len(known), generator=generator)[:count].tolist()]


def local_search(scores: Table, count: int, generator: torch.Generator | None = None) -> list[Choice]:
    """Return the choices that hill climbing trains, in order.

    It starts by lot, trains the neighbours of where it is (one operation changed) in a random order, and moves to the
    first that scores more. Where none does, it starts anew. No choice is trained twice.

    Parameters
    ----------
    scores : mapping of choice to float
    count : int
        Choices to train.
    generator : torch.Generator, optional

    Raises
    ------
    ValueError
        If ``count`` is more than the table holds, or choices differ in length.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> scores = {(a, b): ord(a) + ord(b) for a in "ab" for b in "ab"}
    >>> len(rarts.bench.local_search(scores, 4))
    4
    """
    refuse_scores(scores=scores)
    order = random_search(scores, len(scores), generator)  # it starts in this order
    checks.counts(count=count)
    if count > len(scores):
        raise ValueError(f"count must be at most the table's {len(scores)}, got {count}")
    places = _operations(scores)
    visited: dict[Choice, None] = {}
    while len(visited) < count:
        start = next(choice for choice in order if choice not in visited)
        visited[start] = None
        here: Choice | None = start
        while len(visited) < count and here is not None:
            here = _better_neighbour(here, scores, places, visited, count, generator)
    return list(visited)


def _operations(scores: Table) -> list[list[str]]:
    for choice in scores:
        _refuse_unknown(choice, scores)
    lengths = {len(choice) for choice in scores}
    if len(lengths) != 1:
        raise ValueError(f"scores must have choices of one length, got lengths {sorted(lengths)}")
    return [sorted({choice[place] for choice in scores}) for place in range(lengths.pop())]


def _better_neighbour(
    here: Choice,
    scores: Table,
    places: Sequence[Sequence[str]],
    visited: dict[Choice, None],
    count: int,
    generator: torch.Generator | None,
) -> Choice | None:
    changed = [(*here[:place], name, *here[place + 1 :]) for place, names in enumerate(places) for name in names]
    near = [choice for choice in changed if choice != here and choice in scores]
    for index in torch.randperm(len(near), generator=generator).tolist():
        choice = near[index]
        if choice in visited:
            continue
        if len(visited) == count:
            return None
        visited[choice] = None
        if scores[choice] > scores[here]:
            return choice
    return None


def most_parameters(parameters: Table) -> tuple[Choice, ...]:
    """Return the choices with the most parameters, all that tie: a search that trains nothing."""
    refuse_scores(parameters=parameters)
    most = max(parameters.values())
    return tuple(choice for choice, count in parameters.items() if count == most)


def best_so_far(visited: Sequence[Choice], scores: Table) -> list[Choice]:
    """Return for each number of trained choices the one of the highest score; ties go to the first.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> scores = {("a",): 1.0, ("b",): 3.0, ("c",): 2.0}
    >>> rarts.bench.best_so_far([("c",), ("b",), ("a",)], scores)
    [('c',), ('b',), ('b',)]
    """
    refuse_scores(scores=scores)
    refuse_no_sequence(visited=visited)
    best: list[Choice] = []
    for choice in visited:
        _refuse_unknown(choice, scores)
        best.append(choice if not best or scores[choice] > scores[best[-1]] else best[-1])
    return best


def expected_best(scores: Table, truth: Table, count: int) -> float:
    """Return the mean truth of the choice that scores best among ``count`` by lot, exactly and without drawing.

    The r-th best of n by score is the best of the lot with chance ``C(n - r, count - 1) / C(n, count)``.

    Parameters
    ----------
    scores, truth : mapping of choice to float
        What the search sees, and what judges it.
    count : int
        Choices drawn, all different.

    Examples
    --------
    >>> from compactvision.search import rarts
    >>> scores = {("a",): 1.0, ("b",): 3.0, ("c",): 2.0}
    >>> round(rarts.bench.expected_best(scores, scores, 2), 6)  # 3, 3 or 2
    2.666667
    """
    refuse_scores(scores=scores, truth=truth)
    checks.counts(count=count)
    n = len(scores)
    if count > n:
        raise ValueError(f"count must be at most the table's {n}, got {count}")
    for choice in scores:
        _refuse_unknown(choice, truth)
    order = sorted(scores, key=lambda choice: -scores[choice])
    whole = math.comb(n, count)
    return sum(math.comb(n - r, count - 1) / whole * truth[choice] for r, choice in enumerate(order, start=1))


def _refuse_unknown(choice: object, table: Table) -> None:
    names = isinstance(choice, tuple) and all(isinstance(name, str) for name in choice)
    if not names or choice not in table:
        raise ValueError(f"choice must be one of the table's, got {checks.shown(choice)}")
