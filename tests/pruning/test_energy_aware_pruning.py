"""Energy-aware pruning: a slow oracle, the invariants of nuclear norms, hand-computed maps, and the cut network."""

import doctest
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from compactvision import data, models, surgery
from compactvision.pruning import energy_aware_pruning as eap
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from networks import with_statistics
from oracles import energy_aware_pruning as oracle

EXAMPLES = {  # the specification's 4 x 4 maps: matrix, nuclear norm, rank
    "single": (torch.tensor([[3.0, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4]), 3, 1),
    "identity": (torch.eye(4), 4, 4),
    "ones": (torch.ones(4, 4), 4, 1),
    "two": (torch.diag(torch.tensor([2.0, 2, 0, 0])), 4, 2),
}


def relu_maps(*shape, seed=0, dtype=torch.float64):
    """Random non-negative maps with some silent pixels."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).relu()


def batches_of(n=64, size=16):
    """Glyphs in equal batches."""
    return data.load("glyphs", train=True, n=n).batches(size)


def small_resnet(seed=0):
    """A residual network with BatchNorm statistics that are not trivial."""
    return with_statistics(models.ResNet(1, 10, width=8, generator=torch.Generator().manual_seed(seed)))


def test_examples_run():
    found = doctest.testmod(eap)
    assert found.failed == 0
    assert found.attempted > 8


class TestNuclearNorm:
    @pytest.mark.parametrize("name", EXAMPLES)
    @pytest.mark.parametrize("method", eap.METHODS)
    def test_by_hand(self, name, method):
        matrix, norm, rank = EXAMPLES[name]
        assert eap.nuclear_norm(matrix, method=method).item() == pytest.approx(norm, rel=1e-6)
        assert eap.map_rank(matrix[None, None]).item() == rank

    @settings(max_examples=25, deadline=None)
    @given(p=st.integers(1, 9), q=st.integers(1, 9), seed=st.integers(0, 99))
    def test_all_routes_agree(self, p, q, seed):
        a = torch.randn(3, p, q, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        library = torch.linalg.matrix_norm(a, ord="nuc")
        torch.testing.assert_close(eap.nuclear_norm(a, method="svd"), library, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(eap.nuclear_norm(a), library, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(eap.nuclear_norm(a.float()), library.float(), rtol=1e-5, atol=1e-5)
        plain = torch.tensor([oracle.nuclear_norm(m) for m in a.numpy()])
        torch.testing.assert_close(library, plain, rtol=1e-6, atol=1e-6)

    def test_identities(self):
        generator = torch.Generator().manual_seed(3)
        a, b = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
        u = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
        v = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64)).Q
        norm = eap.nuclear_norm(a)
        assert eap.nuclear_norm(u @ a @ v).item() == pytest.approx(norm.item())
        assert eap.nuclear_norm(-3 * a).item() == pytest.approx(3 * norm.item())
        assert eap.nuclear_norm(a + b) <= norm + eap.nuclear_norm(b)
        x, y = a[:, :1], b[:1]
        assert eap.nuclear_norm(x @ y).item() == pytest.approx((x.norm() * y.norm()).item())
        assert eap.nuclear_norm(x).item() == pytest.approx(x.norm().item())
        assert eap.nuclear_norm(a @ a.T).item() == pytest.approx((a @ a.T).trace().item())
        frobenius = a.norm()
        assert frobenius <= norm <= math.sqrt(5) * frobenius

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_all_cores_give_what_one_gives(self, count):
        a = torch.randn(count, 2, 6, 5, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = eap.nuclear_norm(a)
            torch.set_num_threads(3)
            torch.testing.assert_close(eap.nuclear_norm(a), alone, rtol=1e-12, atol=1e-12)
            with ThreadPoolExecutor(1) as later:
                assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(threads)

    def test_gradient_is_orthogonal_factor(self):
        a = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
        eap.nuclear_norm(a).sum().backward()
        u, _, vh = torch.linalg.svd(a.detach(), full_matrices=False)
        torch.testing.assert_close(a.grad, u @ vh)

    def test_svd_sees_what_is_lost_in_squares(self):
        generator = torch.Generator().manual_seed(4)
        u, v = (torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64)).Q for _ in range(2))
        a = u @ torch.diag(torch.tensor([1.0] + 39 * [1e-10], dtype=torch.float64)) @ v  # norm 1 + 39e-10
        assert eap.nuclear_norm(a, method="svd").item() == pytest.approx(1 + 39e-10, abs=1e-12)
        assert abs(eap.nuclear_norm(a, method="gram").item() - (1 + 39e-10)) > 1e-10
        assert eap.nuclear_norm(a).item() == eap.nuclear_norm(a, method="gram").item()

    def test_squares_that_overflow(self):
        a = torch.diag(torch.tensor([3e200, 4e200], dtype=torch.float64))
        assert eap.nuclear_norm(a).item() == pytest.approx(7e200)

    def test_half_precision_is_computed_in_float32(self):
        a = torch.eye(4, dtype=torch.bfloat16)
        assert eap.nuclear_norm(a).dtype == torch.float32
        assert eap.nuclear_norm(a, method="svd").item() == pytest.approx(4)

    @pytest.mark.parametrize(
        ("matrices", "options", "message"),
        [
            (torch.ones(3), {}, "matrices must have shape"),
            (torch.ones(2, 0, 3), {}, "matrices must have shape"),
            (torch.tensor([[1.0, math.nan]]), {}, "matrices must be finite, got nan"),
            (torch.tensor([[1.0, -math.inf], [math.inf, 1.0]]), {}, "matrices must be finite, got -?inf"),
            (torch.tensor([[1.0, math.nan]]), {"method": "svd"}, "matrices must be finite, got nan"),
            (torch.ones(2, 2), {"method": "power"}, "method must be one of gram, svd"),
        ],
    )
    def test_refuses(self, matrices, options, message):
        with pytest.raises(ValueError, match=message):
            eap.nuclear_norm(matrices, **options)


class TestMaps:
    @pytest.mark.parametrize("shape", [(5, 3, 4, 4), (2, 3, 6, 2), (7, 2, 1, 1), (1, 2, 5, 5)])
    def test_equal_to_the_oracle(self, shape):
        maps = relu_maps(*shape)
        for mode, slow in (("batch", oracle.batch_energy), ("image", oracle.image_energy)):
            expected = torch.from_numpy(slow(maps.numpy()))
            torch.testing.assert_close(eap.map_energy(maps, mode=mode, method="svd"), expected, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(eap.map_energy(maps, mode=mode), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(eap.map_rank(maps).double(), torch.from_numpy(oracle.mean_rank(maps.numpy())))

    def test_order_of_images_pixels_and_channels(self):
        maps = relu_maps(6, 4, 5, 5)
        images, channels, pixels = torch.randperm(6), torch.randperm(4), torch.randperm(25)
        shuffled = maps.flatten(2)[:, :, pixels].view_as(maps)
        for mode in ("batch", "image"):
            energy = eap.map_energy(maps, mode=mode)
            torch.testing.assert_close(eap.map_energy(maps[images], mode=mode), energy)
            torch.testing.assert_close(eap.map_energy(maps[:, channels], mode=mode), energy[channels])
        torch.testing.assert_close(eap.map_energy(shuffled), eap.map_energy(maps))
        moved = eap.map_energy(shuffled, mode="image") / eap.map_energy(maps, mode="image")
        assert (moved - 1).abs().max() > 0.01

    def test_scale_and_sign(self):
        maps, factor = relu_maps(6, 4, 5, 5), torch.tensor([0.5, -2, 0, 1], dtype=torch.float64)
        for mode in ("batch", "image"):
            scaled = eap.map_energy(maps * factor[:, None, None], mode=mode)
            torch.testing.assert_close(scaled, eap.map_energy(maps, mode=mode) * factor.abs())
            assert scaled[2] == 0

    def test_the_same_batch_twice(self):
        maps = relu_maps(6, 4, 5, 5)
        twice = torch.cat([maps, maps])
        torch.testing.assert_close(eap.map_energy(twice), math.sqrt(2) * eap.map_energy(maps))
        torch.testing.assert_close(eap.map_energy(twice, mode="image"), eap.map_energy(maps, mode="image"))

    def test_one_image_or_one_pixel_is_a_euclidean_norm(self):
        maps = relu_maps(1, 4, 5, 5)
        torch.testing.assert_close(eap.map_energy(maps), maps.flatten(2).norm(dim=2)[0])
        flat = relu_maps(6, 4)
        torch.testing.assert_close(eap.map_energy(flat), flat.norm(dim=0))
        torch.testing.assert_close(eap.map_energy(flat, mode="image"), flat.mean(0))

    @pytest.mark.parametrize("maps", [torch.ones(2, 3, 4), torch.ones(0, 3, 4, 4), torch.ones(3)])
    def test_refuses_shapes(self, maps):
        for score in (eap.map_energy, eap.map_rank):
            with pytest.raises(ValueError, match="maps must be"):
                score(maps)

    def test_refuses_modes_and_infinite_maps(self):
        with pytest.raises(ValueError, match='mode must be "batch" or "image"'):
            eap.map_energy(torch.ones(1, 1, 2, 2), mode="weight")
        with pytest.raises(ValueError, match=r"maps must be finite, got (nan|inf)"):
            eap.map_rank(torch.full((1, 1, 2, 2), math.inf))


class TestFilters:
    def test_equal_to_the_library(self):
        weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
        expected = torch.linalg.matrix_norm(weight.flatten(2), ord="nuc")
        torch.testing.assert_close(eap.filter_energy(weight), expected, rtol=1e-6, atol=1e-6)
        linear = torch.randn(5, 7)
        torch.testing.assert_close(eap.filter_energy(linear), linear.norm(dim=1))

    def test_refuses_shapes(self):
        with pytest.raises(ValueError, match="weight must be"):
            eap.filter_energy(torch.ones(3))

    def test_as_an_importance(self):
        model = small_resnet()
        scores = eap.energy(None, mode="weight")(model)
        assert set(scores) == {name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
        torch.testing.assert_close(scores["conv1"], eap.filter_energy(model.conv1.weight))


class TestImportances:
    @pytest.mark.parametrize(
        ("build", "residual"),
        [(models.vgg11_bn, "grouped"), (models.densenet40, "gather"), (models.googlenet, "grouped")],
    )
    def test_scores_reach_every_group(self, build, residual):
        model = build()
        importance = eap.energy([(torch.randn(2, 3, 32, 32), None)])
        graph = surgery.channel_graph(model, (3, 32, 32), residual=residual)
        plan = surgery.make_plan(graph, importance, keep=0.7)
        assert plan.macs < graph.macs

    def test_equal_to_one_pass_over_all_images(self):
        model, batches = small_resnet(), batches_of()
        scores = eap.energy(batches, mode="image")(model)
        ranks = eap.rank(batches)(model)
        inputs = torch.cat([x for x, _ in batches])
        with torch.no_grad():
            maps = model.layer1[0].relu1(
                model.layer1[0].bn1(model.layer1[0].conv1(model.relu(model.bn1(model.conv1(inputs)))))
            )
        torch.testing.assert_close(scores["layer1.0.bn1"], eap.map_energy(maps, mode="image"), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ranks["layer1.0.bn1"], eap.map_rank(maps))
        by_batch = torch.stack([eap.map_energy(part) for part in maps.split(16)]).mean(0)
        torch.testing.assert_close(eap.energy(batches)(model)["layer1.0.bn1"], by_batch, rtol=1e-4, atol=1e-4)

    def test_leaves_the_model_as_it_was(self):
        model = small_resnet().train()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        scores = eap.energy(batches_of(32))(model)
        assert model.training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert not any(values.requires_grad for values in scores.values())

    def test_folding_the_norm_changes_nothing(self):
        model, batches = small_resnet(), batches_of(32)
        folded = small_resnet()
        folded.load_state_dict(model.state_dict())
        block = folded.layer1[0]
        block.conv1 = torch.nn.utils.fuse_conv_bn_eval(block.conv1, block.bn1)
        block.bn1 = nn.Identity()
        own = eap.energy(batches)(model)["layer1.0.bn1"]
        other = eap.energy(batches, layers={"layer1.0.conv1": "layer1.0.relu1"})(folded)["layer1.0.conv1"]
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)

    def test_reads_where_it_is_told(self):
        model = small_resnet()
        streams = {f"layer{k}.0.bn2": f"layer{k}.0.relu2" for k in (1, 2, 3)}
        scores = eap.energy(batches_of(32), layers=streams)(model)
        assert {name: values.numel() for name, values in scores.items()} == {
            f"layer{k}.0.bn2": 4 * 2**k for k in (1, 2, 3)
        }

    def test_silent_channel_goes_first_and_masked_equals_pruned(self):
        model = small_resnet()
        with torch.no_grad():
            model.layer2[0].bn1.weight[5] = 0
            model.layer2[0].bn1.bias[5] = -1  # never above zero
        graph = surgery.channel_graph(model, (3, 32, 32)).only(kinds="inner")
        scores = eap.energy(batches_of(32))(model)
        assert scores["layer2.0.bn1"][5] == 0
        plan = surgery.make_plan(graph, scores, keep=0.6)
        assert plan.widths["layer2.0.conv1"] == int(16 * 0.6)
        assert 5 not in plan.keep["layer2.0.conv1"]
        inputs = torch.randn(4, 3, 32, 32)
        with torch.no_grad():
            pruned = surgery.prune(model, plan)(inputs)
            with surgery.mask(model, plan):
                masked = model(inputs)
        torch.testing.assert_close(masked, pruned, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("importance", [eap.energy, eap.rank])
    def test_nothing_to_score_says_what_to_name(self, importance):
        class Sorting(nn.Sequential):
            def forward(self, x):
                return self[1](self[0](x).flatten(2).sort().values.mean(2))

        model, batches = Sorting(nn.Conv2d(3, 4, 3), nn.Linear(4, 10)), batches_of(32)
        for layers in (None, {}):
            with pytest.raises(ValueError, match=r"layers: none to score.* name each layer and the module"):
                importance(batches, layers=layers)(model)
        assert set(importance(batches, layers={"0": "0"})(model)) == {"0"}

    def test_functions_and_modules_score_alike(self):
        class Functional(nn.Sequential):
            def forward(self, x):
                return self[1](self[0](x).relu().mean((2, 3)))

        layers, batches = (nn.Conv2d(3, 4, 3), nn.Linear(4, 10)), batches_of(32)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        expected = eap.energy(batches)(nn.Sequential(layers[0], nn.ReLU(), head, layers[1]))
        found = eap.energy(batches)(Functional(*layers))
        assert set(found) == set(expected) == {"0"}
        torch.testing.assert_close(found["0"], expected["0"])

    def test_one_activation_for_every_place(self):
        model, batches = small_resnet(), batches_of(32)
        expected = eap.energy(batches)(model)
        shared = nn.ReLU(inplace=True)
        model.relu = shared
        for stage in (model.layer1, model.layer2, model.layer3):
            stage[0].relu1 = stage[0].relu2 = shared
        found = eap.energy(batches)(model)
        assert set(found) == set(expected)
        for name, scores in expected.items():
            torch.testing.assert_close(found[name], scores)
        with pytest.raises(ValueError, match=r"'relu', named for 'bn1', runs 7 times .* name the block around it"):
            eap.energy(batches, layers={"bn1": "relu"})(model)
        blocks = eap.energy(batches, layers={"layer1.0.bn2": "layer1.0"})(model)
        assert blocks["layer1.0.bn2"].shape == (8,)

    def test_places_that_cannot_be_read(self):
        class Unused(nn.Sequential):
            def forward(self, x):
                return self[0](x)

        with pytest.raises(ValueError, match="layers: '1', named for '0', does not run"):
            eap.energy(batches_of(32), layers={"0": "1"})(Unused(nn.Conv2d(3, 4, 3), nn.ReLU()))

        class Two(nn.Module):
            def forward(self, x):
                return {"whole": x}

        class Outer(nn.Sequential):
            def forward(self, x):
                return self[1](self[0](x))["whole"]

        with pytest.raises(ValueError, match="layers: '1', named for '0', gives a dict"):
            eap.energy(batches_of(32), layers={"0": "1"})(Outer(nn.Conv2d(3, 4, 3), Two()))

    def test_weights_of_nothing(self):
        with pytest.raises(ValueError, match="model has no convolution without groups and no linear layer"):
            eap.energy(None, mode="weight")(nn.Sequential(nn.ReLU()))

    def test_refuses(self):
        model = small_resnet()
        with pytest.raises(ValueError, match="mode must be one of batch, image, weight"):
            eap.energy([], mode="filter")
        with pytest.raises(ValueError, match="batches: mode='batch' scores feature maps and needs images, got None"):
            eap.energy(None)
        with pytest.raises(ValueError, match="at least one batch"):
            eap.energy([])(model)
        with pytest.raises(ValueError, match="batches of one size, got \\[8, 32\\]"):
            eap.energy(batches_of(40, 32))(model)
        with pytest.raises(ValueError, match="layer4"):
            eap.energy(batches_of(32), layers={"layer1.0.bn1": "layer4.0.relu1"})(model)
        broken = small_resnet()
        broken.conv1.weight.data.fill_(math.nan)
        with pytest.raises(ValueError, match=r"layer 'bn1': .*must be finite"):
            eap.energy(batches_of(32))(broken)


@pytest.mark.parametrize(
    ("blocks", "streams", "middles", "macs", "parameters"),
    [
        (9, (0.25, 0.25, 0), (0, 0.35, 0.45), 0.4051, 0.4587),
        (18, (0.25, 0, 0), (0.35, 0.4, 0.55), 0.4985, 0.5298),
    ],
)
def test_the_papers_shares(blocks, streams, middles, macs, parameters):
    """ResNet-56 and 110 by schedules of our own, counted by hand: the abstract's shares within 0.2 points."""
    model = models.ResNet(blocks, 10)
    model.layer1[0].shortcut = models.ChannelMap(range(16), 16)  # leaves the stem out of the first stage's sums
    graph = surgery.channel_graph(model, (3, 32, 32))
    keep = {f"layer{stage}.0.conv2": 1 - streams[stage - 1] for stage in (1, 2, 3)}
    keep |= {f"layer{s}.{b}.conv1": 1 - middles[s - 1] for s in (1, 2, 3) for b in range(blocks)}
    plan = surgery.make_plan(graph, surgery.criteria.constant(), keep=keep)
    assert 1 - plan.macs / graph.macs == pytest.approx(macs, abs=5e-5)
    assert 1 - plan.parameters / graph.parameters == pytest.approx(parameters, abs=5e-5)
