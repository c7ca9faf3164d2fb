"""AutoBot: operations against published counts and an oracle, gates against pruned networks, losses, learning, cut."""

import copy
import itertools
import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from compactvision import hooks, measure, models, surgery
from compactvision.pruning import autobot, autobot_budget, autobot_noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from networks import with_statistics
from oracles import autobot as oracle
from oracles.residual_masks import masked_resnet


def depthwise():
    """A chain with a depthwise convolution and two poolings."""
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(10, 10, 3, padding=1, groups=10), nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 12, 1, bias=False),
        nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


BUILDERS = {  # network, residual form, side of the image
    "vgg": (lambda: models.vgg16_bn(conv_bias=True, hidden=512), "grouped", 32),
    "resnet": (models.resnet20, "scatter", 32),
    "resnet, streams": (models.resnet20, "grouped", 32),
    "resnet, gather": (models.resnet20, "gather", 32),
    "densenet": (models.densenet40, "grouped", 16),
    "googlenet": (models.googlenet, "grouped", 16),
    "resnet50": (lambda: models.imagenet("resnet50", num_classes=10), "grouped", 64),
    "depthwise": (depthwise, "grouped", 8),
}


@cache
def built(name):
    """Network with statistics that are not trivial, its graph, and the side of its images; not to be changed."""
    torch.manual_seed(0)
    build, residual, side = BUILDERS[name]
    model = with_statistics(build())
    return model, surgery.channel_graph(model, (3, side, side), residual=residual), side


def random_plan(graph, seed=0):
    """A plan that keeps about two thirds of each group."""
    generator = torch.Generator().manual_seed(seed)
    scores = {group.name: torch.rand(group.size, generator=generator) for group in graph.groups.values()}
    gates = torch.ones(graph.units)
    for group in graph.groups.values():
        gates[group.units] = scores[group.name]
    return surgery.Plan(graph, autobot_budget.above(graph, gates, 0.35))


def tiny(seed=1):
    """Two convolutions of 6 and 8 channels, with statistics, for images of 8 x 8 pixels."""
    torch.manual_seed(seed)
    model = with_statistics(models.small_cnn(4, widths=(6, 8)))
    return model, surgery.channel_graph(model, (3, 8, 8))


def batches(count=4, size=16, seed=0):
    """Noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count * size, 3, 8, 8, generator=generator)
    y = torch.randint(0, 4, (count * size,), generator=generator)
    return list(zip(x.split(size), y.split(size), strict=True))


def constant(graph, value):
    """The same gate everywhere."""
    return torch.where(autobot_budget.ungated(graph), 1.0, value).double()


class TestCount:
    @pytest.mark.parametrize(
        ("build", "residual", "side", "published", "ours"),
        [
            (models.resnet56, "scatter", 32, 126_554_816, 0),
            (models.resnet110, "scatter", 32, 254_988_992, 0),
            (lambda: models.vgg16_bn(conv_bias=True, hidden=512), "grouped", 32, 314_016_768, 276_480 + 1_024 + 512),
            (models.densenet40, "grouped", 32, 287_773_080, 456 * 64),
            (models.googlenet, "grouped", 32, 1_526_866_944, 1024 * 64 + 2_554_880),
            (lambda: models.imagenet("resnet50"), "grouped", 224, 4_111_514_624, 0),
        ],
    )
    def test_published_counts(self, build, residual, side, published, ours):
        """What the published code counts with gates off; ours has more where it counts biases, BatchNorm1d, pooling."""
        with torch.device("meta"):
            model = build().eval()
        graph = surgery.channel_graph(model, (3, side, side), residual=residual)
        flops = autobot_budget.count(model, graph, (3, side, side))
        assert flops.whole == published + ours
        assert flops.base == 0

    @pytest.mark.parametrize(
        ("build", "groups"), [(models.resnet56, 54), (models.densenet40, 39), (models.googlenet, 64)]
    )
    def test_number_of_gate_vectors(self, build, groups):
        with torch.device("meta"):
            model = build()
        residual = "scatter" if groups == 54 else "grouped"
        assert len(surgery.channel_graph(model, (3, 32, 32), residual=residual).groups) == groups

    def test_first_loss_of_the_published_logs(self):
        """All gates at 0.9; the budgets and the weighted terms that the logs print."""
        for build, target, printed in ((models.resnet56, 55.84e6, 4.444), (models.resnet110, 85.3e6, 4.695)):
            with torch.device("meta"):
                model = build()
            graph = surgery.channel_graph(model, (3, 32, 32), residual="scatter")
            flops = autobot_budget.count(model, graph, (3, 32, 32))
            found = autobot_budget.budget_loss(flops(constant(graph, 0.9)), target, flops.whole)
            assert 6 * float(found) == pytest.approx(printed, abs=5e-4)

    @pytest.mark.parametrize("name", BUILDERS)
    def test_exact_for_zeros_and_ones(self, name):
        model, graph, side = built(name)
        flops = autobot_budget.count(model, graph, (3, side, side))
        assert flops.whole == measure.macs(model, (3, side, side), convention="thop")
        plan = random_plan(graph)
        small = surgery.prune(model, plan)
        assert not plan.kept.all()
        assert float(flops(plan.kept)) == measure.macs(small, (3, side, side), convention="thop")
        plain = autobot_budget.count(model, graph, (3, side, side), convention="macs")
        assert float(plain(plan.kept)) == plan.macs

    def test_soft_gates_against_the_oracle(self):
        """A chain with pooling between, written down layer by layer."""
        model, graph = tiny()
        flops = autobot_budget.count(model, graph, (3, 8, 8))
        first, second = (group.units.tolist() for group in graph.groups.values())
        layers = [
            ("conv", 3, first, 64, 9),
            ("norm", first, first, 64, 1),
            ("conv", first, second, 16, 9),
            ("norm", second, second, 16, 1),
            ("adaptive", second, second, 1, 16),
            ("linear", second, 4, 1, 1),
        ]
        for seed in range(3):
            gates = constant(graph, 1.0)
            for group in graph.groups.values():
                gates[group.units] = torch.rand(group.size, generator=torch.Generator().manual_seed(seed)).double()
            assert float(flops(gates)) == pytest.approx(oracle.soft_operations(layers, gates.tolist()), rel=1e-12)

    def test_a_residual_block_by_hand(self):
        """Stem 3 to 2, a block 2 to g inside to h of 2 in the stream, 4 x 4 pixels, all convolutions 3 x 3."""
        model = models.ResNet(1, 2, width=2)
        graph = surgery.channel_graph(model, (3, 4, 4), residual="scatter").only(["layer1.0.conv1", "layer1.0.conv2"])
        flops = autobot_budget.count(model, graph, (3, 4, 4))
        gates = constant(graph, 1.0)
        gates[graph.group_of("layer1.0.conv1").units] = torch.tensor([0.5, 0.25]).double()  # 0.75 channels
        gates[graph.group_of("layer1.0.conv2").units] = torch.tensor([0.5, 0.0]).double()  # 0.5 channels
        pixels, kernel = 16, 9
        change = (0.75 * 2 - 4) * pixels * kernel + (0.75 * 0.5 - 4) * pixels * kernel  # two convolutions
        change += 2 * pixels * (0.75 - 2) + 2 * pixels * (0.5 - 2)  # their BatchNorms
        assert float(flops(gates)) - flops.whole == pytest.approx(change)

    def test_the_gradient_does_not_rank_within_a_group(self):
        """Equal for all channels of a group, whatever the gates: the budget alone prefers no filter to another."""
        model, graph, side = built("resnet")
        flops = autobot_budget.count(model, graph, (3, side, side))
        gates = torch.rand(graph.units, dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(flops(gates), gates)
        for group in graph.groups.values():
            torch.testing.assert_close(slope[group.units], slope[group.units[:1]].expand(group.size))
            assert slope[group.units[0]] > 0

    def test_unknown_operations_are_a_constant(self):
        class Meaned(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

            def forward(self, x):
                return self.fc(self.conv(x).mean((2, 3)))

        model = Meaned()
        graph = surgery.channel_graph(model, (3, 4, 4))
        flops = autobot_budget.count(model, graph, (3, 4, 4))
        assert flops.whole == measure.macs(model, (3, 4, 4), convention="thop")
        assert flops.base == 17 * 4  # the mean of 16 pixels, for 4 channels


class TestGated:
    @pytest.mark.parametrize("name", BUILDERS)
    def test_zeros_and_ones_are_the_pruned_network(self, name):
        model, graph, side = built(name)
        plan = random_plan(graph)
        x = torch.randn(2, 3, side, side)
        small = surgery.prune(model, plan).eval()
        with torch.no_grad(), autobot.gated(model, graph, plan.kept.float()):
            masked = model(x)
        with torch.no_grad():
            assert (masked - small(x)).abs().max() <= 1e-5 * masked.abs().max()
            assert (masked - model(x)).abs().max() > 1e-3 * masked.abs().max()

    @pytest.mark.parametrize("name", BUILDERS)
    def test_open_gates_change_nothing_and_hooks_go(self, name):
        model, graph, side = built(name)
        x = torch.randn(1, 3, side, side)
        with torch.no_grad():
            before = model(x)
            with autobot.gated(model, graph, torch.ones(graph.units)):
                assert torch.equal(model(x), before)
            with pytest.raises(RuntimeError, match="stop"), autobot.gated(model, graph, torch.zeros(graph.units)):
                raise RuntimeError("stop")
            assert torch.equal(model(x), before)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_soft_gates_where_the_paper_has_them(self):
        """Inner gates behind the first ReLU, branch gates behind the second BatchNorm and before the sum."""
        model, graph, _ = built("resnet")
        x = torch.randn(2, 3, 32, 32)
        gates = torch.where(autobot_budget.ungated(graph), 1.0, torch.rand(graph.units))
        inner, branches = {}, {}
        for group in graph.groups.values():
            block = group.name.rpartition(".")[0]
            (branches if group.kind == "scatter" else inner)[block] = gates[group.units]
        assert len(inner) == len(branches) == 9
        with torch.no_grad(), autobot.gated(model, graph, gates):
            found = model(x)
        with torch.no_grad():
            expected = masked_resnet(model, x, inner=inner, branches=branches)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_soft_gates_of_a_chain_stand_behind_the_relu(self):
        model, graph = tiny()
        x, gates = torch.randn(2, 3, 8, 8), torch.ones(graph.units)
        first, second = graph.groups.values()
        gates[first.units], gates[second.units] = torch.rand(6), torch.rand(8)
        with torch.no_grad(), autobot.gated(model, graph, gates):
            found = model(x)
        with (
            torch.no_grad(),
            hooks.replace_output(model, "features.2", lambda out: out * gates[first.units].view(1, -1, 1, 1)),
            hooks.replace_output(model, "features.6", lambda out: out * gates[second.units].view(1, -1, 1, 1)),
        ):
            torch.testing.assert_close(found, model(x))

    def test_gates_of_a_dense_block_stand_behind_each_consumer(self):
        """The gates of all earlier layers, concatenated, behind the consumer's BatchNorm and ReLU."""
        model, graph, _ = built("densenet")
        gates = torch.rand(graph.units)
        with torch.no_grad(), autobot.gated(model, graph, gates), hooks.capture(model, "dense1.2.relu") as out:
            seen = []
            handle = model.dense1[2].conv1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
            model(torch.randn(1, 3, 16, 16))
            handle.remove()
        made = [graph.layers[name].writes for name in ("conv1", "dense1.0.conv1", "dense1.1.conv1")]
        expected = out["dense1.2.relu"] * gates[torch.cat(made)].view(1, -1, 1, 1)
        torch.testing.assert_close(seen[0], expected)

    def test_a_stage_shares_one_gate(self):
        """ResNet-50: 1 + 32 + 4 gate vectors; one stage's gate sets the width of all its last convolutions."""
        model, graph, _ = built("resnet50")
        assert len(graph.groups) == 37
        stage = graph.groups["layer2.0.conv3"]
        assert set(stage.writers) == {f"layer2.{i}.conv3" for i in range(4)} | {"layer2.0.downsample.0"}
        gates = torch.ones(graph.units)
        gates[stage.units[:200]] = 0
        plan = surgery.Plan(graph, autobot_budget.above(graph, gates, 0.5))
        small = surgery.prune(model, plan)
        assert {small.get_submodule(name).out_channels for name in stage.writers} == {312}
        assert small.layer3[0].downsample[0].in_channels == 312

    def test_the_papers_place_in_a_grouped_stream_compounds(self):
        """Behind each block's last ReLU a channel of the stream is multiplied once a block; 0 and 1 do not notice."""
        model, graph, side = built("resnet50")
        name, blocks = "layer3.0.conv3", [f"layer3.{i}" for i in range(6)]
        x, gates = torch.randn(1, 3, side, side), torch.ones(graph.units)
        units = graph.groups[name].units

        def outputs(value, behind):
            gates[units[:100]] = value
            with torch.no_grad(), autobot.gated(model, graph, gates, behind=behind):
                return model(x)

        for value, same in ((0.0, True), (0.5, False), (1.0, True)):
            apart = outputs(value, {name: blocks}) - outputs(value, None)
            assert (apart.abs().max() <= 1e-5 * outputs(value, None).abs().max()) == same

    def test_gradients_reach_the_gates_only_where_they_act(self):
        model, graph = tiny()
        gates = torch.ones(graph.units, requires_grad=True)
        with autobot.gated(model, graph, gates):
            model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        outside = autobot_budget.ungated(graph)
        assert (gates.grad[outside] == 0).all()
        assert (gates.grad[~outside] != 0).any()


class TestLosses:
    def test_fixed_points(self):
        whole, target = 100.0, 40.0
        found = autobot_budget.budget_loss(torch.tensor([0.0, 40.0, 70.0, 100.0, 20.0]), target, whole)
        assert found.tolist() == pytest.approx([1.0, 0.0, 0.5, 1.0, 0.5])
        near = autobot_budget.budget_loss(torch.tensor([40 - 1e-9, 40 + 1e-9], dtype=torch.float64), target, whole)
        assert near.tolist() == pytest.approx([0, 0], abs=1e-9)

    def test_binary_loss(self):
        nine = [torch.full((n,), 0.9) for n in (3, 50, 7)]
        assert float(autobot.binary_loss(nine)) == pytest.approx(0.1)
        assert float(autobot.binary_loss([torch.tensor([0.0, 1.0])])) == 0
        assert float(autobot.binary_loss([torch.tensor([0.5])])) == 0.5
        uneven = [torch.tensor([0.25]), torch.tensor([1.0, 0.0, 1.0])]  # a mean over layers, not over gates
        assert float(autobot.binary_loss(uneven)) == pytest.approx(0.125)

    @settings(max_examples=40, deadline=None)
    @given(
        layers=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=4),
        flops=st.floats(0, 100),
        target=st.floats(1, 99),
    )
    def test_against_the_oracle(self, layers, flops, target):
        found = autobot.binary_loss([torch.tensor(gates, dtype=torch.float64) for gates in layers])
        assert float(found) == pytest.approx(oracle.binary_loss(layers), abs=1e-12)
        found = autobot_budget.budget_loss(torch.tensor(flops, dtype=torch.float64), target, 100.0)
        assert float(found) == pytest.approx(oracle.budget_loss(flops, target, 100.0), abs=1e-12)

    def test_gradients_are_those_of_differences(self):
        """The whole loss of a small network, by central differences in float64."""
        model, graph = tiny()
        model = model.double()
        x, y = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
        flops = autobot_budget.count(model, graph, (3, 8, 8))
        index = torch.cat([group.units for group in graph.groups.values()])

        def total(logits):
            values = torch.sigmoid(logits)
            gates = torch.ones(graph.units, dtype=torch.float64).index_copy(0, index, values)
            with autobot.gated(model, graph, gates):
                task = F.cross_entropy(model(x), y)
            budget = autobot_budget.budget_loss(flops(gates), 0.4 * flops.whole, flops.whole)
            return task + 6 * budget + 0.4 * autobot.binary_loss(values.split([6, 8]))

        logits = torch.randn(14, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(total(logits), logits)
        for j in (0, 5, 6, 13):
            step = torch.zeros(14, dtype=torch.float64)
            step[j] = 1e-6
            with torch.no_grad():
                central = (total(logits + step) - total(logits - step)) / 2e-6
            assert float(slope[j]) == pytest.approx(float(central), rel=1e-5, abs=1e-8)


def own(model):
    """Noise with the network's own answers as labels."""
    with torch.no_grad():
        return [(x, model(x).argmax(1)) for x, _ in batches()]


def learnt(model, graph, *, steps=12, target=0.5, source=None, **options):
    """Learn gates on noise."""
    flops = autobot_budget.count(model, graph, (3, 8, 8))
    goal = target * flops.whole
    return autobot.learn(model, graph, source or batches(), flops, goal, steps=steps, **options), flops


class TestLearn:
    def test_the_network_is_untouched(self):
        model, graph = tiny()
        model.features[1].train()
        model.features[0].weight.requires_grad_(False)
        before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
        found, _ = learnt(model, graph)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), key
        assert [m.training for m in model.modules()] == flags
        assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
        assert all(p.grad is None for p in model.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        outside = autobot_budget.ungated(graph)
        assert (found.gates[outside] == 1).all()
        assert ((found.gates > 0) & (found.gates < 1))[~outside].all()

    def test_the_first_iteration(self):
        model, graph = tiny()
        found, flops = learnt(model, graph, steps=1)
        row, (x, y) = found.history[0], batches()[0]
        gates = constant(graph, 0.9)
        assert row["flops"] == pytest.approx(float(flops(gates)), rel=1e-6)
        assert row["binary"] == pytest.approx(0.1, rel=1e-5)
        assert row["budget"] == pytest.approx((float(flops(gates)) / flops.whole - 0.5) / 0.5, rel=1e-5)
        with torch.no_grad(), autobot.gated(model, graph, gates.float()):
            assert row["task"] == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-5)
        assert row["loss"] == pytest.approx(row["task"] + 6 * row["budget"] + 0.4 * row["binary"], rel=1e-6)

    def test_one_gate_under_adam(self):
        """A single channel and a task without opinion: gates and losses follow the formulas step by step."""
        model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(1, 2))
        graph = surgery.channel_graph(model, (1, 1, 1))
        flops = autobot_budget.count(model, graph, (1, 1, 1))  # g + 2 g = 3 g
        seen = []
        source = [(torch.ones(1, 1, 1, 1), torch.zeros(1, dtype=torch.long))]
        autobot.learn(
            model, graph, source, flops, 1.5, steps=8, rate=0.3, beta=2.0, gamma=0.5,
            loss=lambda out, y: 0 * out.sum(), watch=lambda step, gates: seen.append(float(gates.min())),
        )  # fmt: skip

        def slope(gate):
            budget = 3 / (3 - 1.5) if 3 * gate > 1.5 else -3 / 1.5
            return 2.0 * budget + 0.5 * (1 if gate <= 0.5 else -1)

        assert seen == pytest.approx(oracle.sigmoid_adam(slope, 0.9, 0.3, 8), rel=1e-5)

    def test_the_best_late_iteration_is_kept(self):
        model, graph = tiny()
        rows = []
        found, _ = learnt(model, graph, steps=20, watch=lambda step, gates: rows.append(gates.clone()))
        late = range(13, 20)  # above, not at, 12
        assert found.step == min(late, key=lambda i: found.history[i]["loss"])
        assert torch.equal(found.gates, rows[found.step])

    def test_too_few_iterations_take_the_last_gates(self):
        model, graph = tiny()
        rows = []
        found, _ = learnt(model, graph, steps=2, watch=lambda step, gates: rows.append(gates.clone()))
        assert found.step == 2
        assert all(not torch.equal(found.gates, row) for row in rows)

    def test_the_budget_is_met_and_gates_end_at_the_ends(self):
        model, graph = tiny()
        found, flops = learnt(model, graph, steps=80, source=own(model))
        row = found.history[found.step]
        assert row["flops"] == pytest.approx(0.5 * flops.whole, rel=0.1)
        ends = found.gates[~autobot_budget.ungated(graph)]
        assert ((ends - ends.round()).abs() < 0.09).double().mean() > 2 / 3  # all were at 0.1
        free, _ = learnt(model, graph, steps=80, source=own(model), beta=0.0, gamma=0.0)
        assert free.history[-1]["flops"] > 1.2 * row["flops"]

    def test_useless_channels_go_first(self):
        """Channels whose readers have zero weights get no say from the task, only from the budget."""
        model, graph = tiny()
        with torch.no_grad():
            model.features[4].weight[:, 3:] = 0  # the second convolution ignores channels 3 to 5 of the first
        found, flops = learnt(model, graph, steps=60, target=0.5, source=own(model))
        units = next(iter(graph.groups.values())).units
        first = found.gates[units]
        assert first[3:].max() < first[:3].max()
        torch.testing.assert_close(first[3:], first[3:4].expand(3))  # none is better than another
        plan = autobot_budget.cut(graph, found.gates, flops, 0.5 * flops.whole)
        assert not plan.kept[units[3:]].any()

    def test_same_again(self):
        model, graph = tiny()
        runs = [learnt(model, graph)[0] for _ in range(2)]
        assert torch.equal(runs[0].gates, runs[1].gates)
        assert runs[0].history == runs[1].history
        noise = [learnt(model, graph, gate=autobot_noise.noisy(torch.Generator().manual_seed(3)))[0] for _ in range(2)]
        assert torch.equal(noise[0].gates, noise[1].gates)
        assert not torch.equal(noise[0].gates, runs[0].gates)

    def test_batches_begin_anew_as_the_next_epoch(self):
        model, graph = tiny()

        class Source(list):
            epochs = []  # noqa: RUF012

            def set_epoch(self, epoch):
                self.epochs.append(epoch)

        learnt(model, graph, steps=9, source=Source(batches(4)))
        assert Source.epochs == [0, 1, 2]

    def test_shared_gates_can_stand_behind_blocks(self):
        model = with_statistics(models.ResNet(1, 4, shortcut="B", width=4))
        graph = surgery.channel_graph(model, (3, 8, 8))
        stream = graph.group_of("layer2.0.conv2").name
        behind = {stream: ["layer2.0"]}
        readers, _ = learnt(model, graph, steps=3)
        paper, _ = learnt(model, graph, steps=3, behind=behind)
        assert readers.history[0]["task"] == pytest.approx(paper.history[0]["task"], rel=1e-5)  # one block: once
        two = with_statistics(models.ResNet(2, 4, shortcut="B", width=4))
        graph = surgery.channel_graph(two, (3, 8, 8))
        behind = {graph.group_of("layer2.0.conv2").name: ["layer2.0", "layer2.1"]}
        readers, _ = learnt(two, graph, steps=1)
        paper, _ = learnt(two, graph, steps=1, behind=behind)
        assert readers.history[0]["task"] != pytest.approx(paper.history[0]["task"], rel=1e-5)


class TestCut:
    @pytest.mark.parametrize("name", ["resnet", "resnet, streams", "densenet", "resnet50"])
    @pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
    def test_within_the_budget_and_no_layer_empty(self, name, share):
        model, graph, side = built(name)
        flops = autobot_budget.count(model, graph, (3, side, side))
        gates = torch.rand(graph.units, generator=torch.Generator().manual_seed(2))
        plan = autobot_budget.cut(graph, gates, flops, share * flops.whole)
        assert flops(plan.kept) <= share * flops.whole
        for layer in graph.layers.values():
            assert plan.kept[layer.reads].any()
            assert plan.kept[layer.writes].any()
        removed = ~plan.kept
        threshold = gates[removed].max()
        more = plan.kept | (gates == threshold)  # the next one up does not fit
        assert flops(more) > share * flops.whole

    def test_monotone_in_the_budget(self):
        model, graph, side = built("resnet")
        flops = autobot_budget.count(model, graph, (3, side, side))
        gates = torch.rand(graph.units)
        plans = [autobot_budget.cut(graph, gates, flops, share * flops.whole) for share in (0.2, 0.4, 0.6, 0.8)]
        for small, large in itertools.pairwise(plans):
            assert (small.kept <= large.kept).all()

    def test_against_the_plan_of_the_book(self):
        """Global order of scores under a budget of MACs, found by another code."""
        model, graph, side = built("resnet")
        flops = autobot_budget.count(model, graph, (3, side, side), convention="macs")
        gates = torch.rand(graph.units)
        scores = {group.name: gates[group.units] for group in graph.groups.values()}
        for share in (0.3, 0.55):
            plan = surgery.make_plan(graph, scores, macs=share, order="global")
            assert torch.equal(autobot_budget.cut(graph, gates, flops, share * flops.whole).kept, plan.kept)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), min_size=14, max_size=14), st.floats(0.25, 0.99))
    def test_against_the_oracle(self, values, share):
        """Ties move together; every threshold is tried there, bisected here."""
        model, graph = CHAIN
        flops = autobot_budget.count(model, graph, (3, 8, 8))
        gates = torch.ones(graph.units)
        index = torch.cat([group.units for group in graph.groups.values()])
        gates[index] = torch.tensor(values)

        def cost(kept):
            hard = torch.ones(graph.units)
            hard[index] = torch.tensor([flag for layer in kept for flag in layer]).float()
            return float(flops(hard))

        expected = oracle.best_keep_set([values[:6], values[6:]], cost, share * flops.whole)
        if expected is None:
            with pytest.raises(ValueError, match="out of reach"):
                autobot_budget.cut(graph, gates, flops, share * flops.whole)
        else:
            plan = autobot_budget.cut(graph, gates, flops, share * flops.whole)
            assert plan.kept[index].tolist() == [flag for layer in expected for flag in layer]

    def test_published_bisection(self):
        model, graph, side = built("resnet")
        flops = autobot_budget.count(model, graph, (3, side, side))
        gates = torch.rand(graph.units)
        target = 0.5 * flops.whole

        def cost(threshold):
            return float(flops(autobot_budget.above(graph, gates, threshold)))

        for tolerance, rounds in ((50_000, 50), (0, 7)):
            plan = autobot_budget.cut(
                graph, gates, flops, target, search="bisection", tolerance=tolerance, rounds=rounds
            )
            last = oracle.published_search(cost, target, tolerance, rounds)[-1]
            assert torch.equal(plan.kept, autobot_budget.above(graph, gates, last))
        plan = autobot_budget.cut(graph, gates, flops, target, search="bisection", tolerance=200_000)
        assert abs(float(flops(plan.kept)) - target) <= 200_000

    def test_every_writer_of_a_shared_stream_keeps_a_channel(self):
        """Option A: the first stage writes only some units of the stream that all three share."""
        _, graph, _ = built("resnet, streams")
        gates = torch.rand(graph.units)
        gates[graph.layers["conv1"].writes] = 0  # nothing that the first stage writes is wanted
        kept = autobot_budget.above(graph, gates, 2.0)
        assert all(kept[layer.writes].any() for layer in graph.layers.values())


class TestNoise:
    def test_ends(self):
        x = torch.randn(64, 3, 4, 4) * 2 + 1
        gate = autobot_noise.noisy(torch.Generator().manual_seed(0))
        assert torch.equal(gate(x, torch.ones(3)), x)
        noise = gate(x, torch.zeros(3))
        mean, deviation = autobot_noise.statistics(x)
        torch.testing.assert_close(noise.mean((0, 2, 3)), mean.flatten(), rtol=0, atol=0.25)
        torch.testing.assert_close(noise.std((0, 2, 3)), deviation.flatten(), rtol=0.1, atol=0)
        assert (noise - x).abs().mean() > 1

    def test_a_closed_noisy_gate_is_no_removal(self):
        """It still says the channel's mean; that is what the pruned network misses."""
        model, graph = tiny()
        x, gates = torch.randn(8, 3, 8, 8), torch.ones(graph.units)
        gates[next(iter(graph.groups.values())).units[:3]] = 0
        noise = autobot_noise.noisy(torch.Generator().manual_seed(0))
        with torch.no_grad():
            with autobot.gated(model, graph, gates):
                silent = model(x)
            with autobot.gated(model, graph, gates, gate=noise):
                assert (model(x) - silent).abs().max() > 1e-2 * silent.abs().max()

    def test_information(self):
        """Against torch's divergence of normal distributions, and the ends."""
        x = torch.randn(32, 4, 3, 3, dtype=torch.float64) * 3 - 1
        gates = torch.tensor([0.0, 0.3, 0.9, 0.99], dtype=torch.float64)
        mean, deviation = autobot_noise.statistics(x)
        share = gates.view(1, -1, 1, 1)
        normal = torch.distributions.Normal
        passed = normal(share * x + (1 - share) * mean, (1 - share) * deviation)
        expected = torch.distributions.kl_divergence(passed, normal(mean, deviation)).mean((0, 2, 3))
        found = autobot_noise.information(x, gates)
        torch.testing.assert_close(found, expected)
        assert float(found[0]) == pytest.approx(0, abs=1e-12)
        assert (found.diff() > 0).all()
        dead = torch.ones(2, 1, 2, 2)
        assert autobot_noise.information(dead, torch.tensor([0.5])).isfinite().all()


CHAIN = tiny()


def _call(**changed):
    model, graph = CHAIN
    flops = autobot_budget.count(model, graph, (3, 8, 8))
    goal = changed.pop("target", 0.5) * flops.whole
    return autobot.learn(model, changed.pop("graph", graph), changed.pop("batches", batches()), flops, goal, **changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _call(steps=0), "steps must be at least 1, got 0"),
        (lambda: _call(rate=0.0), "rate must be finite and > 0, got 0.0"),
        (lambda: _call(beta=-1.0), "beta must be finite and >= 0, got -1.0"),
        (lambda: _call(gamma=math.nan), "gamma must be finite and >= 0, got nan"),
        (lambda: _call(target=1.0), "target must be between 0 and the"),
        (lambda: _call(target=0.0), "target must be between 0 and the"),
        (lambda: _call(batches=[]), "batches gave nothing in epoch 0"),
        (lambda: _call(graph=CHAIN[1].without(list(CHAIN[1].groups))), "graph: it has no group"),
        (lambda: _call(loss=lambda out, y: out.sum() * math.nan), "loss is nan in iteration 0"),
        (
            lambda: _call(behind={"features.0": ["nowhere"]}),
            r"behind\['features.0'\]: the model has no module 'nowhere'",
        ),
        (lambda: _call(behind={"features.0": ["features.4"]}), "a module gives 8 channels, its group has 6"),
        (lambda: _call(behind={"classifier": []}), "cannot be cut"),
        (lambda: autobot.gated(*CHAIN, torch.ones(3)).__enter__(), "gates must have shape"),
        (lambda: autobot.binary_loss([]), "gates must hold at least one group"),
        (lambda: autobot_budget.budget_loss(torch.ones(1), 5, 5), "target must be between 0 and the 5"),
        (lambda: autobot_budget.count(*CHAIN, (3, 8, 8), convention="flops"), "convention must be one of"),
        (lambda: autobot_noise.information(torch.ones(1, 1), torch.ones(1)), r"gates must lie in \[0, 1\)"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refuses_cuts():
    model, graph = CHAIN
    flops = autobot_budget.count(model, graph, (3, 8, 8))
    gates = torch.ones(graph.units)
    with pytest.raises(ValueError, match="gates holds NaN"):
        autobot_budget.cut(graph, gates * math.nan, flops, 1e4)
    with pytest.raises(ValueError, match="one channel a layer still costs"):
        autobot_budget.cut(graph, gates, flops, 10)
    with pytest.raises(ValueError, match='search must be "exact" or "bisection", got \'linear\''):
        autobot_budget.cut(graph, gates, flops, 1e4, search="linear")
