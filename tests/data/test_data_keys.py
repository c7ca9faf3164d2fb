"""The hashes behind orders, crops, splits and glyphs."""

import hashlib

import numpy as np
import pytest
from compactvision.data import keys

from oracles import windows


def test_first_numbers_of_the_published_generator():
    # SplitMix64 from state 0 (reference C code of Vigna): the first two outputs
    assert keys.key(0) == 0xE220A8397B1DCDAF
    assert int(keys.stream(0x9E3779B97F4A7C15, np.asarray([0]))[0]) == 0x6E789E6AA1B965F4


@pytest.mark.parametrize("words", [(0,), (1, 2, 3), (-1, 5), (2**64 - 1, 2**63), (7, 0, 0, 10**6)])
def test_key_is_the_plain_chain(words):
    assert keys.key(*words) == windows.chained(*words)


def test_stream_continues_a_key():
    base = keys.key(3, 4)
    drawn = keys.stream(base, np.asarray([[0, 1], [99, 2**40]]))
    assert drawn.dtype == np.uint64
    assert drawn.tolist() == [[keys.key(3, 4, 0), keys.key(3, 4, 1)], [keys.key(3, 4, 99), keys.key(3, 4, 2**40)]]


def test_uniform_and_below_at_their_ends():
    bits = np.asarray([0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert keys.uniform(bits).tolist() == [0.0, 0.5, 1 - 2**-24]
    assert keys.below(bits, 10).tolist() == [0, 5, 9]
    assert keys.below(bits, 1).tolist() == [0, 0, 0]


def test_below_is_even():
    counts = np.bincount(keys.below(keys.stream(keys.key(0), np.arange(90_000)), 9), minlength=9)
    assert counts.sum() == 90_000
    assert np.abs(counts - 10_000).max() < 400  # four standard deviations of a binomial: 377


def test_permutation_holds_every_number_once():
    order = keys.permutation(keys.key(1), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != list(range(1000))


def test_content_keys_depend_on_bytes_and_seed_only():
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = keys.content_keys(rows, seed=5)
    expected = hashlib.blake2b(bytes([4, 5, 6, 7]), digest_size=8, key=(5).to_bytes(8, "little")).digest()
    assert int(found[1]) == int.from_bytes(expected, "little")
    assert keys.content_keys(rows[::-1], seed=5).tolist() == found[::-1].tolist()
    assert set(keys.content_keys(rows, seed=6).tolist()).isdisjoint(found.tolist())
