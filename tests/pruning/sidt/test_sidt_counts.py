"""Closed formulas against torchvision's networks, the counter, and published numbers."""

import pytest
import torch
import torchvision
from compactvision import measure, surgery
from compactvision.pruning.sidt import counts
from compactvision.surgery.blocks import KINDS
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import EncoderBlock

PARAMETERS = {"swin_t": 28_288_354, "swin_s": 49_606_258, "swin_b": 87_768_224}
MACS = {"swin_t": 4_490_566_656, "swin_s": 8_740_875_264, "swin_b": 15_430_946_816}
SMALL = counts.SwinShape(24, (2, 1), (2, 4), window=5, patch=4, num_classes=7)


def small():
    return SwinTransformer([4, 4], 24, [2, 1], [2, 4], [5, 5], num_classes=7)


def drawn(model, kinds, share=0.6):
    generator = torch.Generator().manual_seed(0)
    return {
        name: {kind: torch.rand(block.sites[kind].shape, generator=generator) < share for kind in kinds}
        for name, block in surgery.find_blocks(model).items()
    }


def shapes(model):
    return [counts.BlockShape.of(block) for block in surgery.find_blocks(model).values()]


@pytest.mark.parametrize("name", PARAMETERS)
def test_whole_swins_to_the_unit(name):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    assert counts.swin_parameters(counts.SWINS[name]) == measure.parameters(model) == PARAMETERS[name]
    assert counts.swin_macs(counts.SWINS[name]) == measure.macs(model, (3, 224, 224)) == MACS[name]
    assert shapes(model) == list(counts.SWINS[name].blocks())


def test_other_sums_of_swin_t():
    shape = counts.SWINS["swin_t"]
    blocks = shape.blocks()
    assert sum(block.queries for block in blocks) == sum(block.values for block in blocks) == 4_416
    assert sum(block.hidden for block in blocks) == 17_664
    hundred = counts.SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24), num_classes=100)
    assert counts.swin_parameters(hundred) == 27_596_254


@pytest.mark.parametrize(
    ("head", "hidden", "inputs", "parameters", "macs"),
    [(26, 0.8, 1.0, 23_216_226, 3.649), (19, 0.6, 1.0, 17_871_812, 2.760), (26, 0.8, 0.8, 20_779_566, 3.259),
     (19, 0.6, 0.6, 14_262_176, 2.180)],
)  # fmt: skip
def test_uniform_cuts_of_swin_t(head, hidden, inputs, parameters, macs):
    shape = counts.SWINS["swin_t"]
    blocks = [counts.uniform(block, head, hidden, inputs) for block in shape.blocks()]
    assert counts.swin_parameters(shape, blocks) == parameters
    assert round(counts.swin_macs(shape, blocks=blocks) / 1e9, 3) == macs
    with torch.device("meta"):
        model = torchvision.models.swin_t()
    keep = {}
    for name, block in surgery.find_blocks(model).items():
        widths = {"qk": head, "v": head, "hidden": round(hidden * block.sites["hidden"].shape[0])}
        widths |= dict.fromkeys(("attention_input", "mlp_input"), round(inputs * block.width))
        keep[name] = {
            kind: (torch.arange(site.shape[-1]) < widths[kind]).expand(site.shape) for kind, site in block.sites.items()
        }
    cut = surgery.cut_dimensions(model, keep)
    assert measure.parameters(cut) == parameters
    assert measure.macs(cut, (3, 224, 224)) == counts.swin_macs(shape, blocks=blocks)


def test_a_block_of_deit_small():
    dense = counts.BlockShape.dense(384, 6)
    block = EncoderBlock(6, 384, 1536, 0.0, 0.0)
    assert counts.block_parameters(dense) == measure.parameters(block) == 591_360 + 1_181_568 + 4 * 384
    assert counts.block_macs(dense, 197) == measure.macs(block, (torch.zeros(1, 197, 384),))
    assert counts.block_macs(dense, 197) == 4 * 197 * 384**2 + 2 * 197**2 * 384 + 8 * 197 * 384**2
    sizes = (39, 39, 38, 38, 38, 38)
    cut = counts.BlockShape(384, sizes, sizes, 921, 384, 384)
    assert counts.block_parameters(cut) == 354_354 + 708_633 + 4 * 384


@pytest.mark.parametrize("keep", [0.8, 0.6])
def test_the_share_that_a_two_sided_cut_leaves(keep):
    width, heads = 480, 12
    dense, sizes = counts.BlockShape.dense(width, heads), (round(40 * keep),) * heads
    read = round(width * keep)
    cut = counts.BlockShape(width, sizes, sizes, round(4 * width * keep), read, read)
    attention = 2 * 50**2 * width
    linear = counts.block_macs(dense, 50) - attention, counts.block_macs(cut, 50) - attention * keep
    assert linear[1] / linear[0] == pytest.approx((7 * keep**2 + 5 * keep) / 12, abs=1e-12)


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], KINDS], ids="+".join)
@pytest.mark.parametrize("size", [(40, 80), (36, 52)])
def test_ragged_blocks_by_formula_and_by_counter(kinds, size):
    model = small()
    cut = surgery.cut_dimensions(model, drawn(model, kinds))
    assert counts.swin_parameters(SMALL, shapes(cut)) == measure.parameters(cut)
    executed = counts.swin_macs(SMALL, size, shapes(cut), executed=True)
    assert executed == measure.macs(cut, (3, *size))
    assert counts.swin_macs(SMALL, size, shapes(cut)) <= executed
    ragged = {"qk", "v"} & set(kinds)
    assert (counts.swin_macs(SMALL, size, shapes(cut)) == executed) == (not ragged)


def test_scores_are_parameters_and_no_arithmetic():
    model = small()
    scored = surgery.insert_scores(model, KINDS)
    added = sum(score.numel() for scores in surgery.block_scores(scored).values() for score in scores.values())
    assert measure.parameters(scored) - measure.parameters(model) == added
    assert measure.macs(scored, (3, 36, 52)) == measure.macs(model, (3, 36, 52))


@pytest.mark.parametrize("tokens", [17, 50])
def test_a_ragged_block_of_a_vit(tokens):
    model = EncoderBlock(3, 24, 40, 0.0, 0.0)
    cut = surgery.cut_dimensions(model, drawn(model, KINDS))
    (shape,) = shapes(cut)
    assert counts.block_parameters(shape) == measure.parameters(cut)
    assert counts.block_macs(shape, tokens, executed=True) == measure.macs(cut, (torch.zeros(1, tokens, 24),))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: counts.block_macs(counts.BlockShape.dense(8, 2), (2, 2)), "tokens must be a whole number"),
        (lambda: counts.block_macs(counts.BlockShape.dense(8, 2, window=2), 4), "tokens must be rows and columns"),
        (lambda: counts.BlockShape.dense(8, 3), "heads must divide the width 8, got 3"),
        (lambda: counts.uniform(counts.BlockShape.dense(8, 2), 2, 0.0), r"hidden must be in \(0, 1\], got 0.0"),
        (lambda: counts.swin_parameters(SMALL, []), "blocks must be 3 shapes of blocks"),
        (lambda: counts.block_parameters(3), "shape must be of class BlockShape"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
