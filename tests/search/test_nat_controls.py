"""Controls: legal, at the number of evaluations that they were given, and as good as they can be."""

import itertools

import pytest
import torch
from compactvision.models.cells import NAT_OPERATIONS, Edge
from compactvision.search.nat_plus_plus import controls, transitions

CELL = (Edge("conv_3x3", 0, 2), Edge("sep_conv_3x3", 1, 2))
VALUE = {name: index for index, name in enumerate(("none", "conv_3x3", "sep_conv_3x3", "skip_connect", "max_pool_3x3"))}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def value(cell):
    return float(sum(VALUE.get(edge.operation, 0) for edge in cell))


def counted():
    calls = []

    def function(cell):
        calls.append(cell)
        return value(cell)

    return function, calls


def test_random_cells_are_legal_and_reach_everything():
    drawn = [controls.random_cell(CELL, generator=seeded(s)) for s in range(600)]
    for index, edge in enumerate(CELL):
        assert {cell[index].operation for cell in drawn} == set(transitions.allowed(edge.operation))
    assert {tuple(edge[1:] for edge in cell) for cell in drawn} == {((0, 2), (1, 2))}


def test_the_best_of_random_cells():
    function, calls = counted()
    found = controls.best_random(CELL, function, 7, generator=seeded())
    assert len(calls) == found.evaluations == 7
    assert found.value == max(map(value, calls)) == value(found.cell)


def test_ties_go_to_the_first():
    first, second = CELL, CELL[::-1]
    assert controls.best_of([first, second], value).cell == first


def test_greedy_edits_reach_the_best_of_independent_edges():
    found = controls.greedy_edits(CELL, value, 200, generator=seeded())
    legal = [transitions.allowed(edge.operation) for edge in CELL]
    assert found.value == max(sum(VALUE.get(name, 0) for name in names) for names in itertools.product(*legal))
    assert found.evaluations < 200  # it ends where nothing is better


def test_greedy_edits_never_get_worse_and_stop_in_time():
    for budget in (1, 2, 5, 10):
        function, calls = counted()
        found = controls.greedy_edits(CELL, function, budget, generator=seeded(budget))
        assert len(calls) == found.evaluations <= budget
        assert found.value == max(map(value, calls)) >= value(CELL)
        assert calls[0] == CELL


def test_what_is_only_as_good_is_not_taken():
    found = controls.greedy_edits(CELL, lambda cell: 1.0, 20, generator=seeded())
    assert found.cell == CELL


def test_each_edit_changes_one_edge_by_a_legal_move():
    function, calls = counted()
    controls.greedy_edits(CELL, function, 50, generator=seeded())
    best = calls[0]
    for cell in calls[1:]:
        changed = [(a.operation, b.operation) for a, b in zip(best, cell, strict=True) if a != b]
        assert len(changed) == 1
        assert all(transitions.may_become(a.operation, b.operation) for a, b in zip(CELL, cell, strict=True))
        best = cell if value(cell) > value(best) else best


def test_another_rule():
    found = {controls.random_cell(CELL, rule=transitions.allowed_by_nat, generator=seeded(s))[0] for s in range(99)}
    assert {edge.operation for edge in found} == {"conv_3x3", "skip_connect", "none"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: controls.best_of([], value), "cells must be a list of at least one cell"),
        (lambda: controls.best_random(CELL, value, 0), "evaluations must be at least 1, got 0"),
        (lambda: controls.greedy_edits(CELL, 3), "value must be a function of 1 argument"),
        (lambda: controls.greedy_edits(CELL, lambda cell: float("nan")), "what value returns must be finite"),
        (lambda: controls.random_cell(CELL, NAT_OPERATIONS[:2]), r"operation of edges\[0\] must be one of"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
