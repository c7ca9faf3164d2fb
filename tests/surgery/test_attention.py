"""Dimensions of transformer blocks: found, scored, masked, folded, cut."""

import copy

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.surgery.blocks import KINDS
from torch import nn
from torchvision.models import swin_transformer, vision_transformer

from oracles import transformer_blocks as oracle


def swin(dtype=torch.float64, **options):
    options = {"stochastic_depth_prob": 0.0, "num_classes": 5} | options
    model = swin_transformer.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 3], **options)
    return shaken(model).to(dtype).eval()


def vit(dtype=torch.float64, **options):
    options = {"num_classes": 5} | options
    return shaken(vision_transformer.VisionTransformer(32, 8, 2, 3, 24, 40, **options)).to(dtype).eval()


def shaken(model):
    for parameter in model.parameters():
        if parameter.ndim < 2 or parameter.shape[0] == 5 or parameter.ndim == 3:
            nn.init.normal_(parameter, 0.5, 0.5)
        else:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


NETWORKS = {"swin": (swin, (3, 36, 52)), "vit": (vit, (3, 32, 32))}  # maps of 9 x 13 and 5 x 7 fill no windows of 4 x 3


def masks_of(model, kinds, share=0.6, seed=1):
    generator, masks = torch.Generator().manual_seed(seed), {}
    for name, block in surgery.find_blocks(model).items():
        for kind in kinds:
            mask = torch.rand(block.sites[kind].shape, generator=generator) < share
            mask.view(-1)[-1] = True
            masks.setdefault(name, {})[kind] = mask
    return masks


def scored(model, kinds=KINDS, **options):
    model = surgery.insert_scores(model, kinds, **options)
    for of_block in surgery.block_scores(model).values():
        for score in of_block.values():
            nn.init.normal_(score)
    return model


def whole(block):
    return {kind: torch.ones(site.shape) for kind, site in block.sites.items()}


class TestFinding:
    def test_swin(self):
        model = swin()
        blocks = surgery.find_blocks(model)
        assert list(blocks) == ["features.1.0", "features.1.1", "features.3.0", "features.3.1"]
        shapes = {kind: site.shape for kind, site in blocks["features.3.1"].sites.items()}
        assert shapes == {"qk": (4, 12), "v": (4, 12), "hidden": (192,), "attention_input": (48,), "mlp_input": (48,)}
        assert (blocks["features.3.1"].window, blocks["features.3.1"].shift) == ((4, 3), (2, 1))
        assert blocks["features.1.0"].sites["v"] == surgery.Site("features.1.0", "v", (2, 12), (12, 12))

    def test_vit_inside_something_larger(self):
        blocks = surgery.find_blocks(nn.ModuleDict({"backbone": nn.Sequential(vit()), "head": nn.Conv2d(3, 3, 1)}))
        assert list(blocks) == [f"backbone.0.encoder.layers.encoder_layer_{place}" for place in (0, 1)]
        assert next(iter(blocks.values())).sites["hidden"].shape == (40,)

    def test_a_block_alone(self):
        model, x = swin().features[1][1], torch.randn(2, 5, 7, 24).double()
        assert list(surgery.find_blocks(model)) == [""]
        small = surgery.cut_dimensions(model, masks_of(model, KINDS))
        torch.testing.assert_close(small(x), surgery.mask_dimensions(model, masks_of(model, KINDS))(x))

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: models.imagenet("swin_v2_t"), "'features.1.0' is a SwinTransformerBlockV2.*Swin v2 normalises"),
            (lambda: models.imagenet("maxvit_t"), "is a .*Attention.*, which cannot be cut"),
            (lambda: nn.Sequential(vit(), nn.MultiheadAttention(4, 2)), "'1' is a MultiheadAttention"),
            (lambda: nn.TransformerEncoderLayer(8, 2), "'' is a TransformerEncoderLayer"),
            (models.resnet20, "it has no transformer block"),
            (lambda: 3, "model must be a torch.nn.Module"),
        ],
    )
    def test_others_are_refused_by_name(self, build, message):
        with torch.device("meta"):
            model = build()
        with pytest.raises(ValueError, match=message):
            surgery.find_blocks(model)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda b: setattr(b.mlp, "1", nn.Tanh()), "'a.mlp' has Linear, Tanh, Dropout, Linear"),
            (lambda b: setattr(b.mlp, "0", nn.Conv1d(24, 96, 1)), "'a.mlp' has Conv1d"),
            (lambda b: setattr(b, "attn", nn.Linear(24, 24)), "'a.attn' is a Linear"),
            (lambda b: setattr(b.attn, "forward", lambda x: x), "'a.attn' is a ShiftedWindowAttention"),
            (lambda b: setattr(b.attn, "qkv", nn.Sequential(b.attn.qkv)), "'a.attn.qkv' is a Sequential"),
            (lambda b: nn.utils.parametrizations.weight_norm(b.mlp[0]), "'a.mlp.0' is a ParametrizedLinear"),
            (lambda b: b.attn.register_forward_hook(lambda *_: None), "'a.attn' carries hooks"),
        ],
    )  # fmt: skip
    def test_changed_blocks_are_refused(self, change, message):
        model = nn.ModuleDict({"a": swin().features[1][0]})
        change(model["a"])
        with pytest.raises(ValueError, match=message):
            surgery.find_blocks(model)

    def test_shared_parts_are_refused(self):
        first, second = swin().features[1]
        second.mlp = first.mlp
        with pytest.raises(ValueError, match=r"the blocks '0' and '1' share '1.mlp.0'"):
            surgery.find_blocks(nn.Sequential(first, second))


@pytest.mark.parametrize("name", NETWORKS)
class TestScores:
    @pytest.mark.parametrize("shared", [False, True])
    def test_at_one_the_function_is_unchanged(self, name, shared):
        build, shape = NETWORKS[name]
        model, x = build().train(), torch.randn(2, *shape).double()
        found = surgery.insert_scores(model, KINDS, shared=shared)(x)
        if name == "swin":
            assert torch.equal(found, model(x))
        torch.testing.assert_close(found, model(x), rtol=1e-13, atol=1e-13)  # the ViT's tokens lie otherwise in memory
        model, x = model.float().eval(), x.float()
        torch.testing.assert_close(surgery.insert_scores(model, KINDS, shared=shared)(x), model(x))

    def test_they_multiply_what_the_oracle_multiplies(self, name):
        model = NETWORKS[name][0]()
        with_scores = scored(model)
        for path, block in surgery.find_blocks(model).items():
            x = torch.randn(*((7, 5) if block.window else (6,)), block.width).double()
            found = with_scores.get_submodule(path)(x[None])[0]
            expected = oracle.block(model.get_submodule(path), x, surgery.block_scores(with_scores)[path])
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    def test_gradients_reach_each_and_states_go_round(self, name):
        build, shape = NETWORKS[name]
        model, x = scored(build()).train(), torch.randn(2, *shape).double()
        model(x).square().sum().backward()
        scores = [score for of_block in surgery.block_scores(model).values() for score in of_block.values()]
        assert len(scores) == 5 * len(surgery.find_blocks(model))
        assert all((score.grad != 0).all() for score in scores)
        assert {id(score) for score in scores} <= {id(parameter) for parameter in model.parameters()}
        again = surgery.insert_scores(build(), KINDS)
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again.eval()(x), model.eval()(x))
        torch.testing.assert_close(copy.deepcopy(model)(x), model(x))

    def test_the_gradient_is_that_of_the_oracle(self, name):
        model = NETWORKS[name][0]()
        with_scores = scored(model)
        path, block = list(surgery.find_blocks(model).items())[1]
        x = torch.randn(*((5, 4) if block.window else (4,)), block.width).double()
        scores = surgery.block_scores(with_scores)[path]
        apart = {kind: score.detach().clone().requires_grad_() for kind, score in scores.items()}
        with_scores.get_submodule(path)(x[None]).square().sum().backward()
        oracle.block(model.get_submodule(path), x, apart).square().sum().backward()
        for kind, score in scores.items():
            torch.testing.assert_close(score.grad, apart[kind].grad)

    def test_heads_may_share(self, name):
        model = scored(NETWORKS[name][0](), shared=True)
        for path, block in surgery.find_blocks(model).items():
            scores = surgery.block_scores(model)[path]
            assert scores["qk"].shape == scores["v"].shape == (1, block.sites["v"].shape[1])
        x = torch.randn(1, *NETWORKS[name][1]).double()
        one = {path: {"v": torch.arange(block.sites["v"].shape[1])[None] > 2}
               for path, block in surgery.find_blocks(model).items()}  # fmt: skip
        torch.testing.assert_close(surgery.cut_dimensions(model, one)(x), surgery.mask_dimensions(model, one)(x))

    def test_a_second_call_keeps_the_first_scores(self, name):
        first = scored(NETWORKS[name][0](), ["qk", "hidden"])
        second = surgery.insert_scores(first, ["v", "hidden"])
        for path, scores in surgery.block_scores(first).items():
            found = surgery.block_scores(second)[path]
            assert set(found) == {"qk", "v", "hidden"}
            assert torch.equal(found["qk"], scores["qk"])
            assert torch.equal(found["hidden"], scores["hidden"])


@pytest.mark.parametrize("name", NETWORKS)
class TestCutting:
    @pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], KINDS[:3], KINDS], ids="+".join)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_masked_is_cut(self, name, kinds, dtype, tolerance):
        build, shape = NETWORKS[name]
        model = scored(build(dtype))
        keep, x = masks_of(model, kinds), torch.randn(2, *shape, dtype=dtype)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        masked, small = surgery.mask_dimensions(model, keep), surgery.cut_dimensions(model, keep)
        scale = masked(x).abs().max().item()
        torch.testing.assert_close(small(x), masked(x), rtol=tolerance, atol=tolerance * max(scale, 1))
        assert not any(surgery.block_scores(small).values())
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        for path, block in surgery.find_blocks(small).items():
            for kind in kinds:
                stays = keep[path][kind]
                if kind == "qk" and "v" in kinds:
                    stays = stays[keep[path]["v"].any(1)]
                assert block.sites[kind].dimensions == stays.sum()

    def test_a_cut_block_is_the_oracles(self, name):
        model = NETWORKS[name][0]()
        keep = masks_of(model, KINDS)
        small = surgery.cut_dimensions(model, keep)
        for path, block in surgery.find_blocks(model).items():
            x = torch.randn(*((7, 5) if block.window else (6,)), block.width).double()
            expected = oracle.block(model.get_submodule(path), x, {k: m.double() for k, m in keep[path].items()})
            torch.testing.assert_close(small.get_submodule(path)(x[None])[0], expected, rtol=1e-10, atol=1e-10)

    def test_without_folding_scores_are_left_out(self, name):
        build, shape = NETWORKS[name]
        model, x = build(), torch.randn(1, *shape).double()
        keep = masks_of(model, KINDS)
        small = surgery.cut_dimensions(scored(model), keep, fold=False)
        torch.testing.assert_close(small(x), surgery.cut_dimensions(model, keep)(x))

    def test_heads_without_values_go_and_those_without_queries_stay(self, name):
        build, shape = NETWORKS[name]
        model, x = scored(build()), torch.randn(1, *shape).double()
        keep = masks_of(model, ("qk", "v"))
        path, block = next(iter(surgery.find_blocks(model).items()))
        keep[path]["v"][0], keep[path]["qk"][1:] = False, False
        small = surgery.cut_dimensions(model, keep)
        torch.testing.assert_close(small(x), surgery.mask_dimensions(model, keep)(x))
        sites = surgery.find_blocks(small)[path].sites
        assert sites["qk"].sizes == (0,) * (len(block.sites["qk"].sizes) - 1)
        assert len(sites["v"].sizes) == len(block.sites["v"].sizes) - 1

    def test_the_scale_is_that_of_whole_heads(self, name):
        model = NETWORKS[name][0]()
        small = surgery.cut_dimensions(model, masks_of(model, ("qk",), 0.4))
        for path, block in surgery.find_blocks(model).items():
            expected = block.sites["qk"].shape[1] ** -0.5
            assert small.get_submodule(surgery.find_blocks(small)[path].attention).scale == expected

    def test_it_can_be_cut_again(self, name):
        build, shape = NETWORKS[name]
        model, x = scored(build()), torch.randn(1, *shape).double()
        first = masks_of(model, KINDS, 0.8)
        half = surgery.cut_dimensions(model, first)
        second, both = {}, {}
        for path, block in surgery.find_blocks(half).items():
            second[path], both[path] = {}, {}
            for kind, site in block.sites.items():
                stays, sizes = first[path][kind].clone(), torch.tensor(site.sizes)
                there = torch.arange(site.shape[-1]) < sizes[:, None]
                keep = (torch.arange(site.shape[-1]) % 3 != 1) & there
                kept = stays.any(1) if kind in ("qk", "v") else slice(None)
                if kind == "qk":
                    kept = first[path]["v"].any(1)
                    stays = stays & kept[:, None]
                stays[stays.clone()] = keep[there]
                second[path][kind], both[path][kind] = keep if kind in ("qk", "v") else keep[0], stays
        torch.testing.assert_close(surgery.cut_dimensions(half, second)(x), surgery.cut_dimensions(model, both)(x))

    def test_nothing_cut_nothing_changed(self, name):
        model = NETWORKS[name][0]()
        same = surgery.cut_dimensions(model, {})
        assert not any(isinstance(module, RaggedAttention) for module in same.modules())
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in same.state_dict().items())
        folded, x = surgery.cut_dimensions(scored(model), {}), torch.randn(1, *NETWORKS[name][1]).double()
        assert measure.parameters(folded) == measure.parameters(model)
        assert folded(x).shape == (1, 5)

    def test_flags_stay(self, name):
        model = NETWORKS[name][0](torch.float16)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.ndim > 1)
        small = surgery.cut_dimensions(model, masks_of(model, KINDS))
        assert all(parameter.requires_grad == (parameter.ndim > 1) for parameter in small.parameters())
        assert all(parameter.dtype == torch.float16 for parameter in small.parameters())
        assert not any(module.training for module in small.modules())
        assert all(
            module.training for module in surgery.cut_dimensions(model.train(), masks_of(model, KINDS)).modules()
        )

    def test_a_step_of_training_lowers_the_loss(self, name):
        build, shape = NETWORKS[name]
        model, x = build(), torch.randn(8, *shape).double()
        small = surgery.cut_dimensions(model, masks_of(model, KINDS)).train()
        optimiser, y = torch.optim.SGD(small.parameters(), 1e-4), torch.arange(8) % 5
        losses = []
        for _ in range(3):
            loss = nn.functional.cross_entropy(small(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert all(parameter.grad is not None for parameter in small.parameters())
        assert losses[2] < losses[1] < losses[0]


def test_dropout_and_stochastic_depth_are_those_of_the_original():
    model = swin(dropout=0.3, attention_dropout=0.2, stochastic_depth_prob=0.4).train()
    x = torch.randn(3, 3, 36, 52).double()
    with_scores = surgery.insert_scores(model, KINDS)
    torch.manual_seed(3)
    expected = model(x)
    torch.manual_seed(3)
    assert torch.equal(with_scores(x), expected)
    small = surgery.cut_dimensions(model, masks_of(model, KINDS))
    attention = small.features[1][0].attn
    assert (attention.dropout, attention.attention_dropout) == (0.3, 0.2)
    assert not torch.equal(small(x), small(x))
    assert torch.equal(small.eval()(x), small(x))


def test_autocast_works():
    model = swin(torch.float32)
    small = surgery.cut_dimensions(model, masks_of(model, KINDS))
    x = torch.randn(1, 3, 36, 52)
    with torch.autocast("cpu", torch.bfloat16):
        found = small(x)
    torch.testing.assert_close(found.float(), small(x), rtol=0.1, atol=0.5)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"features.9": {}}, "keep: the network has no block 'features.9'; it has features.1.0"),
        ({"features.1.0": {"q": torch.ones(2)}}, r"keep\['features.1.0'\] \(kind\) must be one of qk, v"),
        ({"features.1.0": {"qk": torch.ones(2, 12)}}, r"must be a mask of type bool and shape \(2, 12\)"),
        ({"features.1.0": {"hidden": torch.ones(95).bool()}}, r"shape \(96,\)"),
        ({"features.1.0": {"v": torch.zeros(2, 12).bool()}}, "keeps nothing; at least one dimension must stay"),
        ({"features.1.0": {"hidden": 3}}, r"keep\['features.1.0'\]\['hidden'\] must be a tensor"),
        ({"features.1.0": 3}, r"keep\['features.1.0'\] must be a mapping"),
        (3, "keep must be a mapping"),
    ],
)
def test_bad_masks_are_named(keep, message):
    for function in (surgery.cut_dimensions, surgery.mask_dimensions):
        with pytest.raises(ValueError, match=message):
            function(swin(), keep)


def test_what_takes_no_scores_says_so():
    model = swin()
    small = surgery.cut_dimensions(model, masks_of(model, KINDS))
    with pytest.raises(ValueError, match=r"have unequal sizes .* and take no scores"):
        surgery.insert_scores(small)
    with pytest.raises(ValueError, match="reads part of its inputs"):
        surgery.insert_scores(small, ["attention_input"])
    block = next(iter(surgery.find_blocks(small).values()))
    with pytest.raises(ValueError, match="keeps dimensions that heads of sizes"):
        surgery.cut_dimensions(small, {block.name: {"v": torch.ones(block.sites["v"].shape).bool()}})
    with pytest.raises(ValueError, match=r"kinds\[0\] must be one of qk"):
        surgery.insert_scores(model, ["depth"])
    with pytest.raises(ValueError, match="kinds must be a sequence"):
        surgery.insert_scores(model, "qk")
