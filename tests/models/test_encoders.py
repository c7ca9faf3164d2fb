"""Encoders: counts of the specification, shapes, oracles, and weights under other people's names."""

import re

import numpy as np
import pytest
import torch
from compactvision import measure
from compactvision.models import encoders
from compactvision.models.encoders import published
from compactvision.models.encoders.lvt import ConvolutionalSelfAttention, RecursiveAtrousAttention
from compactvision.models.encoders.mscan import MSCANLayer, StripAttention
from safetensors.torch import save_file
from torch import nn

from oracles import attention as oracle

STAGES = {
    "mit_b0": (164_096, 255_296, 930_080, 1_969_920),
    "mit_b1": (639_488, 1_006_208, 3_682_880, 7_822_848),
    "mit_b2": (954_368, 1_938_048, 10_308_160, 10_995_712),
    "lvt": (179_396, 345_536, 931_680, 1_972_480),
    "mscan_t": (83_584, 292_160, 1_632_160, 1_895_680),
    "mscan_s": (201_984, 750_208, 5_085_760, 7_412_224),
    "mscan_b": (293_120, 1_088_128, 14_516_800, 10_379_776),
}
MACS = {
    "mit_b0": 3_203_661_824,
    "mit_b1": 10_433_855_488,
    "mit_b2": 20_235_419_648,
    "mit_b3": 36_860_592_128,
    "mit_b4": 53_465_055_232,
    "mit_b5": 69_407_866_880,
    "lvt": 5_315_100_672,
    "mscan_t": 4_636_508_160,
    "mscan_s": 13_375_111_168,
    "mscan_b": 26_548_764_672,
}
SMALL = {
    "mit": lambda: encoders.MiT((4, 6, 8), (1, 2, 1), (1, 2, 4), (4, 2, 1), ratio=2),
    "lvt": lambda: encoders.LVT((4, 6, 8), (1, 2, 1), (1, 2, 4), (2, 2, 2), (4, 2, 1)),
    "mscan": lambda: encoders.MSCAN((4, 6, 8), (1, 2, 1), (2, 2, 2)),
}


@pytest.mark.parametrize("name", MACS)
def test_counts_are_those_of_the_specification_and_the_docstring(name):
    with torch.device("meta"):
        encoder = getattr(encoders, name)()
    parameters, macs = measure.parameters(encoder), measure.macs(encoder, (3, 512, 512))
    assert macs == MACS[name]
    if name in STAGES:
        assert tuple(map(measure.parameters, encoder.stages)) == STAGES[name]
    stated = re.findall(r"([\d,]+) (?:parameters|MACs)", getattr(encoders, name).__doc__)
    assert [int(number.replace(",", "")) for number in stated] == [parameters, macs]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (50, 37)])
def test_four_maps_at_their_strides(name, size):
    encoder = SMALL[name]().eval()
    maps = encoder(torch.randn(2, 3, *size))
    for place, (each, width) in enumerate(zip(maps, encoder.channels, strict=True)):
        stride = 4 * 2**place
        assert each.shape == (2, width, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_gets_a_gradient_and_evaluation_is_deterministic(name):
    encoder = SMALL[name]()
    x = torch.randn(2, 3, 64, 64)
    sum(each.square().mean() for each in encoder(x)).backward()
    assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []
    encoder.eval()
    assert all(torch.equal(a, b) for a, b in zip(encoder(x), encoder(x), strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_the_generator_decides_the_weights(name):
    a, b = (type(SMALL[name]())(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_export_and_autocast(name):
    encoder, x = SMALL[name]().eval(), torch.randn(1, 3, 64, 64)
    exported = torch.export.export(encoder, (x,)).module()
    for ours, theirs in zip(encoder(x), exported(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(each.isfinite().all() for each in encoder(x))


def test_eps_and_drop_path_are_those_of_the_specification():
    encoder = encoders.mit_b0()
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    rates = [getattr(layer.drop, "p", 0) for stage in encoder.stages for layer in stage.layers]
    assert rates == pytest.approx([0.1 * place / 7 for place in range(8)])
    others = [module for module in encoders.lvt().modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in others} == {1e-5}
    assert torch.equal(encoders.mscan_t().stages[0].layers[0].scale1, torch.full((32, 1, 1), 0.01))


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_convolutional_self_attention_equals_windows_written_out(size):
    layer = ConvolutionalSelfAttention(4, 2).double()
    x = torch.randn(2, size[0] * size[1], 4, dtype=torch.float64)
    for found, tokens in zip(layer(x, size), x, strict=True):
        expected = torch.from_numpy(oracle.convolutional_self_attention(layer, oracle.array(tokens), size))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_recursive_attention_runs_twice_with_the_same_weights():
    layer = RecursiveAtrousAttention(6, 2, 1).double()
    x = torch.randn(1, 12, 6, dtype=torch.float64)
    silu = nn.functional.silu
    query = torch.zeros(6, 3, 4, dtype=torch.float64)
    for far in (1, 3, 5):
        maps = layer.query(x).mT.reshape(1, 6, 3, 4)
        query += silu(nn.functional.conv2d(maps, layer.atrous.weight, None, 1, far, far, 6)[0])
    key, value = layer.key_value(x)[0].chunk(2, 1)
    rows = oracle.tokens(oracle.array(query))
    parts = [slice(0, 3), slice(3, 6)]
    found = [oracle.attend(rows[:, p], oracle.array(key)[:, p], oracle.array(value)[:, p], 3**-0.5) for p in parts]
    once = torch.from_numpy(oracle.linear(np.concatenate(found, axis=1), layer.project))
    torch.testing.assert_close(layer.once(x, (3, 4))[0], once, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer(x, (3, 4)), silu(layer.once(silu(layer.once(x, (3, 4))) + x, (3, 4))))


def test_strips_are_the_sum_of_their_pairs():
    layer, x = StripAttention(3).eval(), torch.randn(1, 3, 9, 8)
    inside = nn.functional.gelu(layer.before(x))
    around = layer.square(inside)
    gate = around + sum(vertical(horizontal(around)) for horizontal, vertical in layer.strips)
    torch.testing.assert_close(layer(x), x + layer.behind(layer.mix(gate) * inside))
    assert [tuple(strip[0].kernel_size) for strip in layer.strips] == [(1, 7), (1, 11), (1, 21)]
    block = MSCANLayer(3, 2).eval()
    nn.init.zeros_(block.scale1)
    nn.init.zeros_(block.scale2)
    assert torch.equal(block(x), x)


def foreign(encoder, style):
    """The encoder's weights under the names of others, which this test spells out by itself."""
    state = {}
    names = {
        "SegFormer": ("patch_embed{1}.proj", "patch_embed{1}.norm", "norm{1}", "block{1}.{2}."),
        "MMSegmentation": ("layers.{0}.0.projection", "layers.{0}.0.norm", "layers.{0}.2", "layers.{0}.1.{2}."),
        "transformers 4": (
            "encoder.patch_embeddings.{0}.proj", "encoder.patch_embeddings.{0}.layer_norm",
            "encoder.layer_norm.{0}", "encoder.block.{0}.{2}.",
        ),
        "transformers 5": (
            "stages.{0}.patch_embeddings.proj", "stages.{0}.patch_embeddings.layer_norm",
            "stages.{0}.layer_norm", "stages.{0}.blocks.{2}.",
        ),
    }[style]  # fmt: skip
    sub = {
        "SegFormer": ("norm1", "norm2", "attn.q", "attn.kv", "attn.proj", "attn.sr", "attn.norm", "mlp.fc1",
                      "mlp.dwconv.dwconv", "mlp.fc2"),
        "MMSegmentation": ("norm1", "norm2", "", "", "attn.attn.out_proj", "attn.sr", "attn.norm", "ffn.layers.0",
                           "ffn.layers.1", "ffn.layers.4"),
        "transformers 4": ("layer_norm_1", "layer_norm_2", "attention.self.query", "", "attention.output.dense",
                           "attention.self.sr", "attention.self.layer_norm", "mlp.dense1", "mlp.dwconv.dwconv",
                           "mlp.dense2"),
        "transformers 5": ("layernorm_before", "layernorm_after", "attention.q_proj", "", "attention.o_proj",
                           "attention.sequence_reduction.sequence_reduction", "attention.sequence_reduction.layer_norm",
                           "mlp.fc1", "mlp.dwconv.dwconv", "mlp.fc2"),
    }[style]  # fmt: skip

    def put(name, module):
        state[f"{name}.weight"], state[f"{name}.bias"] = module.weight.detach(), module.bias.detach()

    for i, stage in enumerate(encoder.stages):
        for name, module in zip(names, (stage.embed, stage.norm1, stage.norm2), strict=False):
            put(name.format(i, i + 1), module)
        for j, layer in enumerate(stage.layers):
            before, asks, inner = names[3].format(i, i + 1, j), layer.attention, layer.attention.attention
            put(before + sub[0], layer.norm1)
            put(before + sub[1], layer.norm2)
            put(before + sub[4], inner.project)
            if asks.reduction > 1:
                put(before + sub[5], asks.reduce)
                put(before + sub[6], asks.norm)
            for name, module in zip(sub[7:], (layer.ffn.expand, layer.ffn.mix, layer.ffn.shrink), strict=True):
                put(before + name, module)
            for kind in ("weight", "bias"):
                q, kv = getattr(inner.query, kind).detach(), getattr(inner.key_value, kind).detach()
                key, value = kv.chunk(2)
                if style == "SegFormer":
                    state |= {f"{before}attn.q.{kind}": q, f"{before}attn.kv.{kind}": kv}
                elif style == "MMSegmentation":
                    state[f"{before}attn.attn.in_proj_{kind}"] = torch.cat([q, key, value])
                    for place in (0, 4):
                        if kind == "weight":
                            state[f"{before}ffn.layers.{place}.weight"] = state[f"{before}ffn.layers.{place}.weight"][
                                :, :, None, None
                            ]
                else:
                    q_name = sub[2]
                    k_name = q_name.replace("query", "key").replace("q_proj", "k_proj")
                    v_name = q_name.replace("query", "value").replace("q_proj", "v_proj")
                    state |= {f"{before}{q_name}.{kind}": q, f"{before}{k_name}.{kind}": key}
                    state[f"{before}{v_name}.{kind}"] = value
    return state


@pytest.mark.parametrize("style", ["SegFormer", "MMSegmentation", "transformers 4", "transformers 5"])
def test_weights_under_others_names_give_the_same_maps(style, tmp_path):
    there = encoders.MiT((4, 6), (1, 2), (1, 2), (2, 1)).eval()
    for parameter in there.parameters():
        nn.init.normal_(parameter)
    state, x = foreign(there, style), torch.randn(1, 3, 32, 32)
    expected = there(x)
    around = {f"backbone.{name}": tensor for name, tensor in state.items()} | {
        "decode_head.linear.weight": torch.ones(2)
    }
    torch.save({"state_dict": around, "meta": {"epoch": 3}}, tmp_path / "weights.pth")
    save_file({f"module.{name}": tensor.contiguous() for name, tensor in state.items()}, tmp_path / "a.safetensors")
    for weights in (state, around, tmp_path / "weights.pth", str(tmp_path / "a.safetensors")):
        here = encoders.MiT((4, 6), (1, 2), (1, 2), (2, 1)).eval()
        assert encoders.load_published_(here, weights) == style
        assert all(torch.equal(a, b) for a, b in zip(here(x), expected, strict=True))


def test_weights_that_do_not_fit_are_told_and_change_nothing():
    here = encoders.MiT((4, 6), (1, 2), (1, 2), (2, 1))
    before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    state = foreign(encoders.MiT((4, 6), (1, 2), (1, 2), (2, 1)), "SegFormer")
    part = {name: tensor for name, tensor in state.items() if "norm2.0" not in name and name != "norm2.weight"}
    cases = [
        ({}, "weights must have the names of one of SegFormer, MMSegmentation"),
        ({"conv1.weight": torch.ones(3)}, "got 'conv1.weight'"),
        (part, "weights lack 1 tensors of the encoder, such as 'stages.1.norm2.weight'"),
        (
            state | {"block1.0.attn.rel": torch.ones(2)},
            "weights have 1 tensors that the encoder has not, such as 'block1.0",
        ),
        (foreign(encoders.MiT((4, 8), (1, 2), (1, 2), (2, 1)), "SegFormer"), "they are of another encoder"),
        ({"patch_embed1.proj.weight": "no"}, r"weights\['patch_embed1.proj.weight'\] must be"),
        ("no such file", "weights must be a state dict or a file, got 'no such file'"),
        (3, "weights must be a mapping"),
    ]
    for weights, message in cases:
        with pytest.raises(ValueError, match=message):
            encoders.load_published_(here, weights)
    with pytest.raises(ValueError, match="encoder must be of class MiT"):
        encoders.load_published_(encoders.MSCAN(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in here.state_dict().items())
    assert set(published._STAGE) == set(published._LAYER)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encoders.MiT((4, 6), (1,), (1, 2), (2, 1)), "depths must have one number for each of the 2 widths"),
        (lambda: encoders.MiT((4, 6), (1, 1), (1, 4), (2, 1)), "heads must divide the width 6, got 4"),
        (lambda: encoders.MiT(drop_path=1.5), r"drop_path must be in \[0, 1\), got 1.5"),
        (lambda: encoders.MSCAN((5, 6), (1, 1), (2, 2)), r"widths\[0\] must be even, got 5"),
        (lambda: encoders.LVT((4, 6), (1, 0), (1, 2), (2, 2), (1, 1)), r"depths\[1\] must be at least 1, got 0"),
        (lambda: encoders.mit_b0()(torch.zeros(1, 1, 64, 64)), r"x must be images \(B, 3, H, W\)"),
        (lambda: encoders.mit_b0()(torch.zeros(1, 3, 16, 64)), "at least the reduction 8 on either side"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
