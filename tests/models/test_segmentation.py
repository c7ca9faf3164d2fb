"""Decoders of SegFormer, FeedFormer and SegNeXt: published counts, shapes, and what each place hears of."""

import itertools
import re

import pytest
import torch
from compactvision import measure
from compactvision.models import encoders, segmentation
from torch import nn

from oracles import attention as oracle

CHANNELS = (4, 6, 8)
HEADS = {
    "segformer": lambda **given: segmentation.SegFormerHead(CHANNELS, 3, width=8, **given),
    "feedformer": lambda **given: segmentation.FeedFormerHead(CHANNELS, 3, width=8, heads=(1, 2, 4), **given),
    "lightham": lambda **given: segmentation.LightHamHead(CHANNELS, 3, width=8, rank=4, groups=2, **given),
}


def pyramid(batch=2, size=(16, 12), channels=CHANNELS, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(batch, width, -(-size[0] // 2**place), -(-size[1] // 2**place), generator=generator, dtype=dtype)
        for place, width in enumerate(channels)
    ]


def built(function, *given, **options):
    with torch.device("meta"):
        return getattr(segmentation, function)(*given, **options)


@pytest.mark.parametrize(
    ("function", "encoder", "options", "parameters", "decoder", "macs"),
    [
        ("segformer", "mit_b0", {}, 3_753_718, 434_326, 8_387_821_568),
        ("segformer", "mit_b1", {}, 13_716_822, 565_398, 15_878_062_080),
        ("segformer", "mit_b2", {}, 27_465_046, 3_268_758, 62_337_843_200),
        ("feedformer", "mit_b0", {"count_dead": True}, 4_453_676, 1_134_284, 7_760_904_192),
        ("feedformer", "lvt", {"count_dead": True}, 4_607_888, 1_178_796, 9_987_424_256),
        ("feedformer", "mit_b2", {"count_dead": True}, 29_131_564, 4_935_276, 42_614_915_072),
        ("segnext", "mscan_t", {}, 4_263_414, 359_830, 6_404_341_760),
        ("segnext", "mscan_s", {}, 13_932_886, 482_710, 15_646_261_248),
        ("segnext", "mscan_b", {}, 27_636_310, 1_358_486, 32_685_948_928),
    ],
)
def test_published_counts(function, encoder, options, parameters, decoder, macs):
    network = built(function, encoder, **options)
    assert measure.parameters(network) == parameters
    assert measure.parameters(network.decoder) == decoder
    assert measure.macs(network, (3, 512, 512)) == macs


@pytest.mark.parametrize("function", ["segformer", "feedformer", "segnext"])
def test_docstrings_state_the_counts(function):
    network = built(function)
    text = getattr(segmentation, function).__doc__
    stated = [int(number.replace(",", "")) for number in re.findall(r"([\d,]{9,}) ", text)]
    assert stated[0] == measure.parameters(network)
    assert stated[-1] == measure.macs(network, (3, 512, 512))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(8, 8), (16, 12), (9, 14)])
def test_logits_stand_on_the_finest_grid(name, size):
    decoder = HEADS[name]()
    logits = decoder(pyramid(size=size))
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    assert [key for key, parameter in decoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["segformer", "feedformer"])
def test_evaluation_is_deterministic_and_the_generator_decides_the_weights(name):
    one, two = (HEADS[name](generator=torch.Generator().manual_seed(1)).eval() for _ in range(2))
    assert torch.equal(one(pyramid()), two(pyramid()))


@pytest.mark.parametrize("name", HEADS)
def test_export_and_autocast(name):
    decoder, maps = HEADS[name]().eval(), pyramid()
    exported = torch.export.export(decoder, (maps,)).module()
    found = []
    for each in (decoder, exported):
        torch.manual_seed(2)
        found.append(each(maps))
    torch.testing.assert_close(*found)
    with torch.autocast("cpu", torch.bfloat16):
        decoder.train()(maps).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


def test_lightham_draws_its_bases_in_every_pass():
    decoder = HEADS["lightham"]().eval()
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight)
    first, second = decoder(pyramid()), decoder(pyramid())
    assert not torch.equal(first, second)
    assert (first - second).abs().mean() < first.abs().mean()
    torch.manual_seed(4)
    third = decoder(pyramid())
    torch.manual_seed(4)
    assert torch.equal(decoder(pyramid()), third)
    decoder.hamburger.generator = torch.Generator().manual_seed(4)
    fourth = decoder(pyramid())
    decoder.hamburger.generator.manual_seed(4)
    assert torch.equal(decoder(pyramid()), fourth)


def test_factors_stay_non_negative_and_each_step_rebuilds_better():
    x = torch.rand(2, 10, 30, dtype=torch.float64)
    start = nn.functional.normalize(torch.rand(2, 10, 4, dtype=torch.float64), dim=1)
    errors = []
    for steps in range(1, 12):
        bases, coefficients = segmentation.nmf(x, start, steps)
        assert bases.min() >= 0
        assert coefficients.min() >= 0
        errors.append(float((x - bases @ coefficients.mT).square().sum()))
    assert all(later <= sooner * (1 + 1e-9) for sooner, later in itertools.pairwise(errors))
    assert errors[-1] < errors[0]


def test_one_step_of_the_factorisation_by_hand():
    x = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]], dtype=torch.float64)
    start = torch.tensor([[[0.6], [0.8]]], dtype=torch.float64)
    bases, coefficients = segmentation.nmf(x, start, 1)  # rank one: the softmax is 1 everywhere
    c = torch.tensor([0.6, 2.0], dtype=torch.float64)  # 1 * (x^T b) / (1 * b^T b)
    b = (x[0] @ c) / (c @ c)
    torch.testing.assert_close(bases[0, :, 0], b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(coefficients[0, :, 0], x[0].T @ b / (b @ b), rtol=1e-5, atol=1e-5)


def test_a_segformer_pixel_hears_only_of_its_own_place():
    decoder = HEADS["segformer"]().eval()
    maps = [each.requires_grad_() for each in pyramid(1)]
    decoder(maps)[0, :, 0, 0].sum().backward()
    assert maps[0].grad[0].abs().sum(0).nonzero().tolist() == [[0, 0]]
    assert maps[2].grad[0].abs().sum(0).nonzero().max() <= 1


def test_feedformers_coarse_maps_ask_the_finest():
    decoder = HEADS["feedformer"]().eval()
    maps = [each.requires_grad_() for each in pyramid(1)]
    decoder.blocks[1](maps[2], maps[0])[0, :, 0, 0].sum().backward()
    assert (maps[0].grad[0].abs().sum(0) > 0).all()
    weights = decoder.weights(maps)
    assert {level: tuple(each.shape) for level, each in weights.items()} == {2: (1, 2, 48, 48), 3: (1, 4, 12, 12)}
    assert all(torch.allclose(each.sum(-1), torch.ones(())) for each in weights.values())


def test_feedformers_memory_is_pooled_then_convolved_and_normalised():
    block = segmentation.QueryBlock(6, 4, 2, memory_pool=2).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    memory = pyramid(1, (5, 6), (4,), torch.float64)[0]
    normal = oracle.layer_norm(oracle.tokens(oracle.array(memory[0])), block.norm_memory)
    small = oracle.pointwise(oracle.pool(oracle.maps_of(normal, (5, 6)), 2), block.reduce_memory.conv)
    expected = oracle.gelu(oracle.layer_norm(oracle.tokens(small), block.reduce_memory.norm))
    torch.testing.assert_close(block.asked(memory)[0], torch.from_numpy(expected))


def test_a_network_enlarges_to_the_image_or_not():
    encoder = encoders.MiT((4, 6), (1, 1), (1, 2), (2, 1)).eval()
    decoder = segmentation.SegFormerHead(encoder.channels, 3, width=8).eval()
    x = torch.randn(1, 3, 30, 41)
    small = segmentation.Segmenter(encoder, decoder, enlarged=False)(x)
    large = segmentation.Segmenter(encoder, decoder)(x)
    assert (small.shape, large.shape) == ((1, 3, 8, 11), (1, 3, 30, 41))
    torch.testing.assert_close(large, nn.functional.interpolate(small, size=(30, 41), mode="bilinear"))


def test_only_what_got_no_gradient_is_dead():
    decoder = segmentation.FeedFormerHead((4, 6), 3, width=8, count_dead=True)
    with pytest.raises(ValueError, match="model has no gradient"):
        segmentation.dead_parameters(decoder)
    decoder(pyramid(channels=(4, 6))).sum().backward()
    assert segmentation.dead_parameters(decoder) == 256 * 3 + 3
    assert not hasattr(segmentation.FeedFormerHead((4, 6), 3), "dead_predictor")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HEADS["segformer"]()(pyramid()[:2]), "maps must be a list of 3 maps, fine to coarse"),
        (lambda: HEADS["segformer"]()(pyramid()[0]), "maps must be a list of 3 maps"),
        (lambda: HEADS["feedformer"]()([*pyramid()[:2], torch.zeros(2, 5, 4, 4)]), r"maps\[2\] must be \(B, 8, H, W\)"),
        (lambda: HEADS["lightham"]()([*pyramid()[:2], torch.zeros(1, 8, 4, 3)]), r"maps\[2\] must have the 2 images"),
        (lambda: segmentation.SegFormerHead((4, 0), 3), r"channels\[1\] must be at least 1, got 0"),
        (lambda: segmentation.FeedFormerHead((4,), 3), "channels must be a sequence of at least 2"),
        (lambda: segmentation.FeedFormerHead((4, 6), 3, heads=(1,)), "heads must have one number for each of the 2"),
        (lambda: segmentation.FeedFormerHead((4, 6), 3, heads=(1, 4)), "heads must divide the width 6, got 4"),
        (lambda: segmentation.LightHamHead((4, 6), 3, width=8), "groups must divide the width 8, got 32"),
        (lambda: segmentation.SegFormerHead((4,), 3, dropout=1), r"dropout must be in \[0, 1\), got 1"),
        (lambda: segmentation.segformer("resnet"), "encoder must be one of mit_b0"),
        (lambda: segmentation.enlarge(torch.zeros(1, 2, 3), (4, 4)), r"maps must be \(B, C, H, W\)"),
        (lambda: segmentation.nmf(torch.zeros(1, 2, 3), torch.zeros(1, 3, 1), 1), r"bases must be \(B, D, R\)"),
        (lambda: segmentation.QueryBlock(4, 4, variant="other"), "variant must be one of official, paper"),
        (lambda: segmentation.QueryBlock(4, 4, memory_pool=2, query_pool=2), "query_pool must be None where"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
