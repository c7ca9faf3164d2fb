"""AutoBot's operations against published counts, an oracle and pruned networks."""

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.pruning import autobot
from torch import nn

from gated_networks import BUILDERS, built, constant, random_plan, tiny
from oracles import autobot as oracle


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


def test_a_pooling_that_the_next_layer_does_not_read_is_refused():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.pool, self.c = nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.Conv2d(4, 2, 1)
            self.b = nn.Conv2d(6, 4, 2, stride=2)

        def forward(self, x):
            pooled = self.pool(self.a(x))
            return self.c(pooled + self.b(torch.cat([x, x], 1)))

    graph = surgery.channel_graph(Branches(), (3, 8, 8))
    with pytest.raises(ValueError, match="layer 'b' does not read what the pooling 'pool' gives"):
        autobot.count_operations(graph)
