"""The graph policy: against a slow one, its size, and what it can and cannot see."""

import pytest
import torch
from compactvision import measure
from compactvision.models.cells import NAT_OPERATIONS, PUBLISHED
from compactvision.search.nat_plus_plus import GraphPolicy
from compactvision.search.nat_plus_plus.policy import adjacency, slots

from oracles import nat_plus_plus as oracle

DARTS = PUBLISHED["darts_v2"].normal
CHAIN = ((0, 2), (1, 2), (1, 3), (2, 3))
DEEP = ((0, 2), (1, 2), (0, 3), (2, 3), (3, 4), (0, 4))
TWICE = ((0, 2), (0, 2), (1, 3), (2, 3))


def places_of(edges):
    return tuple((edge.source, edge.target) for edge in edges)


def small(*, self_loops=True, seed=0):
    options = {"embedding": 5, "features": 7, "hidden": 6, "self_loops": self_loops}
    return GraphPolicy(**options, generator=torch.Generator().manual_seed(seed)).double()


def heard(policy, places, cell=None):
    """Return for each edge whose operation is changed the set of edges whose logits change."""
    cell = torch.zeros(1, len(places), dtype=torch.int64) if cell is None else cell
    before = policy(cell, places)[0]
    changes = {}
    for edge in range(len(places)):
        other = cell.clone()
        other[0, edge] += 3
        difference = (policy(other, places)[0] - before).abs().amax(1)
        changes[edge] = set(difference.nonzero().flatten().tolist())
    return changes


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("places", [CHAIN, DEEP, TWICE, places_of(DARTS), ((1, 3), (0, 2), (2, 3), (1, 2))])
def test_equals_a_policy_without_matrices_of_nodes(places, self_loops):
    policy = small(self_loops=self_loops)
    cells = torch.randint(13, (3, len(places)), generator=torch.Generator().manual_seed(1))
    found = policy(cells, places)
    for cell, rows in zip(cells, found, strict=True):
        slow = torch.stack(oracle.logits_of(policy, cell.tolist(), places))
        torch.testing.assert_close(rows, slow)


def test_the_size_of_the_published_network():
    assert measure.parameters(GraphPolicy()) == 322_750


def test_the_published_policy_is_blind_in_the_normal_cell_of_darts():
    policy = GraphPolicy(self_loops=False, generator=torch.Generator().manual_seed(0))
    cell = policy.numbers(DARTS)
    for edge in range(len(DARTS)):
        for other in range(len(NAT_OPERATIONS)):
            changed = cell.clone()
            changed[0, edge] = other
            assert torch.equal(policy(changed, places_of(DARTS)), policy(cell, places_of(DARTS)))


def test_without_self_loops_exactly_two_hops_are_heard():
    assert all(not found for found in heard(small(self_loops=False), CHAIN).values())
    found = heard(small(self_loops=False), DEEP)  # 2 to 3 to 4: the edges into 2 are heard by those into 4
    assert found == {0: {4, 5}, 1: {4, 5}, 2: set(), 3: set(), 4: set(), 5: set()}


def test_with_self_loops_every_edge_hears_itself_and_what_is_upstream():
    found = heard(small(), DEEP)
    assert found == {
        0: {0, 1, 2, 3, 4, 5},
        1: {0, 1, 2, 3, 4, 5},
        2: {2, 3, 4, 5},
        3: {2, 3, 4, 5},
        4: {4, 5},
        5: {4, 5},
    }
    assert all(edge in changed for edge, changed in heard(small(), places_of(DARTS)).items())


def test_the_order_of_edges_in_the_list_moves_the_logits_along():
    """As long as the two edges of a node keep their order, only the rows change places."""
    policy, order = small(), [2, 0, 4, 3, 1, 5]
    cell = torch.arange(6)[None] + 2
    rows = policy(cell, DEEP)[0]
    torch.testing.assert_close(policy(cell[:, order], tuple(DEEP[i] for i in order))[0], rows[order])


def test_many_cells_at_once_are_as_one_by_one():
    policy = small()
    cells = torch.randint(13, (5, 4), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(policy(cells, CHAIN), torch.cat([policy(cell[None], CHAIN) for cell in cells]))


def test_adjacency():
    assert adjacency(TWICE, self_loops=False)[2].tolist() == [2, 0, 0, 0]
    normalised = adjacency(TWICE)
    assert normalised.sum(1).tolist() == pytest.approx([1] * 4)
    assert normalised[2].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0])
    assert slots(((1, 3), (0, 2), (2, 3), (1, 2))).tolist() == [[1, 3], [0, 2]]


def test_the_first_weights_come_from_the_generator():
    first, again, other = (small(seed=s).lift.weight for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1 / 10**0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slots([(0, 2)]), "places must have two edges to each node, got 1 to 2"),
        (lambda: adjacency(CHAIN, self_loops=1), "self_loops must be True or False"),
        (lambda: GraphPolicy(("none", "none")), "operations must be different names"),
        (lambda: GraphPolicy(hidden=0), "hidden must be at least 1, got 0"),
        (
            lambda: small()(torch.zeros(1, 3, dtype=torch.int64), CHAIN),
            r"cells must be whole numbers of shape \(B, 4\)",
        ),
        (lambda: small()(torch.zeros(1, 4), CHAIN), r"cells must be whole numbers of shape"),
        (lambda: small()(torch.full((1, 4), 13), CHAIN), "cells must hold numbers from 0 to 12"),
        (lambda: GraphPolicy(("none",)).numbers(DARTS), r"operation of edges\[0\] must be one of none"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
