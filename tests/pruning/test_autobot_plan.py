"""AutoBot's gates as an importance: plans against the threshold search of the paper, made exact."""

import copy
import itertools
import math

import pytest
import torch
from compactvision import surgery
from compactvision.pruning import autobot
from hypothesis import given, settings
from hypothesis import strategies as st

from gated_networks import built, tiny
from oracles import autobot as oracle

CHAIN = tiny()


class TestPlan:
    """The gates are an importance; the plan of a budget is that of the paper's threshold search, made exact."""

    @pytest.mark.parametrize("name", ["resnet", "resnet, streams", "resnet, gather", "densenet", "resnet50"])
    @pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
    def test_within_the_budget_and_no_layer_empty(self, name, share):
        _, graph, _ = built(name)
        operations = autobot.count_operations(graph, convention="thop")
        gates = some_gates(graph)
        plan = plan_of(graph, gates, share, operations)
        assert operations(plan.kept) <= share * operations.whole
        for layer in graph.layers.values():
            assert plan.kept[layer.reads].any()
            assert plan.kept[layer.writes].any()
        threshold = gates[~plan.kept].max()
        more = plan.kept | (gates == threshold)  # the next one up does not fit
        assert operations(more) > share * operations.whole

    @pytest.mark.parametrize("name", ["resnet", "resnet, streams", "resnet, gather", "densenet", "depthwise"])
    @pytest.mark.parametrize("convention", ["thop", "macs"])
    def test_is_that_of_the_exact_threshold_search(self, name, convention):
        """Gates that all differ; every threshold is tried there."""
        _, graph, _ = built(name)
        operations, gates = autobot.count_operations(graph, convention=convention), some_gates(graph)
        layers = [units.tolist() for units in written(graph)]
        inside = ~surgery.ungated(graph)
        assert len(gates[inside].unique()) == int(inside.sum())
        for share in (0.75, 0.4):
            plan = plan_of(graph, gates, share, operations)
            kept, _ = oracle.threshold_search(
                dict(zip(inside.nonzero().flatten().tolist(), gates[inside].tolist(), strict=True)),
                layers,
                lambda kept: float(operations(hard(graph, kept))),
                share * operations.whole,
            )
            assert torch.equal(plan.kept, hard(graph, kept).bool())
            if convention == "macs":
                found = surgery.make_plan(
                    graph, autobot.LearnedGates(graph, gates), keep_macs=share, global_pruning=True
                )
                assert torch.equal(plan.kept, found.kept)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), min_size=14, max_size=14), st.floats(0.25, 0.99))
    def test_of_equal_gates_as_many_stay_as_fit(self, values, share):
        """The threshold search lets equal gates stay or go together; here some of those at the threshold stay."""
        _, graph = CHAIN
        operations = autobot.count_operations(graph, convention="thop")
        first, second = (group.units.tolist() for group in graph.groups.values())
        gates = torch.ones(graph.units).index_copy(0, torch.tensor(first + second), torch.tensor(values))
        numbers = {unit: float(gates[unit]) for unit in first + second}
        kept, threshold = oracle.threshold_search(
            numbers, [first, second], lambda kept: float(operations(hard(graph, kept))), share * operations.whole
        )
        if kept is None:
            with pytest.raises(ValueError, match="out of reach"):
                plan_of(graph, gates, share, operations)
            return
        plan = plan_of(graph, gates, share, operations)
        assert operations(plan.kept) <= share * operations.whole
        for units in (first, second):
            ours, theirs = ([numbers[unit] for unit in units if known[unit]] for known in (plan.kept, kept))
            assert sorted(ours)[len(ours) - len(theirs) :] == sorted(theirs)
            assert all(gate == threshold for gate in sorted(ours)[: len(ours) - len(theirs)])

    def test_monotone_in_the_budget(self):
        _, graph, _ = built("resnet")
        gates = some_gates(graph)
        plans = [plan_of(graph, gates, share, autobot.count_operations(graph)) for share in (0.2, 0.4, 0.6, 0.8)]
        for small, large in itertools.pairwise(plans):
            assert (small.kept <= large.kept).all()

    def test_every_writer_of_a_shared_stream_keeps_a_channel(self):
        """Option A: the first stage writes only some units of the stream that all three share."""
        _, graph, _ = built("resnet, streams")
        gates = some_gates(graph)
        gates[graph.layers["conv1"].writes] = 0  # nothing that the first stage writes is wanted
        kept = surgery.make_plan(graph, autobot.LearnedGates(graph, gates), keep_above=2.0).kept
        assert all(kept[layer.writes].any() for layer in graph.layers.values())
        assert kept.float().mean() < 0.2

    def test_scores_are_the_gates_of_every_layer(self):
        model, graph, _ = built("resnet, gather")
        gates = some_gates(graph)
        scores = autobot.LearnedGates(graph, gates)(model)
        assert set(graph.layers) < set(scores)
        assert set(graph.groups) < set(scores)  # what a layer is going to select has scores as well
        for name, layer in graph.layers.items():
            assert torch.equal(scores[name], gates[layer.writes])


def some_gates(graph):
    """Gates by lot, 1 where there is none."""
    lot = torch.rand(graph.units, generator=torch.Generator().manual_seed(2))
    return torch.where(surgery.ungated(graph), 1.0, lot)


def plan_of(graph, gates, share, operations):
    """The plan of these gates for a share of the operations."""
    found = autobot.LearnedGates(graph, gates)
    return surgery.make_plan(graph, found, keep_macs=share, global_pruning=True, cost=operations)


def written(graph):
    """The units of which each layer keeps at least one."""
    for group in graph.groups.values():
        for name in group.writers:
            yield graph.layers[name].writes if name in graph.layers else group.units


def hard(graph, kept):
    """Gates of 0 and 1, from a dict of units."""
    gates = torch.ones(graph.units)
    gates[list(kept)] = torch.tensor([float(flag) for flag in kept.values()])
    return gates


def test_refuses_gates():
    model, graph = CHAIN
    gates = torch.ones(graph.units)
    with pytest.raises(ValueError, match="gates holds NaN"):
        autobot.LearnedGates(graph, gates * math.nan)
    with pytest.raises(ValueError, match="gates must have shape"):
        autobot.LearnedGates(graph, gates[1:])
    with pytest.raises(ValueError, match="model: these gates were learned for another network"):
        autobot.LearnedGates(graph, gates)(copy.deepcopy(model))
    with pytest.raises(ValueError, match="one channel a layer still costs"):
        plan_of(graph, gates, 0.001, autobot.count_operations(graph))
