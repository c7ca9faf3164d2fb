"""Window attention with ragged heads, against a slow oracle and torchvision."""

import pytest
import torch
from compactvision.models.windows import WindowAttention, pad_heads, unpad_heads
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from oracles import attention as oracle


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3),
    window=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    bias=st.booleans(),
)
def test_ragged_heads_equal_the_oracle(sizes, window, grid, bias):
    queries, values = zip(*sizes, strict=True)
    layer = WindowAttention(4, window, queries, values, scale=0.7, bias=bias).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    for found, image in zip(layer(x), x, strict=True):
        expected = torch.from_numpy(oracle.window_attention(layer, oracle.array(image)))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("grid", [(8, 12), (7, 9), (4, 10), (3, 3)])
def test_equal_heads_are_torchvisions_shifted_windows(shift, grid):
    theirs = ShiftedWindowAttention(12, [4, 4], [shift, shift], 3).double()
    nn.init.normal_(theirs.relative_position_bias_table)
    ours = WindowAttention(12, 4, (4, 4, 4), (4, 4, 4), shift=shift).double()
    with torch.no_grad():
        for place, part in enumerate((ours.query, ours.key, ours.value)):
            part.weight.copy_(theirs.qkv.weight[12 * place : 12 * (place + 1)])
            part.bias.copy_(theirs.qkv.bias[12 * place : 12 * (place + 1)])
        ours.project.load_state_dict(theirs.proj.state_dict())
        ours.position.copy_(theirs.relative_position_bias_table)
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_a_dimension_of_zeros_is_as_none():
    whole, cut = (WindowAttention(6, 2, sizes, sizes, scale=0.5).double() for sizes in ((3, 3), (2, 3)))
    kept = [0, 1, 3, 4, 5]
    with torch.no_grad():
        for a, b in ((whole.query, cut.query), (whole.key, cut.key), (whole.value, cut.value)):
            a.weight[2], a.bias[2] = 0, 0
            b.weight.copy_(a.weight[kept])
            b.bias.copy_(a.bias[kept])
        cut.project.weight.copy_(whole.project.weight[:, kept])
        cut.project.bias.copy_(whole.project.bias)
        cut.position.copy_(whole.position)
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(cut(x), whole(x))


def test_padding_comes_off():
    columns = torch.randn(2, 5, 9)
    assert torch.equal(unpad_heads(pad_heads(columns, (2, 4, 3)), (2, 4, 3)), columns)
    assert pad_heads(columns, (2, 4, 3))[0, 0, 0].tolist()[2:] == [0, 0]
    assert torch.equal(unpad_heads(pad_heads(columns, (3, 3, 3)), (3, 3, 3)), columns)


def test_the_scale_is_that_of_whole_heads_and_autocast_works():
    assert WindowAttention(16, 4, (1, 2), (1, 1)).scale == 8**-0.5
    layer = WindowAttention(8, 4, (4, 2), (4, 3), shift=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(torch.randn(1, 6, 9, 8))
    assert found.dtype == torch.bfloat16
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WindowAttention(8, 4, (2,), (2, 2)), "value_sizes must have 1 heads, got 2"),
        (lambda: WindowAttention(8, 4, (), ()), "query_sizes must be a sequence"),
        (lambda: WindowAttention(8, 4, (2,), (2,), shift=4), "shift must be from 0 to below the window 4, got 4"),
        (lambda: WindowAttention(8, 4, (2,), (2,))(torch.zeros(1, 4, 4, 7)), r"x must be \(B, H, W, 8\)"),
        (lambda: pad_heads(torch.zeros(1, 2, 3), (2, 2)), r"columns must be \(B, N, 4\)"),
        (lambda: unpad_heads(torch.zeros(1, 2, 3, 2), (3, 1)), r"heads must be \(B, 2, N, 3\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
