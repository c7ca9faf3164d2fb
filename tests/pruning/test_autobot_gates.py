"""AutoBot's gates against pruned networks and where the paper has them; the ancestor's noise."""

import pytest
import torch
from compactvision import hooks, surgery
from compactvision.pruning import autobot

from gated_networks import BUILDERS, built, random_plan, tiny
from oracles.residual_masks import masked_resnet


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
