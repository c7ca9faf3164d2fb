"""timm's ViT and Swin, where timm is installed: found, scored and cut as torchvision's."""

import pytest
import torch
from compactvision import surgery
from compactvision.surgery.blocks import KINDS
from torch import nn

timm = pytest.importorskip("timm")

NETWORKS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2, "num_classes": 3}, (3, 32, 32)),
    "scaled": ("deit3_small_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2, "num_classes": 3}, (3, 32, 32)),
    "swin": ("swin_tiny_patch4_window7_224", {"img_size": (64, 72), "depths": (2, 2), "num_heads": (3, 6),
                                              "window_size": 5, "num_classes": 3}, (3, 64, 72)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_is_cut(name):
    builder, options, shape = NETWORKS[name]
    model = timm.create_model(builder, **options).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, generator = torch.randn(2, *shape).double(), torch.Generator().manual_seed(0)
    scored = surgery.insert_scores(model, KINDS)
    torch.testing.assert_close(scored(x), model(x), rtol=1e-12, atol=1e-12)
    keep = {}
    for path, scores in surgery.block_scores(scored).items():
        for kind, score in scores.items():
            nn.init.normal_(score)
            keep.setdefault(path, {})[kind] = torch.rand(score.shape, generator=generator) < 0.6
    masked, small = surgery.mask_dimensions(scored, keep), surgery.cut_dimensions(scored, keep)
    assert (masked(x) - model(x)).abs().max() > 1e-3
    torch.testing.assert_close(small(x), masked(x), rtol=1e-10, atol=1e-10)
    small.train()(x).sum().backward()
    assert all(parameter.grad is not None for block in surgery.find_blocks(small)
               for parameter in small.get_submodule(block).parameters())  # fmt: skip


def test_a_saved_one_loads(tmp_path):
    builder, options, shape = NETWORKS["swin"]
    model = timm.create_model(builder, **options).eval()
    keep = {path: {"v": torch.ones(block.sites["v"].shape).bool().tril()}
            for path, block in surgery.find_blocks(model).items()}  # fmt: skip
    small, x = surgery.cut_dimensions(model, keep), torch.randn(1, *shape)
    surgery.save(small, tmp_path / "small.safetensors")
    again = surgery.load(tmp_path / "small.safetensors", build=lambda: timm.create_model(builder, **options))
    torch.testing.assert_close(again(x), small(x))


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        ("swinv2_tiny_window8_256", {}, "is a SwinTransformerV2Block"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "has q_norm"),
        ("vit_tiny_patch16_224", {"scale_attn_norm": True}, "has norm"),
        ("beit_base_patch16_224", {}, "'blocks.0.attn' is a Attention"),
        ("vit_base_patch16_siglip_224", {}, "'attn_pool' is a AttentionPoolLatent"),
        ("levit_128", {}, "is a Attention"),
    ],
)
def test_others_are_refused(builder, options, message):
    with torch.device("meta"):
        model = timm.create_model(builder, **options)
    with pytest.raises(ValueError, match=message):
        surgery.find_blocks(model)


def test_masks_of_tokens_are_refused():
    builder, options, _ = NETWORKS["vit"]
    model = surgery.insert_scores(timm.create_model(builder, **options))
    x = torch.randn(1, 5, 192)
    with pytest.raises(ValueError, match="attn_mask and is_causal are not supported"):
        model.blocks[0](x, attn_mask=torch.zeros(5, 5))
