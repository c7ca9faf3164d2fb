"""Random numbers and sort keys that are functions of what they belong to, not of when they are drawn.

A generator hands out numbers in the order of the calls, so its numbers change with the batch size or the place
where a run was resumed. Here every number is a hash of its coordinates (seed, epoch, sample): a counter-based
generator made of the SplitMix64 finaliser [1]_.

References
----------
.. [1] Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
"""

from __future__ import annotations

import hashlib

import numpy as np

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FACTOR_1 = 0xBF58476D1CE4E5B9
_FACTOR_2 = 0x94D049BB133111EB


def key(*words: int) -> int:
    """Hash a few integers (taken modulo 2**64, order matters) to one 64-bit key."""
    state = 0
    for word in words:
        state = (state + word + _GOLDEN) & _MASK
        state = ((state ^ (state >> 30)) * _FACTOR_1) & _MASK
        state = ((state ^ (state >> 27)) * _FACTOR_2) & _MASK
        state ^= state >> 31
    return state


def stream(base: int | np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Hash every counter under a key: ``stream(key(a, b), [c])[0] == key(a, b, c)``.

    Parameters
    ----------
    base : one key, or an array of keys (uint64) that broadcasts against ``counters``.
    counters : integers >= 0, any shape.

    Returns
    -------
    uint64 array of the broadcast shape; all 64 bits are uniform.
    """
    start = np.atleast_1d(np.asarray(base, dtype=np.uint64)) + np.uint64(_GOLDEN)
    state = start + np.asarray(counters, dtype=np.uint64)
    state ^= state >> np.uint64(30)
    state *= np.uint64(_FACTOR_1)
    state ^= state >> np.uint64(27)
    state *= np.uint64(_FACTOR_2)
    state ^= state >> np.uint64(31)
    return state


def uniform(bits: np.ndarray) -> np.ndarray:
    """Turn 64-bit hashes into float32 in [0, 1), multiples of 2**-24 (exact on every machine)."""
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def below(bits: np.ndarray, bound: int | np.ndarray) -> np.ndarray:
    """Turn 64-bit hashes into int64 in [0, bound), 1 <= bound < 2**32, from their upper 32 bits.

    ``bound`` is one number, or one for each hash.
    """
    return (((bits >> np.uint64(32)) * np.asarray(bound, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)


def permutation(base: int, n: int) -> np.ndarray:
    """Order 0..n-1 by their hashes under a key: int64, shape (n,)."""
    return np.argsort(stream(base, np.arange(n)), kind="stable")


def content_keys(rows: np.ndarray, seed: int) -> np.ndarray:
    """Hash each row's bytes together with a seed.

    Parameters
    ----------
    rows : (N, ...) array; only the bytes of a row decide its key, never its place.
    seed : integer; another seed gives unrelated keys.

    Returns
    -------
    uint64, shape (N,).
    """
    rows = np.ascontiguousarray(rows)
    salt = (seed & _MASK).to_bytes(8, "little")
    digests = b"".join(hashlib.blake2b(row, digest_size=8, key=salt).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
