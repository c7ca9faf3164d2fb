"""AutoBot's losses and training: an oracle, fixed points, gradients, what is kept, what is refused."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from compactvision import models, surgery
from compactvision.pruning import autobot
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gated_networks import batches, built, constant, tiny
from networks import with_statistics
from oracles import autobot as oracle


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
    assert not found.gates.requires_grad
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


CHAIN = tiny()
OPERATIONS = autobot.count_operations(CHAIN[1])


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
        (lambda: _call(steps=1.5), "steps must be a whole number, got 1.5"),
        (lambda: _call(beta="6"), "beta must be a number, got '6'"),
        (lambda: _call(graph={}), "graph must be of class ChannelGraph, got {}"),
        (lambda: _call(operations={}), "operations must be of class Operations or NoneType, got {}"),
        (lambda: _call(batches=None), "batches must be pairs of inputs and targets, got None"),
        (lambda: _call(batches=[torch.ones(2, 3, 8, 8)]), "batches must be pairs"),
        (lambda: _call(loss=None), "loss must be a function of . arguments?, got None"),
        (lambda: _call(gate=None), "gate must be a function of . arguments?, got None"),
        (lambda: _call(watch="all"), "watch must be a function of . arguments?, got 'all'"),
        (lambda: _call(loss=lambda out, y: 0.5), "loss must give a tensor with one number, got 0.5"),
        (lambda: _call(loss=lambda out, y: out), "loss must give a tensor with one number, got a tensor"),
        (
            lambda: OPERATIONS(torch.ones(3)),
            r"gates must have shape .* one for each unit, on cpu, got a tensor .* \(3,\)",
        ),
        (lambda: OPERATIONS([1.0]), "gates must be a tensor"),
        (lambda: OPERATIONS.to("nowhere"), "device must name one that is here"),
        (lambda: autobot.count_operations(CHAIN[0]), "graph must be of class ChannelGraph"),
        (lambda: autobot.LearnedGates(CHAIN[1], torch.ones(CHAIN[1].units), step=-1), "step must not be negative"),
        (
            lambda: autobot.LearnedGates(CHAIN[1], torch.ones(CHAIN[1].units), history={}),
            "history must be of class list",
        ),
        (lambda: autobot.binary_loss([torch.ones(2), 1.0]), r"gates\[1\] must be a floating-point tensor, got 1.0"),
        (lambda: autobot.binary_loss([torch.ones(0)]), "gates must hold at least one group and none that is empty"),
        (lambda: autobot.binary_loss(3), "gates must be of class Sequence"),
        (lambda: autobot.budget_loss([1.0], 4, 5), "operations must be a floating-point tensor"),
        (lambda: autobot.budget_loss(torch.ones(1), 4, math.inf), "whole must be finite, got inf"),
        (lambda: autobot.noise.statistics(torch.ones(3)), "x must be activations"),
        (lambda: autobot.noise.statistics(torch.ones(3, 2, 0, 1)), "x must be activations"),
        (lambda: autobot.noise.statistics(torch.ones(3, 2).byte()), "x must be a floating-point tensor"),
        (lambda: autobot.noise.noisy(None), "generator must be of class Generator, got None"),
        (
            lambda: autobot.noise.noisy(torch.Generator())(torch.ones(3, 2), torch.ones(3)),
            r"gates must have shape \(2,\) for x, got \(3,\)",
        ),
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


def test_gates_that_were_not_learned_have_no_steps():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    graph = surgery.channel_graph(model, (3, 1, 1))
    learned = autobot.LearnedGates(graph, torch.ones(graph.units))
    assert (learned.step, learned.history) == (0, [])
