import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.surgery.graph import channel_graph
from compactvision.surgery.ranking import rank
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


@pytest.fixture(scope="module")
def chain():
    """Two groups, of four and of two units, and a classifier that stays."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )
    return channel_graph(model, (1, 4, 4))


SCORES = {"0": torch.tensor([3.0, 1.0, 2.0, 4.0]), "2": torch.tensor([10.0, 20.0])}


def _keep(graph, scores=SCORES, **budget):
    return surgery.make_plan(graph, scores, **budget).keep


def test_counts_of_the_chain_by_hand(chain):
    assert chain.parameters == 4 * 9 + 8 + (8 + 2) + (6 + 3)
    assert chain.macs == 16 * 36 + 16 * 8 + 6
    plan = surgery.keep_plan(chain, {"0": [0, 3], "2": [1]})
    assert plan.parameters == 2 * 9 + 4 + (2 + 1) + (3 + 3)
    assert plan.macs == 16 * 18 + 16 * 2 + 3
    assert plan.widths == {"0": 2, "2": 1}
    assert str(plan) == "keeps 3 of 6 channels in 2 groups: 49.2% of the parameters, 45.5% of the MACs"


def test_a_share_thins_each_group_by_its_own_ranking(chain):
    assert _keep(chain, keep=1) == {"0": (0, 1, 2, 3), "2": (0, 1)}
    assert _keep(chain, keep=0.5) == {"0": (0, 3), "2": (1,)}
    assert _keep(chain, keep=0.01) == {"0": (3,), "2": (1,)}
    assert _keep(chain, keep={"0": 0.75}) == {"0": (0, 2, 3), "2": (0, 1)}


@pytest.mark.parametrize(("keep", "width"), [(0.29, 29), (1 - 0.9, 10), (0.299, 29), (0.3, 30), (0.001, 1)])
def test_kept_counts_round_down_but_not_below_what_was_meant(keep, width):
    """In floating point 100 * 0.29 is 28.999999999999996, and 1 - 0.9 a little less than 0.1."""
    model = nn.Sequential(nn.Conv2d(1, 100, 1), nn.Conv2d(100, 1, 1))
    graph = channel_graph(model, (1, 2, 2))
    assert surgery.make_plan(graph, {"0": torch.arange(100.0)}, keep=keep).widths["0"] == width


def test_an_importance_is_asked_for_the_scores_of_the_graphs_model(chain):
    asked = []

    def importance(model):
        asked.append(model)
        return SCORES

    assert torch.equal(
        surgery.make_plan(chain, importance, keep=0.5).kept, surgery.make_plan(chain, SCORES, keep=0.5).kept
    )
    assert len(asked) == 1
    assert asked[0] is chain.model


def test_another_cost_than_macs_can_be_counted(chain):
    """Units of group "2" cost ten, all others one: 16 in all; three less is two of "0" and the one that is cheaper."""
    price = torch.ones(chain.units).index_fill(0, chain.groups["2"].units, 10.0)
    whole = float(price.sum())
    plan = surgery.make_plan(chain, SCORES, keep_macs=(whole - 10) / whole, cost=lambda kept: price[kept].sum())
    assert plan.widths == {"0": 2, "2": 1}
    assert surgery.make_plan(chain, SCORES, keep_macs=(whole - 10) / whole).widths != plan.widths


def test_latency_is_measured_by_default(monkeypatch, chain):
    from compactvision.surgery import budget

    seen = []

    def measured(model, example_inputs):
        seen.append((model, example_inputs))
        return lambda plan: float(sum(plan.widths.values()))

    monkeypatch.setattr(budget, "measured_latency", measured)
    assert sum(surgery.make_plan(chain, SCORES, latency_ms=4.0).widths.values()) == 4
    assert seen == [(chain.model, chain.example_inputs)]


def test_widths_name_groups(chain):
    assert _keep(chain, keep_count={"0": 1}) == {"0": (3,), "2": (0, 1)}


def test_global_pruning_ranks_all_units_together(chain):
    together = {"global_pruning": True}
    assert _keep(chain, keep_count=3, **together) == {"0": (3,), "2": (0, 1)}
    assert _keep(chain, keep_count=2, **together) == {"0": (3,), "2": (1,)}  # the best of each layer stays
    assert _keep(chain, keep=0.5, **together) == _keep(chain, keep_count=3, **together)
    # .25 and .5, before the other .5
    assert _keep(chain, keep_count=4, normalise="max", **together) == {"0": (0, 3), "2": (0, 1)}


def test_a_count_without_global_pruning_thins_all_groups_in_turn(chain):
    assert _keep(chain, keep_count=4) == {"0": (0, 3), "2": (0, 1)}
    assert _keep(chain, keep_count=3) == {"0": (0, 3), "2": (1,)}


def test_a_threshold_removes_scores_at_or_below_it(chain):
    assert _keep(chain, keep_above=2.0) == {"0": (0, 3), "2": (0, 1)}
    assert _keep(chain, keep_above=1.999) == {"0": (0, 2, 3), "2": (0, 1)}
    assert _keep(chain, keep_above=99.0) == {"0": (3,), "2": (1,)}
    assert _keep(chain, keep_above=0.5, normalise="max") == {"0": (0, 3), "2": (1,)}


@pytest.mark.parametrize(
    ("normalise", "lowest"),
    [("sum", 0.1), ("max", 0.25), ("mean", 0.4), ("l2", 1 / 30**0.5)],
)
def test_normalisation_divides_by_a_norm_of_the_layer(chain, normalise, lowest):
    for threshold, kept in ((lowest * 0.9999, (0, 1, 2, 3)), (lowest * 1.0001, (0, 2, 3))):
        assert _keep(chain, keep_above=threshold, normalise=normalise)["0"] == kept


def test_a_norm_below_one_divides_too(chain):
    small = {name: 0.001 * scores for name, scores in SCORES.items()}
    for threshold, kept in ((0.2499, (0, 1, 2, 3)), (0.2501, (0, 2, 3))):
        assert _keep(chain, small, keep_above=threshold, normalise="max")["0"] == kept


def test_scores_that_are_all_zero_can_be_normalised(chain):
    zero = {"0": torch.zeros(4), "2": torch.zeros(2)}
    assert _keep(chain, zero, keep_above=0.0, normalise="sum") == {"0": (3,), "2": (1,)}


def test_ties_remove_the_lower_index_and_the_earlier_group_first(chain):
    equal = {"0": torch.ones(4), "2": torch.ones(2)}
    assert _keep(chain, equal, keep=0.5) == {"0": (2, 3), "2": (1,)}
    assert [_keep(chain, equal, keep_count=n, global_pruning=True) for n in (4, 2)] == [
        {"0": (2, 3), "2": (0, 1)},
        {"0": (3,), "2": (1,)},
    ]


def test_scores_of_several_layers_are_averaged(chain):
    scores = SCORES | {"1": torch.tensor([0.0, 9.0, 0.0, 0.0])}  # means 1.5, 5, 1, 2
    assert _keep(chain, scores, keep=0.5)["0"] == (1, 3)
    only_norm = {"1": torch.tensor([0.0, 9.0, 1.0, 2.0]), "2": SCORES["2"]}
    assert _keep(chain, only_norm, keep=0.5)["0"] == (1, 3)


def test_scores_of_layers_that_stay_are_ignored(chain):
    assert _keep(chain, SCORES | {"5": torch.zeros(3)}, keep=0.5) == _keep(chain, keep=0.5)


def test_uniform_order_takes_from_all_groups_in_turn(chain):
    """Shares removed after each step: 1/4, then 2/4 and 1/2 (the earlier group first), then 3/4."""
    costs = [surgery.keep_plan(chain, keep).macs for keep in ({"0": [0, 2, 3]}, {"0": [0, 3]}, {"0": [0, 3], "2": [1]})]
    shares = [(cost + 0.5) / chain.macs for cost in costs]
    assert _keep(chain, keep_macs=shares[0]) == {"0": (0, 2, 3), "2": (0, 1)}
    assert _keep(chain, keep_macs=shares[1]) == {"0": (0, 3), "2": (0, 1)}
    assert _keep(chain, keep_macs=shares[2]) == {"0": (0, 3), "2": (1,)}
    scores = {"0": SCORES["0"], "2": torch.tensor([0.0, 1.0])}
    assert _keep(chain, scores, keep_macs=shares[0], global_pruning=True)["2"] == (1,)


@pytest.mark.parametrize("global_pruning", [False, True])
@pytest.mark.parametrize("name", ["resnet56", "vgg16_bn", "mobilenet_v2"])
def test_a_share_of_macs_is_met_as_closely_as_one_unit_allows(name, global_pruning, network, graph, random_scores):
    channels = graph(name, "grouped")
    scores = random_scores(channels)
    for share in (0.9, 0.5, 0.25):
        plan = surgery.make_plan(channels, scores, keep_macs=share, global_pruning=global_pruning)
        target = share * channels.macs
        assert plan.macs <= target
        back = [_macs_with(plan, plan.graph.groups[group]) for group in _cut(plan)]
        assert min(back) > plan.macs
        # one unit more would be too much, or the gap is within one per cent anyway
        assert target - plan.macs <= max(0.01 * channels.macs, max(back) - plan.macs)
    small = surgery.prune(network(name), plan)
    assert measure.macs(small, (3, 32, 32)) == plan.macs


def _cut(plan):
    return [name for name, group in plan.graph.groups.items() if plan.widths[name] < group.size]


def _macs_with(plan, group):
    """MACs with one removed unit of the group put back; which one makes no difference."""
    kept = plan.kept.clone()
    kept[group.units[~kept[group.units]][0]] = True
    return plan.graph.cost(kept)[1]


@pytest.mark.parametrize("budget", ["keep_macs", "keep_parameters"])
def test_the_removal_is_the_shortest_that_meets_the_share(budget, graph, random_scores):
    channels = graph("resnet20_a", "grouped")
    scores = random_scores(channels)
    order = rank(channels, scores).order(global_pruning=False)
    index, dense = (0, channels.parameters) if budget == "keep_parameters" else (1, channels.macs)
    kept = torch.ones(channels.units, dtype=torch.bool)
    for unit in order:  # one by one, the slow way
        kept[unit] = False
        if channels.cost(kept)[index] <= 0.37 * dense:
            break
    assert torch.equal(surgery.make_plan(channels, scores, **{budget: 0.37}).kept, kept)


def test_the_whole_budget_removes_nothing(chain):
    assert surgery.make_plan(chain, SCORES, keep_macs=1.0).kept.all()


def test_milliseconds_are_met_by_bisection(graph, random_scores):
    channels, asked = graph("resnet20_a", "grouped"), []

    def table(plan):
        asked.append(plan)
        return sum(plan.widths.values()) / 100

    plan = surgery.make_plan(channels, random_scores(channels), latency_ms=3.0, latency=table)
    assert sum(plan.widths.values()) == 300
    assert len(asked) <= 12


def test_a_noisy_latency_still_ends_within_the_limit(graph, random_scores):
    channels, generator = graph("resnet20_a", "grouped"), torch.Generator().manual_seed(0)
    known = {}

    def noisy(plan):
        key = tuple(plan.widths.values())
        noise = 1 + 0.3 * float(torch.randn((), generator=generator))
        return known.setdefault(key, sum(key) * noise)

    plan = surgery.make_plan(channels, random_scores(channels), latency_ms=200.0, latency=noisy)
    assert noisy(plan) <= 200


def test_a_budget_is_solved_with_few_counts_and_no_model(graph, random_scores, monkeypatch):
    channels, counted = graph("resnet56", "grouped"), []
    count = type(channels).cost
    monkeypatch.setattr(type(channels), "cost", lambda self, kept: counted.append(1) or count(self, kept))
    surgery.make_plan(channels, random_scores(channels), keep_macs=0.5)
    assert len(counted) <= 2 + 11  # both ends, then halving 1,120 - 30 removals


def test_keep_plan_takes_indices_and_masks(chain):
    by_index = surgery.keep_plan(chain, {"0": [3, 0]})
    by_mask = surgery.keep_plan(chain, {"0": torch.tensor([True, False, False, True])})
    assert by_index.keep == by_mask.keep == {"0": (0, 3), "2": (0, 1)}


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"0": []}, "layer '0' would be left without an output channel"),
        ({"0": [0, 0]}, r"keep\['0'\] must hold different indices below 4, got \[0, 0\]"),
        ({"0": [4]}, "different indices below 4"),
        ({"0": [-1]}, "different indices below 4"),
        ({"0": torch.tensor([True])}, r"keep\['0'\] must have shape \(4,\), got \(1,\)"),
        ({"9": [0]}, "group: '9' is no group"),
        ({"5": [0]}, "layer '5' cannot be cut: it is the network's output"),
    ],
)
def test_bad_choices_are_refused(chain, keep, message):
    with pytest.raises(ValueError, match=message):
        surgery.keep_plan(chain, keep)


def test_two_names_for_one_group_are_refused(graph, random_scores):
    channels = graph("resnet20_a", "grouped")
    both = {"conv1": [0], "layer1.0.conv2": [1]}
    with pytest.raises(ValueError, match=r"keep: 'conv1' and 'layer1\.0\.conv2' are one group"):
        surgery.keep_plan(channels, both)
    with pytest.raises(ValueError, match=r"keep: 'layer1\.0\.conv2' names group 'conv1' a second time"):
        surgery.make_plan(channels, random_scores(channels), keep=dict.fromkeys(both, 0.5))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"0": torch.tensor([1.0, float("nan"), 2.0, 3.0]), "2": torch.ones(2)}, r"scores\['0'\] holds NaN"),
        ({"0": torch.ones(3), "2": torch.ones(2)}, r"scores\['0'\] must have shape \(4,\), got \(3,\)"),
        ({"0": torch.ones(4, 1), "2": torch.ones(2)}, r"scores\['0'\] must have shape \(4,\), got \(4, 1\)"),
        ({"0": [1, 2, 3, 4], "2": torch.ones(2)}, r"scores\['0'\] must be a tensor, got \[1, 2, 3, 4\]"),
        ({"0": torch.ones(4)}, "scores: none for group '2'; give them for one of 2"),
        ({"2": torch.ones(2)}, "scores: none for group '0'; give them for one of 0, 1"),
        (SCORES | {"7": torch.ones(1)}, "scores: the network has no layer '7' that ran"),
    ],
)
def test_bad_scores_are_refused(chain, scores, message):
    with pytest.raises(ValueError, match=message):
        surgery.make_plan(chain, scores, keep=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one budget of .* got none"),
        ({"keep": 0.5, "keep_macs": 0.5}, "exactly one budget of .* got keep, keep_macs"),
        ({"keep": 0.0}, r"keep must be in \(0, 1\], the share that stays, got 0.0 for '0'"),
        ({"keep": {"2": 1.1}}, r"keep must be in \(0, 1\], the share that stays, got 1.1 for '2'"),
        ({"keep": {"9": 0.1}}, "'9' is no group"),
        ({"keep_count": {"0": 0}}, r"keep_count\['0'\] must be an integer from 1 to 4, got 0"),
        ({"keep_count": {"0": 5}}, "from 1 to 4, got 5"),
        ({"keep_count": {"0": 2.0}}, "from 1 to 4, got 2.0"),
        ({"keep": 0.0, "global_pruning": True}, r"keep must be in \(0, 1\], the share that stays, got 0.0"),
        ({"keep": 0.1, "global_pruning": True}, r"keep=0.1, that is keep_count must be an integer from 2 .* got 1"),
        ({"keep_count": 1}, r"keep_count must be an integer from 2 \(one a layer\) to 6, got 1"),
        ({"keep_count": 7}, "got 7"),
        ({"keep_count": 2.5}, "got 2.5"),
        ({"keep_macs": 0.0}, r"keep_macs must be in \(0, 1\], .* got 0.0"),
        ({"keep_macs": 1.1}, "got 1.1"),
        ({"keep_macs": 0.05}, r"keep_macs=0.05 is out of reach: one channel a layer still costs 163 \(limit 35"),
        ({"keep_parameters": 0.1}, "keep_parameters=0.1 is out of reach"),
        ({"latency_ms": 0.0, "latency": lambda plan: 1.0}, "latency_ms must be positive, got 0.0"),
        ({"keep": 0.5, "latency": lambda plan: 1.0}, "latency is what latency_ms limits, got it with keep=0.5"),
        ({"keep": 0.5, "cost": lambda kept: 1.0}, "cost is what keep_macs counts, got it with keep=0.5"),
        ({"keep": 0.5, "normalise": "l3"}, "normalise must be one of .* got 'l3'"),
    ],
)
def test_bad_budgets_are_refused(chain, options, message):
    with pytest.raises(ValueError, match=message):
        surgery.make_plan(chain, SCORES, **options)


def test_a_group_left_whole_needs_no_scores(chain):
    assert _keep(chain.without("2"), {"0": SCORES["0"]}, keep=0.5) == {"0": (0, 3)}


def test_a_graph_without_groups_is_met_only_by_the_whole():
    graph = channel_graph(models.small_cnn(), (3, 8, 8)).only()
    assert surgery.make_plan(graph, {}, keep_macs=1.0).kept.all()
    with pytest.raises(ValueError, match=r"keep_macs=0.5 is out of reach"):
        surgery.make_plan(graph, {}, keep_macs=0.5)


scores_of_resnet20 = st.integers(0, 2**31 - 1)


@given(seed=scores_of_resnet20, first=st.floats(0.01, 1), second=st.floats(0.01, 1), distinct=st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_plans_are_nested_in_the_share(graph, seed, first, second, distinct):
    channels = graph("resnet20_a", "grouped")
    generator = torch.Generator().manual_seed(seed)
    scores = {
        group.name: torch.randint(0, distinct, (group.size,), generator=generator) for group in channels.groups.values()
    }
    low, high = (surgery.make_plan(channels, scores, keep=keep) for keep in sorted((first, second), reverse=True))
    assert not (high.kept & ~low.kept).any()
    for name, kept in high.keep.items():
        size = channels.groups[name].size
        assert list(kept) == sorted(set(kept))
        assert len(kept) == max(1, int(size * min(first, second) + 1e-9))
        worst_kept = scores[name][list(kept)].min()
        removed = sorted(set(range(size)) - set(kept))
        assert not removed or scores[name][removed].max() <= worst_kept
    assert high.parameters <= low.parameters
    assert high.macs <= low.macs


@given(
    seed=scores_of_resnet20,
    share=st.floats(0.05, 1),
    global_pruning=st.booleans(),
    residual=st.sampled_from(["grouped", "scatter", "gather"]),
)
@settings(max_examples=30, deadline=None)
def test_a_budget_is_never_exceeded_and_no_layer_is_emptied(
    graph, random_scores, seed, share, global_pruning, residual
):
    channels = graph("resnet20_a", residual)
    plan = surgery.make_plan(channels, random_scores(channels, seed), keep_macs=share, global_pruning=global_pruning)
    assert plan.macs <= share * channels.macs
    for layer in channels.layers.values():
        assert plan.kept[layer.reads].any()
        assert plan.kept[layer.writes].any()
