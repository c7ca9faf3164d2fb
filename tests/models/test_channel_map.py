"""The option-A shortcut as an explicit channel map."""

import copy
import pickle

import pytest
import torch
from compactvision.models import ChannelMap, option_a_shortcut
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import option_a


@settings(max_examples=60, deadline=None)
@given(data=st.data(), in_channels=st.integers(1, 6), stride=st.integers(1, 3), size=st.integers(1, 7))
def test_any_map_equals_copying_channel_by_channel(data, in_channels, stride, size):
    source = data.draw(st.lists(st.integers(-1, in_channels - 1), min_size=1, max_size=9))
    x = torch.randn(2, in_channels, size, size + 1)
    assert torch.equal(ChannelMap(source, in_channels, stride)(x), option_a.channel_map(x, source, stride))


@pytest.mark.parametrize(("channels", "planes"), [(16, 32), (32, 64)])
def test_option_a_is_the_common_padding(channels, planes):
    x = torch.randn(2, channels, 8, 8)
    shortcut = option_a_shortcut(channels, planes, 2)
    assert shortcut.is_contiguous
    assert torch.equal(shortcut(x), option_a.padded(x, planes))


def test_odd_difference_puts_the_larger_half_behind():
    assert option_a_shortcut(2, 5, 1).source.tolist() == [-1, 0, 1, -1, -1]


@pytest.mark.parametrize(
    ("source", "fast"),
    [
        ([0, 1, 2], True),
        ([-1, 1, 2, -1], True),
        ([1], True),
        ([0, -1, 1], False),
        ([1, 0], False),
        ([0, 0], False),
        ([-1], False),
    ],
)
def test_fast_path_only_for_one_ascending_run(source, fast):
    assert ChannelMap(source, 3).is_contiguous is fast


def test_zero_channels_stay_zero_where_the_input_is_not_finite():
    x = torch.full((1, 2, 1, 1), float("inf"))
    assert ChannelMap([1, -1, 0], 2)(x).flatten().tolist() == [float("inf"), 0.0, float("inf")]


def test_gradient_returns_to_the_copied_channels_only():
    x = torch.randn(1, 3, 2, 2, requires_grad=True)
    ChannelMap([2, -1, 2], 3, stride=2)(x).sum().backward()
    assert x.grad.sum(dim=(0, 2, 3)).tolist() == [0.0, 0.0, 2.0]
    assert x.grad[0, 2].tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_loading_and_copying_carry_the_map_and_its_path():
    scattered, plain = ChannelMap([1, -1, 0], 2), ChannelMap([-1, 0, 1], 2)
    x = torch.randn(1, 2, 4, 4)
    plain.load_state_dict(scattered.state_dict())
    assert torch.equal(plain(x), scattered(x))
    for twin in (copy.deepcopy(scattered), pickle.loads(pickle.dumps(scattered))):
        assert torch.equal(twin(x), scattered(x))


def test_set_source_replaces_the_map():
    shortcut = option_a_shortcut(2, 4, 2)
    shortcut.set_source([2, -1], 3)
    x = torch.randn(1, 3, 4, 4)
    assert shortcut.out_channels == 2
    assert torch.equal(shortcut(x), option_a.channel_map(x, [2, -1], 2))


def test_export_keeps_the_values():
    both = torch.nn.Sequential(ChannelMap([-1, 0, 1, -1], 2, 2), ChannelMap([1, -1, 2], 4))  # fast path, general path
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(torch.export.export(both, (x,)).module()(x), both(x))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"source holds 2.*in_channels=2"):
        ChannelMap([0, 2], 2)
    with pytest.raises(ValueError, match="source holds -2"):
        ChannelMap([-2], 2)
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        ChannelMap([0], 1, 0)
    with pytest.raises(ValueError, match="out_channels=1 is below in_channels=2"):
        option_a_shortcut(2, 1, 1)
    with pytest.raises(ValueError, match=r"x must have the 2 channels .* \(1, 3, 1, 1\)"):
        ChannelMap([0, 1], 2)(torch.zeros(1, 3, 1, 1))
