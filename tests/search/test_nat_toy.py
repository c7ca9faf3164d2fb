"""The enumerable world: its formula, its optimum, its exact means, and that a policy learns in it."""

import itertools

import pytest
import torch
from compactvision.models.cells import NAT_OPERATIONS
from compactvision.search.nat_plus_plus import GraphPolicy, toy, training, transitions
from compactvision.search.nat_plus_plus.softmax import binary_masked_softmax

from oracles import nat_plus_plus as oracle


@pytest.fixture(scope="module")
def world():
    return toy.toy(3)


def some(count=20, seed=0):
    return torch.randint(13, (count, 4), generator=torch.Generator().manual_seed(seed))


def test_rewards_follow_the_formula(world):
    own = 0.25 * torch.randn(4, 13, generator=torch.Generator().manual_seed(3))
    tables = [dict(zip(NAT_OPERATIONS, row, strict=True)) for row in own.tolist()]
    dead = [[12, 12, 10, 10], [12, 12, 4, 10], [12, 4, 10, 4], [10, 4, 4, 11], [12, 12, 12, 12]]
    cells = torch.cat([some(200), torch.tensor(dead)])
    for cell, found in zip(cells.tolist(), world.reward(cells).tolist(), strict=True):
        names = [NAT_OPERATIONS[i] for i in cell]
        slow = oracle.toy_reward(names, tables, toy.STRENGTH, toy.REDUNDANT, toy.CHAIN, toy.BESIDE)
        assert found == pytest.approx(slow, abs=1e-5), names


def test_a_node_of_zeros_hides_what_reads_it(world):
    rewards = world.rewards[12, 12]
    assert torch.equal(rewards, rewards[:, :1].expand_as(rewards))


def test_edges_interact(world):
    """The best operation of an edge depends on the others: not a sum of independent values."""
    assert len(set(world.rewards.argmax(3).flatten().tolist())) > 1
    assert len(set(world.rewards.argmax(0).flatten().tolist())) > 1


def test_the_optimum_is_that_of_a_search_through_all(world):
    for cell in some(6):
        legal = [
            [i for i, name in enumerate(NAT_OPERATIONS) if name in oracle.TABLE[NAT_OPERATIONS[o]].split()]
            for o in cell
        ]
        slow = max(float(world.rewards[actions]) for actions in itertools.product(*legal))
        assert float(world.optimum(cell[None])) == pytest.approx(slow)


def test_more_moves_never_reach_less():
    cells = toy.all_sources()
    assert cells.shape == (28_561, 4)
    more, fewer = toy.toy(0), toy.toy(0, rule=transitions.allowed_by_nat)
    assert torch.equal(more.rewards, fewer.rewards)
    assert (more.optimum(cells) >= fewer.optimum(cells)).all()
    assert (fewer.optimum(cells) >= fewer.reward(cells)).all()
    assert (more.optimum(cells) > fewer.optimum(cells)).any()


def test_the_exact_mean_is_that_of_the_enumeration(world):
    cells = torch.tensor([[9, 8, 6, 0], [4, 12, 9, 9]])
    masks = world.masks(cells)
    logits = torch.randn(2, 4, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = world.expected(logits, masks)
    for row in range(2):
        slow = oracle.expected_reward(
            logits[row].tolist(), masks[row].int().tolist(), lambda actions: float(world.rewards[actions])
        )
        assert float(found[row]) == pytest.approx(slow, rel=1e-6)


def test_its_gradient_is_the_policy_gradient_over_all_actions(world):
    cells = torch.tensor([[9, 4, 9, 12]])
    masks = world.masks(cells)
    logits = torch.randn(1, 4, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(world.expected(logits, masks).sum(), logits)
    p = binary_masked_softmax(logits.detach(), masks)[0]
    total = torch.zeros(4, 13, dtype=torch.float64)
    for actions in itertools.product(*[row.nonzero().flatten().tolist() for row in masks[0]]):
        likely = torch.stack([p[e, a] for e, a in enumerate(actions)]).prod()
        hot = torch.nn.functional.one_hot(torch.tensor(actions), 13) - p
        total += likely * float(world.rewards[actions]) * hot
    torch.testing.assert_close(exact[0], total, rtol=1e-5, atol=1e-8)


def test_gain_is_nought_for_the_source_and_one_for_the_optimum(world):
    cells = some()
    assert world.gain(cells, world.reward(cells)) == 0
    assert world.gain(cells, world.optimum(cells)) == pytest.approx(1)
    with pytest.raises(ValueError, match="sources must leave something to gain"):
        world.gain(world_best(world), torch.zeros(1))


def world_best(world):
    best = int(world.rewards.argmax())
    return torch.tensor([[best // 13**3, best // 13**2 % 13, best // 13 % 13, best % 13]])


def test_a_policy_learns_in_it(world):
    generator = torch.Generator().manual_seed(0)
    policy = GraphPolicy(embedding=8, features=32, hidden=32, generator=generator)
    cells = some(300, seed=1)
    masks = world.masks(cells)
    uniform = world.gain(cells, world.expected(torch.zeros(300, 4, 13), masks))
    recipe = training.Recipe(steps=150, batch=32, learning_rate=5e-3, entropy_weight=0.05)
    path = training.train(
        policy,
        world.reward,
        world.masks,
        lambda count: torch.randint(13, (count, 4), generator=generator),
        toy.PLACES,
        recipe,
        generator=generator,
    )
    assert path.evaluations == 150 * (32 + 4)
    assert len(path.rewards) == len(path.entropies) == 150
    assert path.entropies[-1] < path.entropies[0]
    with torch.no_grad():
        learned = world.gain(cells, world.expected(policy(cells, toy.PLACES), masks))
    assert learned > max(uniform, 0) + 0.3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toy.toy(1.5), "seed must be a whole number"),
        (lambda: toy.toy(rule=None), "rule must be a function of 2 arguments"),
        (
            lambda: toy.toy().reward(torch.zeros(2, 3, dtype=torch.int64)),
            r"cells must be whole numbers of shape \(B, 4\)",
        ),
        (lambda: toy.toy().optimum(torch.full((1, 4), 13)), "cells must hold numbers from 0 to 12"),
        (lambda: toy.toy().gain(some(2), torch.zeros(3)), r"reached must have shape \(2,\), got \(3,\)"),
        (lambda: training.BlindPolicy(0, 13), "edges must be at least 1, got 0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_recipe_has_whole_sources():
    with pytest.raises(ValueError, match="batch must be a multiple of draws, got 10 and 4"):
        training.Recipe(batch=10, draws=4)


def test_other_draws_of_a_source_are_its_baseline():
    found = training._beside_others(torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 3)
    assert found.tolist() == [1 - 4, 2 - 3.5, 6 - 1.5, 0 - 1.5, 0 - 1.5, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"entropy_weight": -0.1}, "entropy_weight must be at least 0"),
        ({"final_entropy_weight": -0.1}, "final_entropy_weight must be at least 0"),
        ({"decay": 1.0}, "decay must be in"),
        ({"scaled": 1}, "scaled"),
        ({"draws": 3}, "batch must be a multiple of draws"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        training.Recipe(**change)
