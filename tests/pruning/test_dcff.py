"""Dynamic-coded filter fusion: steps against an oracle, limits, published numbers, networks, training and counts."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from compactvision import measure, models, surgery, training
from compactvision.pruning import dcff
from compactvision.pruning.dcff import formulas, published, rules
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from networks import with_statistics
from oracles import dcff as oracle

TOY = torch.from_numpy(np.random.RandomState(0).randn(8, 2, 3, 3))
RULES = {name: getattr(rules, name) for name in ("exact", "official", "largest", "first")}
RULES["official_unmixed"] = rules.unmixed(rules.official)


def drawn(filters, *shape, seed=0):
    """Filters in float64."""
    return torch.randn(filters, *(shape or (2, 3)), generator=torch.Generator().manual_seed(seed)).double()


def double(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def lists(tensor):
    return tensor.flatten(1).tolist()


def batches(count=3, size=16, side=8, seed=0):
    """Noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count * size, 3, side, side, generator=generator)
    y = torch.randint(0, 4, (count * size,), generator=generator)
    return list(zip(x.split(size), y.split(size), strict=True))


def chain(widths=(8, 10), keep=(4, 5), seed=1, norm=True):
    """Two convolutions, fused."""
    generator = torch.Generator().manual_seed(seed)
    full = models.small_cnn(4, widths=widths, norm=norm, generator=generator)
    narrow = models.small_cnn(4, widths=keep, norm=norm, generator=generator)
    return dcff.fuse(narrow, full, generator=generator)


def concatenating():
    """A convolution, and two that read it and are concatenated."""

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 12, 3, padding=1)
            self.right, self.end = nn.Conv2d(10, 6, 1, bias=False), nn.Conv2d(18, 8, 3, stride=2)
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            x = self.stem(x).relu()
            x = torch.cat([self.left(x), self.right(x)], 1)
            return self.fc(self.end(x).mean((2, 3)))

    return Fork()


def trained(rule, model=None, epochs=3, callbacks=(), **options):
    model = chain() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    fusion = dcff.DynamicFusion(rule)
    training.fit(
        model,
        batches(),
        epochs=epochs,
        optimizer=optimizer,
        callbacks=[fusion, *callbacks],
        progress=False,
        **options,
    )
    return model, fusion


class TestSteps:
    @settings(max_examples=25, deadline=None)
    @given(filters=st.integers(1, 7), seed=st.integers(0, 99), temperature=st.floats(0, 20))
    def test_equal_to_the_oracle(self, filters, seed, temperature):
        weight = drawn(filters, seed=seed)
        distances = formulas.distances(weight)
        expected = oracle.distances(lists(weight))
        torch.testing.assert_close(distances, double(expected), rtol=1e-12, atol=1e-12)
        rows = oracle.mixing(expected, temperature)
        mixed = formulas.mixing(distances, temperature)
        torch.testing.assert_close(mixed, double(rows), rtol=1e-9, atol=1e-12)
        found = formulas.divergences(distances, temperature)
        divergences = [[oracle.divergence(p, q) for q in rows] for p in rows]
        torch.testing.assert_close(found, double(divergences), rtol=1e-8, atol=1e-8)
        scores = formulas.importance(distances, temperature)
        torch.testing.assert_close(scores, double(oracle.importance(rows)), rtol=1e-8, atol=1e-8)
        official = formulas.importance(distances, temperature, mode="official", previous=torch.zeros(filters))
        single = double(rows).float().tolist()  # where published scores are computed, and weights underflow
        assert official.tolist() == pytest.approx(oracle.official(single, [0.0] * filters), rel=1e-5, abs=1e-4)
        keep = 1 + seed % filters
        chosen = formulas.choose(scores, keep)
        assert chosen.tolist() == oracle.choose(scores.tolist(), keep)
        fused = (mixed[chosen] @ weight.flatten(1)).tolist()
        np.testing.assert_allclose(fused, oracle.fuse(lists(weight), rows, chosen.tolist()), rtol=1e-9, atol=1e-12)

    @given(scores=st.lists(st.integers(0, 3), min_size=1, max_size=12), data=st.data())
    def test_ties_go_to_the_first(self, scores, data):
        keep = data.draw(st.integers(1, len(scores)))
        assert formulas.choose(torch.tensor(scores).double(), keep).tolist() == oracle.choose(scores, keep)

    @given(epochs=st.integers(1, 400), share=st.floats(0, 1), slope=st.floats(0.01, 2))
    def test_temperature_equals_the_published_form(self, epochs, share, slope):
        epoch = round(share * epochs)
        for start, end in ((1.0, 1e4), (0.0, 7.0), (1.0, 50.0)):
            expected = oracle.temperature(epoch, epochs, start, end, slope)
            found = formulas.temperature(epoch, epochs, start=start, end=end, slope=slope)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_published_temperatures(self):
        published = {0: 1.0, 1: 4621.709455, 2: 7616.179965, 3: 9051.577388, 5: 9866.156367, 10: 9999.092133}
        for epoch, expected in published.items():
            assert formulas.temperature(epoch, 300) == pytest.approx(expected, abs=5e-7)
        assert formulas.temperature(300, 300) == 1e4
        values = [formulas.temperature(epoch, 300) for epoch in range(301)]
        assert all(a <= b for a, b in itertools.pairwise(values))

    def test_slow_temperature_in_units_of_the_layer(self):
        distances = formulas.distances(torch.tensor([[0.0], [2.0], [6.0], [6.0]]))  # pairs 0 2 4 4 6 6, lower median 4
        for epoch in (0, 5, 10):
            expected = (1 + 19 * math.tanh(epoch / 10) / math.tanh(1)) / 4
            assert formulas.slow_temperature(distances, epoch, 10) == pytest.approx(expected, rel=1e-12)
        weight = drawn(6)
        once = formulas.mixing(formulas.distances(weight), formulas.slow_temperature(formulas.distances(weight), 3, 10))
        far = formulas.distances(1000 * weight)
        torch.testing.assert_close(formulas.mixing(far, formulas.slow_temperature(far, 3, 10)), once)
        alike = formulas.distances(torch.randn(64, 600))
        temperatures = [formulas.slow_temperature(alike, epoch, 30) for epoch in (0, 3, 6, 10, 30)]
        shares = [float(formulas.mixing(alike, temperature).diagonal().mean()) for temperature in temperatures]
        assert shares[0] < 0.05 < shares[1] < 0.5 < shares[2] < 0.98 < shares[3] <= shares[4]
        for equal in (torch.ones(3, 2), torch.ones(1, 2)):
            assert formulas.slow_temperature(formulas.distances(equal), 0, 10) == 1

    def test_toy_scores_of_the_published_formula(self):
        distances = formulas.distances(TOY)
        published = [5.305441, 6.167883, 5.229153, 4.435402, 5.663357, 5.029100, 5.137404, 4.424186]
        scores = formulas.importance(distances, 1.0, mode="official")
        assert scores.dtype == torch.float32
        assert scores.tolist() == pytest.approx(published, abs=2e-6)
        assert formulas.choose(scores, 4).tolist() == [0, 1, 2, 4]
        exact = [5.305488, 6.168022, 5.229219, 4.435427, 5.663422, 5.029154, 5.137474, 4.424214]
        assert (formulas.importance(distances, 1.0) / 8).tolist() == pytest.approx(exact, abs=1e-6)
        assert float(formulas.mixing(distances, 1.0)[0, 0]) == pytest.approx(0.984191, abs=5e-7)

    def test_the_constant_makes_published_scores_tie(self):
        scores = formulas.importance(formulas.distances(TOY), 10.0, mode="official")
        assert scores.tolist() == pytest.approx([14.10333] * 8, abs=1e-4)

    def test_distance_to_itself_is_zero(self):
        weight = torch.randn(300, 60) + 10
        assert (formulas.distances(weight).diagonal() == 0).all()
        assert (formulas.mixing(formulas.distances(weight), 1e4) == torch.eye(300)).all()
        squares = weight.square().sum(1)
        shortcut = (squares[:, None] + squares[None] - 2 * weight @ weight.T).clamp(min=0).sqrt()
        assert shortcut.diagonal().max() > 1e-3  # what is avoided


class TestInvariants:
    @settings(max_examples=30, deadline=None)
    @given(filters=st.integers(2, 12), seed=st.integers(0, 99), temperature=st.floats(0, 1e4))
    def test_rows_and_divergences(self, filters, seed, temperature):
        distances = formulas.distances(drawn(filters, seed=seed))
        mixed = formulas.mixing(distances, temperature)
        assert (mixed >= 0).all()
        torch.testing.assert_close(mixed.sum(1), torch.ones(filters).double(), rtol=1e-9, atol=1e-9)
        assert (mixed.diagonal() == mixed.max(1).values).all()
        divergences = formulas.divergences(distances, temperature)
        assert divergences.isfinite().all()
        assert (divergences >= -1e-9 * (1 + temperature)).all()
        assert (divergences.diagonal().abs() <= 1e-9 * (1 + temperature)).all()

    def test_divergences_are_not_symmetric(self):
        divergences = formulas.divergences(formulas.distances(TOY), 1.0)
        assert (divergences - divergences.T).abs().max() > 0.1

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 99), temperature=st.floats(0.1, 10), keep=st.integers(1, 9))
    def test_permuting_filters_permutes_scores_and_choice(self, seed, temperature, keep):
        weight, order = drawn(9, seed=seed), torch.randperm(9)
        for mode in ("exact", "official"):
            scores, permuted = (
                formulas.importance(formulas.distances(each), temperature, mode=mode)
                for each in (weight, weight[order])
            )
            torch.testing.assert_close(permuted, scores[order], rtol=1e-4, atol=1e-4)
        chosen = formulas.choose(formulas.importance(formulas.distances(weight), temperature), keep)
        again = formulas.choose(formulas.importance(formulas.distances(weight[order]), temperature), keep)
        assert sorted(order[again].tolist()) == chosen.tolist()

    def test_duplicates_share_their_weight_and_their_score(self):
        weight = drawn(5)
        weight[3] = weight[1]
        distances = formulas.distances(weight)
        assert formulas.mixing(distances, 1e4)[1].tolist() == [0, 0.5, 0, 0.5, 0]
        scores = formulas.importance(distances, 2.0)
        assert float(scores[1]) == pytest.approx(float(scores[3]), rel=1e-12)
        assert float(formulas.divergences(distances, 2.0)[1, 3]) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_limits(self, seed):
        distances = formulas.distances(drawn(20, 4, 3, 3, seed=seed))
        cold = formulas.mixing(distances, 0.0)
        torch.testing.assert_close(cold, torch.full_like(cold, 1 / 20))
        torch.testing.assert_close(formulas.importance(distances, 0.0), torch.zeros(20).double(), rtol=0, atol=1e-12)
        smallest = float((distances + 99 * torch.eye(20)).min())
        hot = 60 / smallest
        torch.testing.assert_close(formulas.importance(distances, hot) / hot, distances.sum(1), rtol=1e-3, atol=0)
        assert (formulas.mixing(distances, 1e4) == torch.eye(20)).all()
        for keep in (1, 7, 19):
            total = formulas.choose(distances.sum(1), keep)
            assert (formulas.choose(formulas.importance(distances, 1e4), keep) == total).all()

    def test_published_scores_freeze(self):
        distances, before = formulas.distances(TOY), torch.arange(8.0)
        assert (formulas.importance(distances, 4621.7, mode="official", previous=before) == before).all()
        assert not (formulas.importance(distances, 1.0, mode="official", previous=before) == before).any()
        assert (formulas.mixing(distances, 4621.7) == torch.eye(8)).all()


class TestFusedConv:
    def conv(self, seed=0, **options):
        torch.manual_seed(seed)
        narrow = nn.Conv2d(3, 4, 3, **({"padding": 1, "stride": 2} | options)).double()
        return dcff.FusedConv2d(narrow, 7, generator=torch.Generator().manual_seed(seed))

    def test_begins_with_single_filters(self):
        conv = self.conv()
        x = torch.randn(2, 3, 9, 9).double()
        expected = nn.functional.conv2d(x, conv.weight[:4], conv.bias[:4], stride=2, padding=1)
        torch.testing.assert_close(conv(x), expected)

    @pytest.mark.parametrize("bias", [True, False])
    def test_mixed_output_is_the_mixture_of_outputs(self, bias):
        conv = self.conv(bias=bias, dilation=2)
        mixed = torch.rand(4, 7).double()
        conv.mix_(mixed)
        x = torch.randn(2, 3, 9, 9).double()
        single = nn.functional.conv2d(x, conv.weight, conv.bias, stride=2, padding=1, dilation=2)  # (B, 7, H', W')
        expected = torch.einsum("mc,bchw->bmhw", mixed, single)
        torch.testing.assert_close(conv(x), expected)
        torch.testing.assert_close(conv.compact()(x), expected)

    def test_gradient_is_the_transposed_mixing(self):
        conv = self.conv()
        conv.mix_(formulas.mixing(formulas.distances(conv.weight), 2.0)[[0, 2, 3, 6]])
        plain = conv.compact()
        x = torch.randn(2, 3, 9, 9).double()
        for each in (conv, plain):
            each(x).square().sum().backward()
        expected = (conv.mixing.T @ plain.weight.grad.flatten(1)).unflatten(1, (3, 3, 3))
        torch.testing.assert_close(conv.weight.grad, expected)
        torch.testing.assert_close(conv.bias.grad, conv.mixing.T @ plain.bias.grad)
        assert not conv.mixing.requires_grad

    def test_filters_without_weight_get_no_gradient(self):
        conv = self.conv()
        conv.mix_(torch.eye(7)[[1, 2, 4, 5]].double())
        conv(torch.randn(2, 3, 9, 9).double()).square().sum().backward()
        assert (conv.weight.grad[[0, 3, 6]] == 0).all()
        assert (conv.weight.grad[[1, 2, 4, 5]] != 0).any(3).any(2).any(1).all()

    def test_drawn_as_pytorch_does(self):
        """Squared norms of 1/3 on average, so that distances are near sqrt(2/3) in every layer."""
        for channels in (3, 64):
            conv = dcff.FusedConv2d(nn.Conv2d(channels, 30, 3), 400)
            assert float(conv.weight.detach().square().sum((1, 2, 3)).mean()) == pytest.approx(1 / 3, rel=0.05)
            assert float(conv.weight.detach().abs().max()) <= 1 / math.sqrt(9 * channels)
            assert float(conv.bias.detach().abs().max()) <= 1 / math.sqrt(9 * channels)

    def test_fusion_is_over_after_one_epoch(self):
        """At PyTorch's initialisation: nearly the mean filter in epoch 0, exactly single filters in epoch 1."""
        for filters, share in ((64, 0.035), (512, 0.0044)):
            conv = dcff.FusedConv2d(nn.Conv2d(64, 10, 3), filters, generator=torch.Generator().manual_seed(0))
            distances = formulas.distances(conv.weight)
            mixed = formulas.mixing(distances, formulas.temperature(0, 300))
            assert float(mixed.diagonal().mean()) == pytest.approx(share, rel=0.05)
            assert (formulas.mixing(distances, formulas.temperature(1, 300)) == torch.eye(filters)).all()


class TestNetworks:
    def test_published_initialisation_of_a_network(self):
        model = chain(norm=False)
        assert [name for name, _, _ in dcff.fused_layers(model)] == ["features.0", "features.3"]
        assert model.features[3].weight.shape == (10, 4, 3, 3)

    @pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
    def test_export_of_a_residual_network(self, residual):
        full = models.resnet20()
        graph = surgery.channel_graph(full, (3, 8, 8), residual=residual)
        plan = surgery.keep_plan(graph, {name: range(0, group.size, 2) for name, group in graph.groups.items()})
        self.check_export(full, surgery.prune(full, plan))

    def test_export_of_a_chain(self):
        full = models.small_cnn(4, widths=(8, 10), norm=False)
        self.check_export(full, published.narrowed(full, {"features.0": 3, "features.3": 4}, (3, 8, 8)))

    def test_export_of_a_concatenation(self):
        full = concatenating()
        self.check_export(full, published.narrowed(full, {"stem": 4, "left": 5, "right": 3}, (3, 8, 8)))

    def test_export_of_free_stage_widths(self):
        self.check_export(models.ResNet(2), published.narrow_resnet((6, 25, 32), (5, 4, 20, 11, 30, 2)))

    def check_export(self, full, narrow):
        untouched = copy.deepcopy(narrow.state_dict())
        model = with_statistics(dcff.fuse(narrow, full))
        torch.testing.assert_close(narrow.state_dict(), untouched)
        for name, _, conv in dcff.fused_layers(model):
            rows = formulas.mixing(formulas.distances(conv.weight), 3.0)
            assert conv.filters == dict(full.named_modules())[name].out_channels
            conv.mix_(rows[torch.randperm(conv.filters)[: conv.out_channels]])
        small = dcff.compact(model)
        assert not any(isinstance(module, dcff.FusedConv2d) for module in small.modules())
        assert not small.training
        x = torch.randn(3, 3, 8, 8)
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)
        assert measure.parameters(small) == measure.parameters(narrow)
        assert measure.macs(small, (3, 8, 8)) == measure.macs(narrow, (3, 8, 8))

    def test_grouped_convolutions_stay_ordinary(self):
        full = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1))
        narrow = published.narrowed(full, {"0": 4}, (3, 8, 8))
        model = dcff.fuse(narrow, full)
        assert [type(layer) for layer in model] == [dcff.FusedConv2d, nn.Conv2d, dcff.FusedConv2d]
        assert type(dcff.fuse(narrow, full, layers=["2"])[0]) is nn.Conv2d

    def test_same_generator_same_filters(self):
        for a, b in zip(chain(seed=3).parameters(), chain(seed=3).parameters(), strict=True):
            assert (a == b).all()


class TestTraining:
    def test_mixing_follows_the_rule_in_every_epoch(self):
        calls = []

        def rule(weight, epoch, epochs, previous):
            calls.append((epoch, epochs, None if previous is None else previous.clone()))
            scores = torch.arange(len(weight)).roll(epoch).double()
            return torch.eye(len(weight)) * (epoch + 1), scores

        model, fusion = trained(rule, epochs=3)
        assert [call[:2] for call in calls] == [(epoch, 3) for epoch in range(3) for _ in range(2)]
        assert [call[2] is None for call in calls] == [True, True, False, False, False, False]
        assert calls[2][2].tolist() == list(range(8))
        assert fusion.kept[2]["features.0"].tolist() == [0, 1, 6, 7]
        expected = 3 * torch.eye(8)[[0, 1, 6, 7]]
        assert (model.features[0].mixing == expected).all()
        assert fusion.swaps() == [dict.fromkeys(("features.0", "features.4"), n) for n in (0, 1, 1)]

    @pytest.mark.parametrize("name", RULES)
    def test_single_filters_at_the_end(self, name):
        model, fusion = trained(RULES[name], epochs=4)
        assert len(fusion.kept) == len(fusion.scores) == 4
        for layer, _, conv in dcff.fused_layers(model):
            assert conv.weight.isfinite().all()
            expected = torch.eye(conv.filters)[fusion.kept[-1][layer]]
            slack = 1e-3 if name == "exact" else 0  # its last temperature is that of the last epoch, below the end
            torch.testing.assert_close(conv.mixing, expected, rtol=0, atol=slack)

    def test_published_rule_mixes_once_and_never_chooses_again(self):
        seen = []

        class Watch:
            def on_step(self, state):
                mixed = state.model.features[0].mixing
                seen.append(((mixed == 0) | (mixed == 1)).all().item())

        _, fusion = trained(rules.official, epochs=4, callbacks=[Watch()])
        assert seen == [False] * 3 + [True] * 9
        for scores in fusion.scores[1:]:
            for name, values in scores.items():
                assert (values == fusion.scores[0][name]).all()
        assert not any(count for swaps in fusion.swaps() for count in swaps.values())

    def test_unmixed_control_chooses_alike(self):
        _, mixed = trained(rules.official)
        model, single = trained(RULES["official_unmixed"])
        for a, b in zip(mixed.kept, single.kept, strict=True):
            assert all((a[name] == b[name]).all() for name in a)
        assert set(model.features[0].mixing.flatten().tolist()) == {0.0, 1.0}

    def test_largest_norms_are_chosen_anew(self):
        model = chain()
        with torch.no_grad():
            model.features[0].weight[[1, 3, 4, 7]] *= 5
        _, fusion = trained(rules.largest, model, epochs=1)
        assert fusion.kept[0]["features.0"].tolist() == [1, 3, 4, 7]

    def test_a_filter_that_stays_keeps_its_row(self):
        best = {0: [0, 1, 2, 3], 1: [5, 1, 2, 4], 2: [7, 6, 5, 2]}

        def rule(weight, epoch, epochs, previous):
            scores = torch.zeros(len(weight), dtype=torch.float64)
            scores[best[epoch]] = 1
            return torch.eye(len(weight)).double(), scores

        model, fusion = trained(rule)
        kept = [epoch["features.0"].tolist() for epoch in fusion.kept]
        assert kept == [[0, 1, 2, 3], [4, 1, 2, 5], [6, 7, 2, 5]]
        assert [epoch["features.0"] for epoch in fusion.swaps()] == [0, 2, 2]
        assert model.features[0].mixing.argmax(1).tolist() == kept[-1]

    def test_first_filters_are_a_narrow_network_from_scratch(self):
        model = chain()
        plain = dcff.compact(model)
        trained(rules.first, model)
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        training.fit(plain, batches(), epochs=3, optimizer=optimizer, progress=False)
        ours = dcff.compact(model).state_dict()
        torch.testing.assert_close(ours, plain.state_dict(), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("name", ["exact", "official"])
    def test_killed_and_resumed(self, name, tmp_path):
        class Kill:
            def __init__(self, step):
                self.step = step

            def on_step(self, state):
                if state.step == self.step:
                    raise KeyboardInterrupt

        whole, diary = trained(RULES[name], epochs=5, callbacks=[Kill(None)])
        stored = {"checkpoint": tmp_path / "run.pt", "every_steps": 2}
        with pytest.raises(KeyboardInterrupt):
            trained(RULES[name], epochs=5, callbacks=[Kill(8)], **stored)
        resumed, again = trained(RULES[name], epochs=5, callbacks=[Kill(None)], **stored)
        torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(again.scores, diary.scores, rtol=0, atol=0)
        torch.testing.assert_close(again.kept, diary.kept, rtol=0, atol=0)

    def test_a_second_training_begins_anew(self):
        model, fusion = trained(rules.exact)
        training.fit(model, batches(), epochs=2, callbacks=[fusion], progress=False)
        assert len(fusion.kept) == 2


WIDTHS = {
    "VGG-16": (32, 32, 76, 76, 166, 166, 166, 76, 76, 76, 76, 76, 76),
    "ResNet-56": (4, 4, 8, 8, 8, 11, 11, 9, 3, 9, 9, 6, 6, 6, 6, 19, 25, 25, 19, 44, 12, 38, 38, 19, 44, 38, 12),
}
COUNTS = {  # MACs, FLOPs as printed in millions, parameters; printed cuts of FLOPs and parameters in per cent
    "VGG-16": (72_349_240, 72.77, 1_071_248, 76.83, 92.73),
    "ResNet-56": (55_057_024, 55.84, 384_316, 55.88, 54.95),
    "ResNet-110": (84_117_632, 85.30, 555_368, 66.55, 67.86),
    "GoogLeNet": (451_471_104, 457.22, 2_079_250, 70.11, 66.28),
    "ResNet-50, 0.96B": (944_655_560, 958.07, 7_403_402, 76.70, 71.03),
    "ResNet-50, 1.49B": (1_474_688_936, 1490.51, 10_581_581, 63.75, 58.60),
    "ResNet-50, 2.25B": (2_230_363_049, 2248.78, 15_163_623, 45.30, 40.67),
    "ResNet-50, 1.52B": (1_507_328_000, 1522.96, 11_047_336, 62.96, 56.77),
    "ResNet-50, 1.38B": (1_366_013_323, 1380.92, 11_813_898, 66.41, 53.77),
    "ResNet-50, 1.02B": (1_010_465_452, 1023.26, 6_560_781, 75.11, 74.33),
}


class TestPublishedNetworks:
    @pytest.mark.parametrize("name", COUNTS)
    def test_counts(self, name):
        macs, flops, parameters, less_flops, less_parameters = COUNTS[name]
        narrow = published.narrow_network(name, device="meta").eval()
        full = published.full_network(name, device="meta").eval()
        image = (3, *[published.PUBLISHED[name].side] * 2)
        assert measure.macs(narrow, image) == macs
        assert measure.parameters(narrow) == parameters
        counted = measure.macs(narrow, image, convention="thop")
        assert round(counted / 1e6, 2) == flops
        whole = measure.macs(full, image, convention="thop")
        assert round(100 * (1 - counted / whole), 2) == less_flops
        assert round(100 * (1 - parameters / measure.parameters(full)), 2) == less_parameters

    def test_the_printed_parameters_of_vgg_differ(self):
        narrow = published.narrow_network("VGG-16", device="meta")
        assert round(measure.parameters(narrow) / 1e6, 2) == 1.07  # printed: 1.06

    def test_vgg_by_hand(self):
        narrow = published.narrow_network("VGG-16", device="meta").eval()
        layers = [884736, 9437184, 5603328, 13307904, 7266816, 15872256, 15872256, 1816704, 831744, 831744]
        found = list(measure.macs_by_module(narrow, (3, 32, 32)).values())
        assert found == [*layers, 207936, 207936, 207936, 760]
        assert measure.macs(narrow, (3, 32, 32), convention="thop") == sum(found) + 140_880 + 281_760 + 76

    @pytest.mark.parametrize("name", WIDTHS)
    def test_widths(self, name):
        narrow = published.narrow_network(name, device="meta")
        convs = {path: module for path, module in narrow.named_modules() if isinstance(module, nn.Conv2d)}
        inner = [conv.out_channels for path, conv in convs.items() if name == "VGG-16" or path.endswith(".conv1")]
        assert tuple(inner) == WIDTHS[name]

    def test_stages_of_resnet110(self):
        narrow = published.narrow_network("ResNet-110")
        found = [narrow.conv1.out_channels, *(stage[5].conv2.out_channels for stage in (narrow.layer2, narrow.layer3))]
        assert found == [6, 25, 32]
        assert narrow.layer2[0].shortcut.source.tolist() == [-1] * 9 + list(range(6)) + [-1] * 10

    def test_float_trap(self):
        assert [published.width(160, rate) for rate in (0.9, 0.8, 0.0)] == [15, 31, 160]
        assert published.width(3, 0.9) == 1

    def test_builder_equals_surgery(self):
        """Where stages stay whole both ways lead to the same network."""
        full = models.ResNet(2)
        inner = (5, 4, 20, 11, 30, 2)
        blocks = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1)]
        cut = published.narrowed(full, dict(zip(blocks, inner, strict=True)), (3, 16, 16))
        built = published.narrow_resnet((16, 32, 64), inner)
        assert {k: v.shape for k, v in cut.state_dict().items()} == {k: v.shape for k, v in built.state_dict().items()}
        built.load_state_dict(cut.state_dict())
        x = torch.randn(2, 3, 16, 16)
        torch.testing.assert_close(built.eval()(x), cut.eval()(x))

    def test_published_networks_can_be_fused(self):
        full = published.full_network("ResNet-50, 1.49B", device="meta")
        narrow = published.narrow_network("ResNet-50, 1.49B", device="meta")
        layers = [name for name, _, module in surgery.named_layers(full) if isinstance(module, nn.Conv2d)]
        layers = [name for name in layers if "downsample" not in name]  # ordinary in the published network
        model = dcff.fuse(narrow, full, layers=layers)
        assert len(list(dcff.fused_layers(model))) == 49
        assert measure.parameters(dcff.compact(model)) == 10_581_581


NAN = float("nan")
ZEROS = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: formulas.distances(torch.ones(3)), r"weight must hold finite filters .*shape \(3,\)"),
        (lambda: formulas.distances(torch.ones(0, 3)), "weight must hold finite filters"),
        (lambda: formulas.distances(torch.full((2, 2), NAN)), "with entries that are not finite"),
        (lambda: formulas.temperature(3, 2), "epoch must be between 0 and epochs .* got 3 and 2"),
        (lambda: formulas.temperature(0, 0), "epoch must be between"),
        (lambda: formulas.temperature(1, 2, start=3, end=2), "start and end must be finite"),
        (lambda: formulas.temperature(1, 2, slope=0), "slope must be positive"),
        (lambda: formulas.slow_temperature(torch.ones(2, 3), 0, 1), r"distances must be .*shape \(2, 3\)"),
        (lambda: formulas.mixing(torch.ones(2, 3), 1), "distances must be finite, not negative and square"),
        (lambda: formulas.mixing(-torch.ones(2, 2), 1), "distances must be finite"),
        (lambda: formulas.mixing(torch.full((2, 2), NAN), 1), "distances must be finite"),
        (lambda: formulas.mixing(ZEROS, -1), "temperature must be finite and not negative, got -1"),
        (lambda: formulas.mixing(ZEROS, NAN), "temperature must be finite"),
        (lambda: formulas.importance(ZEROS, 1, mode="kl"), "mode must be .* got 'kl'"),
        (lambda: formulas.importance(9 - 9 * torch.eye(2), 1e3, mode="official"), "previous: a weight underflows"),
        (lambda: formulas.choose(torch.ones(2, 2), 1), "scores must be 1-D"),
        (lambda: formulas.choose(torch.tensor([1, NAN]), 1), "scores must be 1-D without NaN"),
        (lambda: formulas.choose(torch.ones(2), 0), "keep must be between 1 and 2, got 0"),
        (lambda: formulas.in_place(torch.tensor([1, 2]), torch.tensor([1])), "chosen and before must be equally many"),
        (lambda: formulas.in_place(torch.tensor([1, 1]), torch.tensor([1, 2])), "without repetitions"),
        (lambda: formulas.choose(torch.ones(2), 3), "keep must be between 1 and 2, got 3"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1, groups=2), 5), "narrow must be ungrouped"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 3, padding_mode="reflect"), 5), "narrow must be ungrouped"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 3), "filters must be at least 4, got 3"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5).mix_(torch.ones(4, 4)), r"mixing must be .*\(4, 5\)"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5).mix_(torch.full((4, 5), NAN)), "mixing must be finite"),
        (lambda: dcff.fuse(nn.Linear(2, 2), nn.Linear(2, 2)), "layers: there is no convolution"),
        (lambda: dcff.fuse(models.small_cnn(), models.small_cnn(), layers=["a"]), "'a' is no convolution of n"),
        (lambda: dcff.fuse(models.small_cnn(), nn.Linear(2, 2)), "'features.0' is no convolution of full"),
        (lambda: dcff.fuse(models.small_cnn(), models.small_cnn(widths=(8, 9, 9))), "layer 'features.0': filt"),
        (lambda: dcff.compact(nn.Linear(2, 2)), "model has no fused convolution"),
        (lambda: dcff.DynamicFusion("exact"), "rule must be callable, got 'exact'"),
        (lambda: published.width(4, 1.0), "channels must be at least 1 and rate in"),
        (lambda: published.width(0, 0.5), "channels must be at least 1"),
        (lambda: published.narrow_network("LeNet"), "name must be one of VGG-16, .* got 'LeNet'"),
        (lambda: published.narrow_resnet((8, 4, 16), (1, 1, 1)), "stages must be three ascending counts"),
        (lambda: published.narrow_resnet((4, 4, 16), (1, 1)), "inner must be counts for three stages"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refuses_the_state_of_another_network():
    _, fusion = trained(rules.first, epochs=1)
    with pytest.raises(ValueError, match=r"state: layers \['a'\] are not those"):
        fusion.load_state_dict({"scores": [], "kept": [{"a": torch.ones(1)}]})
