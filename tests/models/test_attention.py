"""Attention and what stands around it, against slow oracles and its invariants."""

import pytest
import torch
import torch.nn.functional as F
from compactvision.models import attention as A
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import attention as oracle


def noisy(module, seed=0):
    """Parameters with numbers of ordinary size, in float64."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.eval()


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(found, expected):
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(
    heads=st.integers(1, 3),
    depth=st.integers(1, 3),
    memory=st.integers(1, 4),
    counts=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    bias=st.booleans(),
)
def test_cross_attention_equals_the_oracle(heads, depth, memory, counts, bias):
    layer = noisy(A.CrossAttention(heads * depth, memory, heads, bias=bias))
    x, y = normal(1, counts[0], heads * depth), normal(1, counts[1], memory)
    same(layer(x, y)[0], oracle.cross_attention(layer, oracle.array(x[0]), oracle.array(y[0])))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_fused_attention_is_the_explicit_softmax(dtype, tolerance):
    layer = A.CrossAttention(12, 8, 3).to(dtype)
    x, y = normal(2, 20, 12).to(dtype), normal(2, 7, 8).to(dtype)
    weights = layer.weights(x, y)
    value = layer.heads_of(x, y)[2]
    explicit = layer.project(A.merge_heads(weights @ value))
    assert (layer(x, y) - explicit).abs().max() <= tolerance
    assert (weights.sum(-1) - 1).abs().max() <= 1e-6
    assert weights.shape == (2, 3, 20, 7)


def test_heads_and_maps_come_back():
    maps = normal(2, 6, 3, 4)
    tokens = A.to_tokens(maps)
    assert torch.equal(tokens[1, 5], maps[1, :, 1, 1])
    assert torch.equal(A.to_maps(tokens, (3, 4)), maps)
    heads = A.split_heads(tokens, 3)
    assert torch.equal(heads[0, 2, 5], tokens[0, 5, 4:])
    assert torch.equal(A.merge_heads(heads), tokens)


def test_the_feed_forward_layer_equals_the_oracle():
    layer, x = noisy(A.MixFFN(3, 2)), normal(1, 20, 3)
    same(layer(x, (4, 5))[0], oracle.ffn(layer, oracle.array(x[0]), (4, 5)))


def test_reduced_keys_are_those_of_the_coarser_map():
    layer, x = noisy(A.SpatialReductionAttention(6, 2, 2)), normal(1, 35, 6)
    memory = layer.norm(A.to_tokens(layer.reduce(A.to_maps(x, (5, 7)))))
    assert memory.shape == (1, 6, 6)
    same(layer(x, (5, 7))[0], oracle.cross_attention(layer.attention, oracle.array(x[0]), oracle.array(memory[0])))
    whole = noisy(A.SpatialReductionAttention(6, 2, 1))
    same(whole(x, (5, 7))[0], oracle.cross_attention(whole.attention, oracle.array(x[0]), oracle.array(x[0])))


def test_a_branch_is_left_out_in_training_alone():
    torch.manual_seed(0)
    layer, x = A.drop_path(0.4), torch.ones(1000, 2, 2)
    kept = layer(x)[:, 0, 0]
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert 0.5 < (kept > 0).double().mean() < 0.7
    assert torch.equal(layer.eval()(x), x)
    assert isinstance(A.drop_path(0), nn.Identity)


def test_initial_weights_are_those_of_the_specification():
    network = nn.ModuleList([nn.Linear(400, 300), nn.Conv2d(64, 96, 3, groups=4), nn.LayerNorm(5), nn.BatchNorm2d(4)])
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7)
    A.initialise_attention_(network, torch.Generator().manual_seed(0))
    linear, conv, *norms = network
    assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * 96 / 4)) ** 0.5, rel=0.03)
    assert all(float(module.bias.detach().abs().max()) == 0 for module in network)
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms)
    again = nn.ModuleList([nn.Linear(400, 300)])
    A.initialise_attention_(again, torch.Generator().manual_seed(0))
    assert torch.equal(again[0].weight, linear.weight)


def test_autocast_and_gradients():
    layer, ffn = A.CrossAttention(8, 6, 2), A.MixFFN(8)
    x, y = torch.randn(2, 9, 8), torch.randn(2, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = ffn(layer(x, y), (3, 3))
    assert found.dtype == torch.bfloat16
    F.mse_loss(found.float(), torch.ones(2, 9, 8)).backward()
    held = [*layer.parameters(), *ffn.parameters()]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in held)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: A.CrossAttention(8, 6, 3), "heads must divide the width 8, got 3"),
        (lambda: A.CrossAttention(0, 6), "width must be at least 1, got 0"),
        (lambda: A.CrossAttention(8, 6)(torch.zeros(1, 3, 7), torch.zeros(1, 3, 6)), r"x must be tokens \(B, N, 8\)"),
        (lambda: A.CrossAttention(8, 6)(torch.zeros(1, 3, 8), torch.zeros(2, 3, 6)), "memory must have the 1 images"),
        (lambda: A.SpatialReductionAttention(8, 1, 4)(torch.zeros(1, 6, 8), (2, 3)), "at least the reduction 4"),
        (lambda: A.MixFFN(8)(torch.zeros(1, 6, 8), (2, 2)), "size must have the 6 places of tokens, got 2 x 2"),
        (lambda: A.to_tokens(torch.zeros(2, 3)), r"maps must be \(B, C, H, W\)"),
        (lambda: A.split_heads(torch.zeros(1, 2, 5), 2), "heads must divide the 5 channels"),
        (lambda: A.attention_weights(torch.zeros(2, 3), torch.zeros(2, 4)), r"key must be \(..., M, d\)"),
        (lambda: A.drop_path(1.0), r"rate must be in \[0, 1\), got 1.0"),
        (lambda: A.initialise_attention_(nn.Linear(2, 2), 3), "generator must be a torch.Generator"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
