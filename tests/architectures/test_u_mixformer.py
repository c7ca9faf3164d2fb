"""U-MixFormer's mix, block and decoder: slow oracle, invariants of the specification, and looks."""

import pytest
import torch
from compactvision import surgery
from compactvision.architectures.u_mixformer import KeyValueMixer, UMixFormerHead, looking, mixing
from compactvision.models import encoders
from compactvision.models.segmentation import QueryBlock, Segmenter, dead_parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import attention as oracle

CHANNELS = (4, 6, 8)


def pyramid(batch=1, size=(8, 12), channels=CHANNELS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(batch, width, -(-size[0] // 2**place), -(-size[1] // 2**place), generator=generator, dtype=dtype)
        for place, width in enumerate(channels)
    ]


def noisy(module):
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def head(**options):
    return noisy(UMixFormerHead(CHANNELS, 3, heads=(1, 2, 4), width=8, **options))


@settings(max_examples=12, deadline=None)
@given(
    channels=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    cut=st.integers(0, 1),
    last=st.sampled_from([1, 2]),
)
def test_the_mix_equals_means_of_windows(channels, grid, cut, last):
    ratios = [last * 2 ** (len(channels) - 1 - place) for place in range(len(channels))]
    mixer = noisy(KeyValueMixer(channels, ratios))
    sizes = [tuple(max(side * ratio - cut * (ratio > 1), 1) for side in grid) for ratio in ratios]  # partial windows
    maps = [torch.randn(1, width, *size, dtype=torch.float64) for width, size in zip(channels, sizes, strict=True)]
    expected = torch.from_numpy(oracle.mix(mixer, [oracle.array(each[0]) for each in maps]))
    torch.testing.assert_close(mixer(maps)[0], expected)


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_the_block_equals_the_oracle(variant):
    block = noisy(QueryBlock(4, 6, 2, variant=variant))
    x, y = torch.randn(1, 4, 3, 4, dtype=torch.float64), torch.randn(1, 6, 2, 2, dtype=torch.float64)
    expected = torch.from_numpy(oracle.block(block, oracle.array(x[0]), oracle.array(y[0])))
    torch.testing.assert_close(block(x, y)[0], expected, rtol=1e-10, atol=1e-10)


def test_the_block_for_cityscapes_asks_from_pooled_places():
    block = noisy(QueryBlock(4, 6, 2, query_pool=2))
    x, y = torch.randn(1, 4, 5, 4, dtype=torch.float64), torch.randn(1, 6, 2, 2, dtype=torch.float64)
    normal = oracle.layer_norm(oracle.tokens(oracle.array(x[0])), block.norm_query)
    reduce = block.reduce_query
    small = oracle.pointwise(oracle.pool(oracle.maps_of(normal, (5, 4)), 2), reduce.conv)
    queries = oracle.gelu(oracle.layer_norm(oracle.tokens(small), reduce.norm))
    keys = oracle.layer_norm(oracle.tokens(oracle.array(y[0])), block.norm_memory)
    keys = oracle.gelu(oracle.layer_norm(keys, block.norm_again))
    answers = oracle.maps_of(oracle.cross_attention(block.attention, queries, keys), (3, 2))
    large = nn.functional.interpolate(torch.from_numpy(answers)[None], size=(5, 4), mode="bilinear")[0]
    tokens = oracle.layer_norm(normal + oracle.tokens(large.numpy()), block.norm_sum)
    expected = oracle.maps_of(tokens + oracle.ffn(block.ffn, tokens, (5, 4)), (5, 4))
    torch.testing.assert_close(block(x, y)[0], torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mixing_of", mixing.MIXINGS)
@pytest.mark.parametrize("propagation", [True, False])
def test_the_decoder_equals_the_oracle(mixing_of, propagation):
    decoder, maps = head(mixing=mixing_of, propagation=propagation), pyramid(size=(4, 4))
    expected = oracle.decode(decoder, [oracle.array(each[0]) for each in maps])
    for found, each in zip(decoder.refine(maps), expected, strict=True):
        torch.testing.assert_close(found[0], torch.from_numpy(each), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 224)])
def test_logits_have_a_quarter_of_the_images_sides(size):
    encoder = encoders.MiT((4, 6, 8, 10), (1, 1, 1, 1), (1, 1, 1, 1), (8, 4, 2, 1)).eval()
    decoder = UMixFormerHead(encoder.channels, 5, heads=(1, 2, 4, 5), width=8).eval()
    x = torch.randn(1, 3, *size)
    assert decoder(encoder(x)).shape == (1, 5, size[0] // 4, size[1] // 4)
    assert Segmenter(encoder, decoder)(x).shape == (1, 5, *size)


def test_the_first_stage_asks_the_encoder_alone_and_later_ones_what_became_of_it():
    decoder, maps = head(), pyramid()
    plain = decoder.refine(maps)
    moved = [maps[0] + torch.randn_like(maps[0]), *maps[1:]]
    assert not torch.allclose(decoder.refine(moved)[2], plain[2])  # the finest map is in the first mix
    assert [source.origin for source in decoder.sources(3)] == ["encoder"] * 3
    assert [source.origin for source in decoder.sources(1)] == ["decoder", "decoder", "encoder"]
    hook = decoder.blocks[2].register_forward_hook(lambda module, given, made: made + torch.randn_like(made))
    changed = decoder.refine(maps)
    hook.remove()
    assert all(not torch.allclose(a, b) for a, b in zip(changed, plain, strict=True))
    apart = head(propagation=False)
    apart.load_state_dict(decoder.state_dict())
    before = apart.refine(maps)
    hook = apart.blocks[2].register_forward_hook(lambda module, given, made: made + torch.randn_like(made))
    assert all(torch.equal(a, b) for a, b in zip(apart.refine(maps)[:2], before[:2], strict=True))
    hook.remove()
    assert {source.origin for source in apart.sources(1)} == {"encoder"}


def test_the_feed_forward_ratio_is_free():
    narrow, usual = (UMixFormerHead(CHANNELS, 3, width=8, ffn_ratio=ratio) for ratio in (1, 4))
    count = [sum(parameter.numel() for parameter in each.parameters()) for each in (narrow, usual)]
    assert count[1] - count[0] == sum(3 * (2 * c**2 + 11 * c) for c in CHANNELS)  # fc1, fc2, depthwise, two biases
    assert narrow(pyramid(dtype=torch.float32)).shape == (1, 3, 8, 12)


def test_queries_come_from_the_encoder():
    decoder, maps, seen = head(), pyramid(), {}
    for level, block in enumerate(decoder.blocks, start=1):
        block.register_forward_pre_hook(lambda module, given, level=level: seen.update({level: given[0]}))
    decoder(maps)
    assert all(seen[level] is maps[level - 1] for level in (1, 2, 3))


def test_without_answers_a_block_normalises_twice():
    block = noisy(QueryBlock(4, 6, 2))
    for layer in (block.attention.project, block.ffn.shrink):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x, y = torch.randn(2, 4, 3, 4, dtype=torch.float64), torch.randn(2, 6, 2, 2, dtype=torch.float64)
    expected = block.norm_sum(block.norm_query(x.flatten(2).mT)).mT.reshape(x.shape)
    torch.testing.assert_close(block(x, y), expected)


def test_the_order_of_keys_is_nothing_and_that_of_queries_something():
    block = noisy(QueryBlock(4, 6, 2))
    x, y = torch.randn(1, 4, 3, 4, dtype=torch.float64), torch.randn(1, 6, 2, 3, dtype=torch.float64)
    order = torch.randperm(6)
    torch.testing.assert_close(block(x, y.flatten(2)[:, :, order].reshape(y.shape)), block(x, y))
    order = torch.arange(12).flip(0).roll(1)
    moved = block(x.flatten(2)[:, :, order].reshape(x.shape), y)
    assert not torch.allclose(moved.flatten(2), block(x, y).flatten(2)[:, :, order])


def test_the_mix_does_not_see_a_pattern_that_pooling_averages_away():
    mixer, maps = noisy(KeyValueMixer((4, 6, 8, 10), (8, 4, 2, 1))), pyramid(size=(16, 24), channels=(4, 6, 8, 10))
    tile = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    pattern = (tile - tile.mean(dim=(2, 3), keepdim=True)).repeat(1, 1, 2, 3)
    torch.testing.assert_close(mixer([maps[0] + pattern, *maps[1:]]), mixer(maps))


def test_any_pixel_reaches_every_logit():
    decoder, maps = head(), [each.requires_grad_() for each in pyramid()]
    decoder(maps)[0, :, 7, 11].sum().backward()
    assert all((each.grad.abs().sum(1) > 0).all() for each in maps)


def test_evaluation_is_deterministic_and_training_drops():
    decoder, maps = UMixFormerHead(CHANNELS, 3, width=8), pyramid(4, dtype=torch.float32)
    torch.manual_seed(0)
    first = decoder(maps)
    assert not torch.equal(first, decoder(maps))
    decoder.eval()
    assert torch.equal(decoder(maps), decoder(maps))
    assert all(not module.training for module in decoder.modules())


@pytest.mark.parametrize("query_pool", [None, 2])
def test_dead_weights_are_absent_unless_asked_for_and_get_no_gradient(query_pool):
    live = UMixFormerHead(CHANNELS, 3, width=8, query_pool=query_pool)
    whole = UMixFormerHead(CHANNELS, 3, width=8, query_pool=query_pool, count_dead=True)
    mixed = sum(CHANNELS)
    dead = 3 * (mixed**2 + mixed + (2 * mixed if query_pool is None else 0)) + 256 * 3 + 3
    count = [sum(parameter.numel() for parameter in each.parameters()) for each in (live, whole)]
    assert count[1] - count[0] == dead
    for decoder, expected in ((live, 0), (whole, dead)):
        decoder(pyramid(2, dtype=torch.float32)).sum().backward()
        assert dead_parameters(decoder) == expected
    assert all("dead" in name for name, parameter in whole.named_parameters() if parameter.grad is None)


@pytest.mark.parametrize(
    "options", [{}, {"propagation": False}, {"mixing": "near"}, {"mixing": "none"}, {"query_pool": 2}]
)
def test_a_look_tells_what_is_taken_from_where(options):
    decoder, maps = head(**options), pyramid(2)
    looks = decoder.look(maps)
    assert [look.level for look in looks] == [3, 2, 1]
    for look in looks:
        ones = torch.ones((), dtype=torch.float64)
        torch.testing.assert_close(look.weights.sum(-1), ones.expand(look.weights.shape[:-1]))
        torch.testing.assert_close(look.shares.sum((1, 3)), ones.expand(2, look.shares.shape[2]))
        queries, keys = (rows * columns for rows, columns in (look.query_size, look.key_size))
        assert look.weights.shape == (2, (1, 2, 4)[look.level - 1], queries, keys)
        assert look.shares.shape == (2, len(look.sources), queries, keys)
        assert look.by_source().shape == (2, len(look.sources), queries)
        assert look.sources == decoder.sources(look.level)
        covered = [place for source in look.sources for place in range(source.channels.start, source.channels.stop)]
        assert covered == list(range(decoder.blocks[look.level - 1].memory_width))


def test_a_level_without_weight_in_the_values_gets_no_share():
    decoder, maps = head(), pyramid()
    block, sources = decoder.blocks[0], decoder.sources(1)
    with torch.no_grad():
        block.attention.key_value.weight[block.width :, sources[1].channels] = 0
    look = decoder.look(maps)[-1]
    assert look.by_source()[:, 1].abs().max() == 0
    assert look.by_source()[:, 0].min() > 0


def test_parts_of_the_values_add_up_to_the_values():
    decoder, maps = head(), pyramid()
    block, memory = decoder.blocks[2], decoder.mix(3, maps, {})
    value = block.attention.heads_of(
        block.asking(maps[2], block.norm_query(maps[2].flatten(2).mT)), block.asked(memory)
    )[2]
    whole = looking.value_lengths(block, memory, (mixing.Source(3, "encoder", slice(0, block.memory_width)),))
    torch.testing.assert_close(whole[:, 0], value.norm(dim=-1))


def test_export_and_autocast():
    decoder, maps = UMixFormerHead(CHANNELS, 3, width=8).eval(), pyramid(dtype=torch.float32)
    exported = torch.export.export(decoder, (maps,)).module()
    torch.testing.assert_close(exported(maps), decoder(maps))
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder(maps).isfinite().all()


def test_surgery_cuts_around_attention():
    encoder = encoders.MiT((4, 6), (1, 1), (1, 2), (2, 1))
    network = Segmenter(encoder, UMixFormerHead(encoder.channels, 3, width=8))
    graph = surgery.channel_graph(network.eval(), (3, 32, 32))
    assert graph.groups
    assert any("attention" in reason for reason in graph.fixed.values())
    surgery.prune(network, surgery.make_plan(graph, surgery.criteria.l1(), keep=0.5))  # compared with the mask


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head()([*pyramid()[:2], torch.zeros(1, 8, 3, 3).double()]), r"one grid .* \(8, 12\) / 4 -> \(2, 3\)"),
        (lambda: head()(pyramid()[:2]), "maps must be a list of 3 maps"),
        (lambda: UMixFormerHead(CHANNELS, 3, mixing="some"), "mixing must be one of all, near, none"),
        (lambda: UMixFormerHead(CHANNELS, 3, propagation="yes"), "propagation must be True or False"),
        (lambda: UMixFormerHead(CHANNELS, 3, query_pool=0), "query_pool must be at least 1, got 0"),
        (lambda: UMixFormerHead(CHANNELS, 3, drop_path=1.0), r"drop_path must be in \[0, 1\), got 1.0"),
        (lambda: UMixFormerHead(CHANNELS, 3, ratios=(4, 2)), "ratios must have one number for each of the 3 levels"),
        (lambda: KeyValueMixer((4, 6), (2,)), "ratios must have one number for each of the 2 maps"),
        (lambda: mixing.source_levels(4, 3), "level must be at most levels=3, got 4"),
        (lambda: head().sources(4), "level must be at most 3, got 4"),
        (lambda: looking.look_at(head().blocks[0], *pyramid()[:2], 1, head().sources(1)), r"memory must be \(B, 18, H"),
        (lambda: looking.look_at(head().blocks[0], *pyramid()[:2], 1, ()), "must cover the memory's 18 channels"),
        (lambda: looking.value_lengths(head(), pyramid()[0], ()), "block must be of class QueryBlock"),
        (lambda: head().mix(2, pyramid(), {3: torch.zeros(1, 8, 2)}), r"refined\[3\] must be \(B, 8, H, W\)"),
        (lambda: head()([each.float() for each in pyramid()]), r"maps\[0\] must be torch.float64 on cpu"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
