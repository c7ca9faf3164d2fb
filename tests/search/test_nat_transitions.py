"""Moves: the published table out of two orders, closed, and never dearer but where the chapter says so."""

import itertools

import pytest
import torch
from compactvision.models.cells import NAT_OPERATIONS, PUBLISHED, Edge, cost
from compactvision.search.nat_plus_plus import softmax, transitions
from compactvision.search.small_cells import OPERATIONS as FIVE

from oracles import nat_plus_plus as oracle


def generated():
    return {(name, other) for name in NAT_OPERATIONS for other in transitions.allowed(name)}


def test_the_rule_generates_the_published_table():
    assert generated() == oracle.pairs()
    assert len(generated()) == 77


def test_the_number_of_targets():
    found = {name: len(transitions.allowed(name)) for name in NAT_OPERATIONS}
    assert found == {
        "conv_5x5": 13,
        "conv_3x3": 8,
        "conv_1x1": 3,
        "sep_conv_5x5": 10,
        "sep_conv_3x3": 6,
        "dil_conv_5x5": 8,
        "dil_conv_3x3": 5,
        "avg_pool_5x5": 6,
        "max_pool_5x5": 6,
        "avg_pool_3x3": 4,
        "max_pool_3x3": 4,
        "skip_connect": 2,
        "none": 2,
    }


def test_moving_twice_reaches_nothing_new():
    pairs = generated()
    assert {(a, d) for (a, b), (c, d) in itertools.product(pairs, pairs) if b == c} == pairs
    assert all((name, name) in pairs for name in NAT_OPERATIONS)


def test_no_move_is_dearer_but_from_none_to_skip():
    assert {pair for pair in generated() if transitions.dearer(*pair)} == {("none", "skip_connect")}
    assert all(cost(b).parameters <= cost(a).parameters for a, b in generated())
    equal = {(a, b) for a, b in generated() if a != b and cost(a) == cost(b)}
    assert equal == {
        (f"{a}_pool_{k}", f"{b}_pool_{k}") for a, b in (("max", "avg"), ("avg", "max")) for k in ("3x3", "5x5")
    }


def test_where_a_map_is_halved_a_skip_is_dearer_than_pooling_too():
    halved = {pair for pair in generated() if transitions.dearer(*pair, stride=2)}
    pools = {f"{stem}_pool_{k}" for stem in ("max", "avg") for k in ("3x3", "5x5")}
    assert halved == {(name, "skip_connect") for name in {"none", *pools}}


def test_cheaper_moves_that_the_table_leaves_out():
    missing = {
        (a, b)
        for a, b in itertools.permutations(NAT_OPERATIONS, 2)
        if cost(b).macs < cost(a).macs and (a, b) not in generated()
    }
    assert ("sep_conv_5x5", "conv_1x1") in missing
    assert ("dil_conv_3x3", "conv_1x1") in missing
    assert ("conv_3x3", "sep_conv_5x5") in missing


def test_nat_of_2019_allows_less():
    for name in NAT_OPERATIONS:
        fewer = set(transitions.allowed_by_nat(name))
        assert fewer == {name, "skip_connect", "none"}
        assert fewer <= set(transitions.allowed(name))


def test_masks_and_ten_thousand_draws():
    edges = PUBLISHED["darts_v2"].normal
    legal = transitions.mask(edges)
    assert legal.shape == (8, 13)
    generator = torch.Generator().manual_seed(0)
    drawn = softmax.sample(torch.randn(10_000, 8, 13, generator=generator), legal.expand(10_000, -1, -1), generator)
    for index, edge in enumerate(edges):
        seen = {NAT_OPERATIONS[i] for i in drawn[:, index].unique().tolist()}
        assert seen == set(transitions.allowed(edge.operation))


def test_a_uniform_policy_on_the_cell_of_darts():
    legal = transitions.mask(PUBLISHED["darts_v2"].normal)
    found = softmax.entropy(torch.zeros(legal.shape, dtype=torch.float64), legal).sum()
    assert float(found) == pytest.approx(11.9545, abs=5e-5)


def test_operations_of_the_bench():
    assert transitions.allowed("conv_3x3", FIVE) == FIVE
    assert transitions.allowed("avg_pool_3x3", FIVE) == ("none", "skip_connect", "avg_pool_3x3")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transitions.kind("conv_7x7"), "name must be one of"),
        (lambda: transitions.allowed("none", ("none", 3)), r"operations\[1\] must be one of"),
        (lambda: transitions.mask([Edge("conv_3x3", 0, 2)], ("none",)), r"operation of edges\[0\] must be one of none"),
        (lambda: transitions.mask([], rule=3), "rule must be a function of 2 arguments"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
