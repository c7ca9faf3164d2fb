"""AutoBot: operations against published counts and an oracle, gates against pruned networks, losses, learning, cut."""

import copy
import itertools
import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from compactvision import hooks, measure, models, surgery
from compactvision.pruning import autobot
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
    return surgery.make_plan(graph, autobot.LearnedGates(graph, gates), keep_above=0.35)


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
    return torch.where(surgery.ungated(graph), 1.0, value).double()


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
        operations = autobot.count_operations(graph, convention="thop")
        assert operations.whole == published + ours
        assert operations.base == 0

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
            operations = autobot.count_operations(graph, convention="thop")
            found = autobot.budget_loss(operations(constant(graph, 0.9)), target, operations.whole)
            assert 6 * float(found) == pytest.approx(printed, abs=5e-4)

    @pytest.mark.parametrize("name", BUILDERS)
    def test_exact_for_zeros_and_ones(self, name):
        model, graph, side = built(name)
        operations = autobot.count_operations(graph, convention="thop")
        assert operations.whole == measure.macs(model, (3, side, side), convention="thop")
        plan = random_plan(graph)
        small = surgery.prune(model, plan)
        assert not plan.kept.all()
        assert float(operations(plan.kept)) == measure.macs(small, (3, side, side), convention="thop")
        plain = autobot.count_operations(graph)
        assert float(plain(plan.kept)) == plan.macs

    def test_soft_gates_against_the_oracle(self):
        """A chain with pooling between, written down layer by layer."""
        _, graph = tiny()
        operations = autobot.count_operations(graph, convention="thop")
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
            assert float(operations(gates)) == pytest.approx(oracle.soft_operations(layers, gates.tolist()), rel=1e-12)

    def test_a_residual_block_by_hand(self):
        """Stem 3 to 2, a block 2 to g inside to h of 2 in the stream, 4 x 4 pixels, all convolutions 3 x 3."""
        model = models.ResNet(1, 2, width=2)
        graph = surgery.channel_graph(model, (3, 4, 4), residual="scatter").only(["layer1.0.conv1", "layer1.0.conv2"])
        operations = autobot.count_operations(graph, convention="thop")
        gates = constant(graph, 1.0)
        gates[graph.group_of("layer1.0.conv1").units] = torch.tensor([0.5, 0.25]).double()  # 0.75 channels
        gates[graph.group_of("layer1.0.conv2").units] = torch.tensor([0.5, 0.0]).double()  # 0.5 channels
        pixels, kernel = 16, 9
        change = (0.75 * 2 - 4) * pixels * kernel + (0.75 * 0.5 - 4) * pixels * kernel  # two convolutions
        change += 2 * pixels * (0.75 - 2) + 2 * pixels * (0.5 - 2)  # their BatchNorms
        assert float(operations(gates)) - operations.whole == pytest.approx(change)

    def test_the_gradient_does_not_rank_within_a_group(self):
        """Equal for all channels of a group, whatever the gates: the budget alone prefers no filter to another."""
        _, graph, _ = built("resnet")
        operations = autobot.count_operations(graph, convention="thop")
        gates = torch.rand(graph.units, dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(operations(gates), gates)
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
        operations = autobot.count_operations(graph, convention="thop")
        assert operations.whole == measure.macs(model, (3, 4, 4), convention="thop")
        assert operations.base == 17 * 4  # the mean of 16 pixels, for 4 channels


class TestGated:
    @pytest.mark.parametrize("name", BUILDERS)
    def test_zeros_and_ones_are_the_pruned_network(self, name):
        model, graph, side = built(name)
        plan = random_plan(graph)
        x = torch.randn(2, 3, side, side)
        small = surgery.prune(model, plan).eval()
        with torch.no_grad(), surgery.gated(model, graph, plan.kept.float()):
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
            with surgery.gated(model, graph, torch.ones(graph.units)):
                assert torch.equal(model(x), before)
            with pytest.raises(RuntimeError, match="stop"), surgery.gated(model, graph, torch.zeros(graph.units)):
                raise RuntimeError("stop")
            assert torch.equal(model(x), before)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_soft_gates_where_the_paper_has_them(self):
        """Inner gates behind the first ReLU, branch gates behind the second BatchNorm and before the sum."""
        model, graph, _ = built("resnet")
        x = torch.randn(2, 3, 32, 32)
        gates = torch.where(surgery.ungated(graph), 1.0, torch.rand(graph.units))
        inner, branches = {}, {}
        for group in graph.groups.values():
            block = group.name.rpartition(".")[0]
            (branches if group.kind == "scatter" else inner)[block] = gates[group.units]
        assert len(inner) == len(branches) == 9
        with torch.no_grad(), surgery.gated(model, graph, gates):
            found = model(x)
        with torch.no_grad():
            expected = masked_resnet(model, x, inner=inner, branches=branches)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_soft_gates_of_a_chain_stand_behind_the_relu(self):
        model, graph = tiny()
        x, gates = torch.randn(2, 3, 8, 8), torch.ones(graph.units)
        first, second = graph.groups.values()
        gates[first.units], gates[second.units] = torch.rand(6), torch.rand(8)
        with torch.no_grad(), surgery.gated(model, graph, gates):
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
        with torch.no_grad(), surgery.gated(model, graph, gates), hooks.capture(model, "dense1.2.relu") as out:
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
        plan = surgery.make_plan(graph, autobot.LearnedGates(graph, gates), keep_above=0.5)
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
            with torch.no_grad(), surgery.gated(model, graph, gates, behind=behind):
                return model(x)

        for value, same in ((0.0, True), (0.5, False), (1.0, True)):
            difference = outputs(value, {name: blocks}) - outputs(value, None)
            assert (difference.abs().max() <= 1e-5 * outputs(value, None).abs().max()) == same

    def test_gradients_reach_the_gates_only_where_they_act(self):
        model, graph = tiny()
        gates = torch.ones(graph.units, requires_grad=True)
        with surgery.gated(model, graph, gates):
            model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        outside = surgery.ungated(graph)
        assert (gates.grad[outside] == 0).all()
        assert (gates.grad[~outside] != 0).any()


class TestLosses:
    def test_fixed_points(self):
        whole, target = 100.0, 40.0
        found = autobot.budget_loss(torch.tensor([0.0, 40.0, 70.0, 100.0, 20.0]), target, whole)
        assert found.tolist() == pytest.approx([1.0, 0.0, 0.5, 1.0, 0.5])
        near = autobot.budget_loss(torch.tensor([40 - 1e-9, 40 + 1e-9], dtype=torch.float64), target, whole)
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
        operations=st.floats(0, 100),
        target=st.floats(1, 99),
    )
    def test_against_the_oracle(self, layers, operations, target):
        found = autobot.binary_loss([torch.tensor(gates, dtype=torch.float64) for gates in layers])
        assert float(found) == pytest.approx(oracle.binary_loss(layers), abs=1e-12)
        found = autobot.budget_loss(torch.tensor(operations, dtype=torch.float64), target, 100.0)
        assert float(found) == pytest.approx(oracle.budget_loss(operations, target, 100.0), abs=1e-12)

    def test_gradients_are_those_of_differences(self):
        """The whole loss of a small network, by central differences in float64."""
        model, graph = tiny()
        model = model.double()
        x, y = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
        operations = autobot.count_operations(graph, convention="thop")
        index = torch.cat([group.units for group in graph.groups.values()])

        def total(logits):
            values = torch.sigmoid(logits)
            gates = torch.ones(graph.units, dtype=torch.float64).index_copy(0, index, values)
            with surgery.gated(model, graph, gates):
                task = F.cross_entropy(model(x), y)
            budget = autobot.budget_loss(operations(gates), 0.4 * operations.whole, operations.whole)
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


def learned(model, graph, *, steps=12, source=None, **options):
    """Learn gates on noise, by the paper's count."""
    operations = autobot.count_operations(graph, convention="thop")
    found = autobot.learn_gates(model, graph, source or batches(), operations=operations, steps=steps, **options)
    return found, operations


class TestLearn:
    def test_the_network_is_untouched(self):
        model, graph = tiny()
        model.features[1].train()
        model.features[0].weight.requires_grad_(False)
        before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
        found, _ = learned(model, graph)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), key
        assert [m.training for m in model.modules()] == flags
        assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
        assert all(p.grad is None for p in model.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        outside = surgery.ungated(graph)
        assert (found.gates[outside] == 1).all()
        assert ((found.gates > 0) & (found.gates < 1))[~outside].all()

    def test_the_first_iteration(self):
        model, graph = tiny()
        found, operations = learned(model, graph, steps=1)
        row, (x, y) = found.history[0], batches()[0]
        gates = constant(graph, 0.9)
        assert row["operations"] == pytest.approx(float(operations(gates)), rel=1e-6)
        assert row["binary"] == pytest.approx(0.1, rel=1e-5)
        assert row["budget"] == pytest.approx((float(operations(gates)) / operations.whole - 0.5) / 0.5, rel=1e-5)
        with torch.no_grad(), surgery.gated(model, graph, gates.float()):
            assert row["task"] == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-5)
        assert row["loss"] == pytest.approx(row["task"] + 6 * row["budget"] + 0.4 * row["binary"], rel=1e-6)

    def test_one_gate_under_adam(self):
        """A single channel and a task without opinion: gates and losses follow the formulas step by step."""
        model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(1, 2))
        graph = surgery.channel_graph(model, (1, 1, 1))
        assert autobot.count_operations(graph).whole == 3  # g + 2 g = 3 g
        seen = []
        source = [(torch.ones(1, 1, 1, 1), torch.zeros(1, dtype=torch.long))]
        autobot.learn_gates(
            model, graph, source, steps=8, learning_rate=0.3, beta=2.0, gamma=0.5,
            loss=lambda out, y: 0 * out.sum(), watch=lambda step, gates: seen.append(float(gates.min())),
        )  # fmt: skip

        def slope(gate):
            budget = 3 / (3 - 1.5) if 3 * gate > 1.5 else -3 / 1.5
            return 2.0 * budget + 0.5 * (1 if gate <= 0.5 else -1)

        assert seen == pytest.approx(oracle.sigmoid_adam(slope, 0.9, 0.3, 8), rel=1e-5)

    def test_the_best_late_iteration_is_kept(self):
        model, graph = tiny()
        rows = []
        found, _ = learned(model, graph, steps=20, watch=lambda step, gates: rows.append(gates.clone()))
        late = range(13, 20)  # above, not at, 12
        assert found.step == min(late, key=lambda i: found.history[i]["loss"])
        assert torch.equal(found.gates, rows[found.step])

    def test_too_few_iterations_take_the_last_gates(self):
        model, graph = tiny()
        rows = []
        found, _ = learned(model, graph, steps=2, watch=lambda step, gates: rows.append(gates.clone()))
        assert found.step == 2
        assert all(not torch.equal(found.gates, row) for row in rows)

    def test_the_budget_is_met_and_gates_end_at_the_ends(self):
        model, graph = tiny()
        found, operations = learned(model, graph, steps=80, source=own(model))
        row = found.history[found.step]
        assert row["operations"] == pytest.approx(0.5 * operations.whole, rel=0.1)
        ends = found.gates[~surgery.ungated(graph)]
        assert ((ends - ends.round()).abs() < 0.09).double().mean() > 2 / 3  # all were at 0.1
        free, _ = learned(model, graph, steps=80, source=own(model), beta=0.0, gamma=0.0)
        assert free.history[-1]["operations"] > 1.2 * row["operations"]

    def test_useless_channels_go_first(self):
        """Channels whose readers have zero weights get no say from the task, only from the budget."""
        model, graph = tiny()
        with torch.no_grad():
            model.features[4].weight[:, 3:] = 0  # the second convolution ignores channels 3 to 5 of the first
        found, operations = learned(model, graph, steps=60, source=own(model))
        units = next(iter(graph.groups.values())).units
        first = found.gates[units]
        assert first[3:].max() < first[:3].max()
        torch.testing.assert_close(first[3:], first[3:4].expand(3))  # none is better than another
        plan = surgery.make_plan(graph, found, keep_macs=0.5, global_pruning=True, cost=operations)
        assert plan.kept[units[:3]].all()  # of the others, all alike, as many stay as the budget has room for
        assert not plan.kept[units[3:]].all()
        more = plan.kept.index_fill(0, units, True)
        assert operations(more) > 0.5 * operations.whole

    def test_same_again(self):
        model, graph = tiny()
        runs = [learned(model, graph)[0] for _ in range(2)]
        assert torch.equal(runs[0].gates, runs[1].gates)
        assert runs[0].history == runs[1].history
        noise = [learned(model, graph, gate=autobot.noise.noisy(torch.Generator().manual_seed(3)))[0] for _ in range(2)]
        assert torch.equal(noise[0].gates, noise[1].gates)
        assert not torch.equal(noise[0].gates, runs[0].gates)

    def test_the_settings_of_the_paper_are_the_defaults(self):
        model, graph = tiny()
        rows = []
        found = autobot.learn_gates(model, graph, batches(), watch=lambda step, gates: rows.append(gates))
        assert len(found.history) == 200
        first = found.history[0]
        assert first["operations"] == pytest.approx(float(autobot.count_operations(graph)(constant(graph, 0.9))))
        assert first["budget"] == pytest.approx((first["operations"] - 0.5 * graph.macs) / (0.5 * graph.macs))
        assert first["loss"] == pytest.approx(first["task"] + 6 * first["budget"] + 0.4 * first["binary"])
        moved = torch.logit(rows[1][~surgery.ungated(graph)]) - math.log(9)
        torch.testing.assert_close(moved.abs(), torch.full((14,), 0.6), rtol=1e-4, atol=0)

    def test_batches_begin_anew_as_the_next_epoch(self):
        model, graph = tiny()

        class Source(list):
            epochs = []  # noqa: RUF012

            def set_epoch(self, epoch):
                self.epochs.append(epoch)

        learned(model, graph, steps=9, source=Source(batches(4)))
        assert Source.epochs == [0, 1, 2]

    def test_shared_gates_can_stand_behind_blocks(self):
        model = with_statistics(models.ResNet(1, 4, shortcut="B", width=4))
        graph = surgery.channel_graph(model, (3, 8, 8))
        stream = graph.group_of("layer2.0.conv2").name
        behind = {stream: ["layer2.0"]}
        readers, _ = learned(model, graph, steps=3)
        paper, _ = learned(model, graph, steps=3, behind=behind)
        assert readers.history[0]["task"] == pytest.approx(paper.history[0]["task"], rel=1e-5)  # one block: once
        two = with_statistics(models.ResNet(2, 4, shortcut="B", width=4))
        graph = surgery.channel_graph(two, (3, 8, 8))
        behind = {graph.group_of("layer2.0.conv2").name: ["layer2.0", "layer2.1"]}
        readers, _ = learned(two, graph, steps=1)
        paper, _ = learned(two, graph, steps=1, behind=behind)
        assert readers.history[0]["task"] != pytest.approx(paper.history[0]["task"], rel=1e-5)


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


class TestNoise:
    def test_ends(self):
        x = torch.randn(64, 3, 4, 4) * 2 + 1
        gate = autobot.noise.noisy(torch.Generator().manual_seed(0))
        assert torch.equal(gate(x, torch.ones(3)), x)
        noise = gate(x, torch.zeros(3))
        mean, deviation = autobot.noise.statistics(x)
        torch.testing.assert_close(noise.mean((0, 2, 3)), mean.flatten(), rtol=0, atol=0.25)
        torch.testing.assert_close(noise.std((0, 2, 3)), deviation.flatten(), rtol=0.1, atol=0)
        assert (noise - x).abs().mean() > 1

    def test_a_closed_noisy_gate_is_no_removal(self):
        """It still says the channel's mean; that is what the pruned network misses."""
        model, graph = tiny()
        x, gates = torch.randn(8, 3, 8, 8), torch.ones(graph.units)
        gates[next(iter(graph.groups.values())).units[:3]] = 0
        noise = autobot.noise.noisy(torch.Generator().manual_seed(0))
        with torch.no_grad():
            with surgery.gated(model, graph, gates):
                silent = model(x)
            with surgery.gated(model, graph, gates, gate=noise):
                assert (model(x) - silent).abs().max() > 1e-2 * silent.abs().max()


CHAIN = tiny()


def _call(**changed):
    model, graph = CHAIN
    return autobot.learn_gates(model, changed.pop("graph", graph), changed.pop("batches", batches()), **changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _call(steps=0), "steps must be at least 1, got 0"),
        (lambda: _call(learning_rate=0.0), "learning_rate must be finite and > 0, got 0.0"),
        (lambda: _call(beta=-1.0), "beta must be finite and >= 0, got -1.0"),
        (lambda: _call(gamma=math.nan), "gamma must be finite and >= 0, got nan"),
        (lambda: _call(learning_rate=math.inf), "learning_rate must be finite"),
        (lambda: _call(keep_macs=1.0), r"keep_macs must be in \(0, 1\), the share that stays, got 1.0"),
        (lambda: _call(keep_macs=0.0), "keep_macs must be in"),
        (lambda: _call(graph=built("resnet")[1]), "graph: it is that of another model"),
        (lambda: _call(batches=[]), "batches gave nothing in epoch 0"),
        (lambda: _call(graph=CHAIN[1].without(list(CHAIN[1].groups))), "graph: it has no group"),
        (lambda: _call(loss=lambda out, y: out.sum() * math.nan), "loss is nan in iteration 0"),
        (
            lambda: _call(behind={"features.0": ["nowhere"]}),
            r"behind\['features.0'\]: the model has no module 'nowhere'",
        ),
        (lambda: _call(behind={"features.0": ["features.4"]}), "a module gives 8 channels, its group has 6"),
        (lambda: _call(behind={"classifier": []}), "cannot be cut"),
        (lambda: surgery.gated(*CHAIN, torch.ones(3)).__enter__(), "gates must have shape"),
        (lambda: autobot.binary_loss([]), "gates must hold at least one group"),
        (lambda: autobot.budget_loss(torch.ones(1), 5, 5), "target must be between 0 and the 5"),
        (lambda: autobot.count_operations(CHAIN[1], convention="flops"), "convention must be one of"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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
