"""Filter fusion in a network: what a fused layer computes and learns, export, training by rules."""

import copy
import math

import pytest
import torch
from compactvision import measure, models, surgery, training
from compactvision.pruning import dcff
from compactvision.pruning.dcff import arguments, formulas, published, rules
from torch import nn

from networks import with_statistics

RULES = {name: getattr(rules, name) for name in ("exact", "official", "largest", "first")}

RULES["official_unmixed"] = rules.unmixed(rules.official)


def drawn(filters, *shape, seed=0):
    """Filters in float64."""
    return torch.randn(filters, *(shape or (2, 3)), generator=torch.Generator().manual_seed(seed)).double()


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
    def test_training_flags_are_those_of_the_narrow_network(self):
        full, narrow = models.small_cnn(widths=(8, 10)), models.small_cnn(widths=(4, 5)).eval()
        fused = dcff.fuse(narrow, full)
        assert not any(module.training for module in fused.modules())
        assert not any(module.training for module in dcff.compact(fused).modules())
        assert all(module.training for module in dcff.compact(fused.train()).modules())

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

            def settings(self):
                return {}

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


NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "message"),
    [
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
        (lambda: dcff.DynamicFusion("exact"), "rule must be a function of . arguments?, got 'exact'"),
        (lambda: dcff.DynamicFusion(nn.Identity()), r"rule must be a function of . arguments?, got Identity\(\)"),
        (lambda: dcff.DynamicFusion(rules.exact).on_start({}), "state must be of class State"),
        (
            lambda: trained(lambda *_: NAN, epochs=1),
            r"rule must give tensors, mixing \(8, 8\) and scores \(8,\), got nan",
        ),
        (
            lambda: trained(lambda w, *_: (w, w[:, 0, 0, 0]), epochs=1),
            r"rule must give .* torch.float32 \(8, 3, 3, 3\)",
        ),
        (lambda: dcff.FusedConv2d(nn.Linear(2, 2), 5), "narrow must be of class Conv2d"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5.0), "filters must be a whole number, got 5.0"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5, generator=0), "generator must be a torch.Generator, got 0"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5)(torch.ones(4, 2, 2)), r"x must be images \(B, 4, H, W\)"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5)(torch.ones(1, 3, 2, 2)), r"x must be images \(B, 4, H, W\)"),
        (
            lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 3, dilation=2), 5)(torch.ones(1, 4, 5, 4)),
            r"x must be at least \(5, 5\)",
        ),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 3, padding=1), 5)(torch.ones(1, 4, 1, 0)), "x must be images"),
        (lambda: dcff.FusedConv2d(nn.Conv2d(4, 4, 1), 5).mix_(None), "mixing must be a tensor, got None"),
        (lambda: dcff.fuse(None, models.small_cnn()), "narrow must be a torch.nn.Module"),
        (lambda: dcff.fuse(models.small_cnn(), models.small_cnn, layers=["a"]), "full must be a torch.nn.Module"),
        (
            lambda: dcff.fuse(models.small_cnn(), models.small_cnn(), layers="features.0"),
            "layers must be names of layers",
        ),
        (lambda: dcff.fuse(models.small_cnn(), models.small_cnn(), layers=[["features.0"]]), "layers must be names"),
        (lambda: dcff.fuse(models.small_cnn(), models.small_cnn(), layers=3), "layers must be names of layers, got 3"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("padding", ["same", "valid", (1, 0)])
def test_takes_the_smallest_images_that_a_convolution_takes(padding):
    narrow = nn.Conv2d(2, 2, 3, padding=padding)
    least = {"same": (1, 1), "valid": (3, 3), (1, 0): (1, 3)}[padding]
    conv, x = dcff.FusedConv2d(narrow, 3), torch.ones(1, 2, *least)
    assert conv(x).shape == narrow(x).shape


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"kept": []},
        {"kept": [], "scores": [], "more": []},
        {"kept": None, "scores": []},
        {"kept": [{"a": 1}], "scores": []},
        {"kept": ["a"], "scores": []},
        {"kept": [{}], "scores": []},
    ],
)
def test_refuses_what_is_no_state(state):
    with pytest.raises(ValueError, match=r"^state"):
        dcff.DynamicFusion(rules.first).load_state_dict(state)


def test_refuses_the_state_of_another_network():
    _, fusion = trained(rules.first, epochs=1)
    with pytest.raises(ValueError, match=r"state: layers \['a'\] are not those"):
        fusion.load_state_dict({"scores": [], "kept": [{"a": torch.ones(1)}]})


def test_images_below_the_kernel_are_refused_whatever_the_padding():
    for padding, least in (("valid", 3), (1, 1), ("same", 1)):
        conv = nn.Conv2d(2, 2, 3, padding=padding)
        arguments.reach(torch.rand(1, 2, least, least), conv)
        if least > 1:
            for sides in ((least - 1, least), (least, least - 1)):
                with pytest.raises(ValueError, match="x must be at least"):
                    arguments.reach(torch.rand(1, 2, *sides), conv)
