"""The two phases: who learns what, rewards, both cells, and inference on held-out images."""

import copy

import pytest
import torch
from compactvision.models.cells import PUBLISHED, Edge, Genotype, SuperNetwork
from compactvision.search.nat_plus_plus import (
    GraphPolicy,
    MovingBaseline,
    phases,
    policy_phase,
    transform,
    transitions,
    weights_phase,
)
from compactvision.search.small_cells import OPERATIONS, PLACES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network():
    return SuperNetwork(PLACES, OPERATIONS, channels=4, cells=3, stem=1, generator=seeded())


def policy():
    return GraphPolicy(OPERATIONS, embedding=4, features=8, hidden=8, generator=seeded())


def batches(count=3, size=6, seed=0):
    generator = seeded(seed)
    return [
        (torch.randn(size, 3, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator))
        for _ in range(count)
    ]


def keep(name, operations):
    return (name,)


def sources(model, seed=0, **options):
    generator = seeded(seed)
    return lambda: phases.random_source(model, generator, **options)


def test_sources_have_every_operation_but_none():
    model, generator = network(), seeded()
    drawn = [phases.random_source(model, generator) for _ in range(200)]
    assert {edge.operation for pair in drawn for cell in pair for edge in cell} == set(OPERATIONS) - {"none"}
    assert any(normal != reduction for normal, reduction in drawn)
    assert all(
        tuple(edge[1:]) == place for pair in drawn for e in [pair[0]] for edge, place in zip(e, PLACES, strict=True)
    )
    one, other = phases.random_source(model, generator, same=True)
    assert one == other


def test_the_phases_change_their_own_weights_only():
    model, actor = network(), policy()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4)
    adam = torch.optim.Adam(actor.parameters(), lr=1e-2)
    before = copy.deepcopy(model.state_dict()), copy.deepcopy(actor.state_dict())
    losses = weights_phase(model, sgd, batches(), sources(model))
    assert len(losses) == 3
    assert same_state(before[1], actor)
    assert not same_state(before[0], model)
    middle = copy.deepcopy(model.state_dict())
    model.zero_grad(set_to_none=True)
    moves = policy_phase(actor, adam, model, batches(), sources(model), MovingBaseline(), generator=seeded())
    assert len(moves) == 3
    assert same_state(middle, model)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not same_state(before[1], actor)


def same_state(state, module):
    return all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())


def test_rewards_are_differences_of_accuracy_and_moves_are_legal():
    model, actor = network(), policy()
    adam = torch.optim.Adam(actor.parameters(), lr=1e-3)
    data = batches(6)
    moves = policy_phase(actor, adam, model, data, sources(model), MovingBaseline(), generator=seeded())
    for move, batch in zip(moves, data, strict=True):
        found = phases.accuracy(model, move.target, [batch]) - phases.accuracy(model, move.source, [batch])
        assert move.reward == pytest.approx(found)
        for before, after in zip(move.source, move.target, strict=True):
            for a, b in zip(before, after, strict=True):
                assert transitions.may_become(a.operation, b.operation)
                assert a[1:] == b[1:]


def test_who_changes_nothing_is_rewarded_with_nothing():
    model, actor = network(), policy()
    adam = torch.optim.Adam(actor.parameters(), lr=1e-3)
    before = copy.deepcopy(actor.state_dict())
    moves = policy_phase(
        actor,
        adam,
        model,
        batches(),
        sources(model),
        MovingBaseline(),
        rule=keep,
        entropy_weight=0.0,
        generator=seeded(),
    )
    assert [move.reward for move in moves] == [0, 0, 0]
    assert same_state(before, actor)


@pytest.mark.parametrize("kind", [0, 1])
def test_both_cells_contribute(kind):
    """A rule that lets only one of the two cells change still gives a gradient."""
    model, actor = network(), policy()
    frozen, free = (Edge("none", *place) for place in PLACES), (Edge("conv_3x3", *place) for place in PLACES)
    pair = (tuple(free), tuple(frozen))[:: 1 if kind == 0 else -1]
    rule = lambda name, operations: (name,) if name == "none" else transitions.allowed(name, operations)  # noqa: E731
    baseline = MovingBaseline()
    baseline.update(1.0)  # so that no advantage is zero
    adam = torch.optim.SGD(actor.parameters(), lr=0.1)
    before = copy.deepcopy(actor.state_dict())
    policy_phase(
        actor, adam, model, batches(1), lambda: pair, baseline, rule=rule, entropy_weight=0.0, generator=seeded()
    )
    assert not same_state(before, actor)


def test_one_move_for_two_equal_cells():
    model, actor = network(), policy()
    adam = torch.optim.Adam(actor.parameters(), lr=1e-3)
    moves = policy_phase(
        actor, adam, model, batches(5), sources(model, same=True), MovingBaseline(), same=True, generator=seeded()
    )
    assert all(move.target[0] == move.target[1] for move in moves)


def test_the_best_of_ten_is_valued_ten_times():
    actor, calls = policy(), []

    def value(pair):
        calls.append(pair)
        return float(sum(edge.operation == "skip_connect" for cell in pair for edge in cell))

    source = sources(network())()
    pair, best = transform(actor, source, value, generator=seeded())
    assert len(calls) == 10
    assert best == value(pair) == max(map(value, calls[:10]))
    assert transform(actor, source, value, generator=seeded())[0] == pair


def test_the_greedy_transformation_is_the_likeliest():
    full = GraphPolicy(embedding=4, features=8, hidden=8, generator=seeded())
    genotype = PUBLISHED["darts_v2"]
    found = phases.greedy(full, genotype)
    assert isinstance(found, Genotype)
    logits = full(full.numbers(genotype.normal), [edge[1:] for edge in genotype.normal])
    legal = transitions.mask(genotype.normal)
    best = logits[0].masked_fill(~legal, -torch.inf).argmax(1)
    assert [full.operations[i] for i in best.tolist()] == [edge.operation for edge in found.normal]
    assert [edge[1:] for edge in found.reduction] == [edge[1:] for edge in genotype.reduction]


def test_accuracy_counts():
    model = network()
    images, labels = batches(1, size=20)[0]
    pair = sources(model)()
    with torch.no_grad():
        right = (model(images, *pair).argmax(1) == labels).double().mean()
    assert phases.accuracy(model, pair, [(images, labels)]) == pytest.approx(float(right))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phases.random_source(policy()), "network must be of class SuperNetwork"),
        (lambda: phases.accuracy(network(), sources(network())(), []), "batches must hold at least one image"),
        (lambda: transform(policy(), sources(network())(), lambda pair: 0.0, 0), "samples must be at least 1, got 0"),
        (
            lambda: transform(policy(), sources(network())(), lambda pair: float("nan")),
            "what value returns must be finite",
        ),
        (lambda: weights_phase(network(), None, batches(), 3), "source must be a function of 0 arguments"),
        (lambda: phases.greedy(policy(), "darts"), "genotype must be of class Genotype"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
