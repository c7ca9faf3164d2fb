"""ImageSet: checks, subsets, splits keyed by content, digests."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from compactvision.data import ImageSet
from hypothesis import given, settings
from hypothesis import strategies as st


def make(n=60, classes=3, size=4, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    parts = {
        "images": torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator),
        "targets": torch.randint(0, classes, (n,), generator=generator),
        "classes": tuple("abcdefghij"[:classes]),
        "name": "made/train",
        "provenance": "made for a test",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    return ImageSet(**(parts | changes))


def rows(image_set):
    return [
        image.numpy().tobytes() + bytes([int(t)]) for image, t in zip(image_set.images, image_set.targets, strict=True)
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(60, 3, 4, 4)}, "images must be uint8 of shape .* not torch.float32"),
        ({"images": torch.zeros(60, 4, 4, dtype=torch.uint8)}, r"\(60, 4, 4\)"),
        ({"images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8)}, "images is empty"),
        ({"targets": torch.zeros(59, dtype=torch.int64)}, r"targets has shape \(59,\) for 60 images"),
        ({"targets": torch.tensor(1)}, r"targets has shape \(\)"),
        ({"targets": torch.full((60,), 3)}, "targets run from 3 to 3, but there are 3 classes"),
        ({"targets": torch.full((60,), -1)}, "targets run from -1"),
        ({"mean": (0.5,)}, "mean has 1 values for 3 channels"),
        ({"std": (0.5, 0.5)}, "std has 2 values"),
        ({"std": (0.5, 0.5, 0.0)}, "std must be positive"),
        ({"targets": torch.zeros(60, dtype=torch.int64, device="meta")}, "targets must be a dense tensor .* on meta"),
    ],
)
def test_bad_parts_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_sizes_and_words():
    made = make()
    assert (len(made), made.num_classes, made.labelled) == (60, 3, True)
    assert repr(made) == "ImageSet('made/train', 60 images 3x4x4, 3 classes, cpu)"
    with pytest.raises(TypeError, match=r"iterate over image_set\.batches"):
        iter(made)


def test_to_the_same_device_is_the_set_itself():
    made = make()
    assert made.to("cpu") is made


def test_subset_takes_numbers_in_their_order():
    made = make()
    part = made.subset([5, 0, -1, 5])
    assert part.name == "made/train[4]"
    assert torch.equal(part.images, made.images[[5, 0, 59, 5]])
    assert torch.equal(part.targets, made.targets[[5, 0, 59, 5]])
    assert torch.equal(made.subset(made.targets == 1).images, made.images[made.targets == 1])
    assert torch.equal(made.subset(np.arange(3)).targets, made.targets[:3])


@pytest.mark.parametrize(
    "indices", [[], [60], [-61], [0.5], [[0, 1]], torch.zeros(60, dtype=torch.bool), torch.ones(59, dtype=torch.bool)]
)
def test_subset_refuses(indices):
    with pytest.raises(ValueError, match="indices"):
        make().subset(indices)


def test_split_is_exact_disjoint_and_stratified():
    made = make(n=200, classes=3)
    first, second = made.split(0.3)
    assert (len(first), len(second)) == (60, 140)
    assert sorted(rows(first) + rows(second)) == sorted(rows(made))
    for label in range(3):
        share = 0.3 * int((made.targets == label).sum())
        assert abs(int((first.targets == label).sum()) - share) < 1


def test_split_by_hand():
    # 3 of class 0 and 7 of class 1, 40 %: quotas 1.2 and 2.8, so 1 and 2, and the fourth goes to the larger remainder
    made = make(n=10, classes=2, targets=torch.tensor([0] * 3 + [1] * 7))
    first, second = made.split(0.4)
    assert torch.bincount(first.targets).tolist() == [1, 3]
    assert torch.bincount(second.targets).tolist() == [2, 4]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.integers(0, 3))
def test_order_of_the_set_changes_neither_split_nor_take_nor_digest(shuffle, fraction, seed):
    made = make(n=50)
    mixed = made.subset(torch.randperm(50, generator=torch.Generator().manual_seed(shuffle)))
    for one, other in zip(made.split(fraction, seed), mixed.split(fraction, seed), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)
    assert torch.equal(made.take(20).images, mixed.take(20).images)
    assert made.digest() == mixed.digest()


def test_seeds_give_unrelated_splits():
    made = make(n=1000)
    kept = set(rows(made.split(0.5, seed=0)[0])) & set(rows(made.split(0.5, seed=1)[0]))
    assert 200 < len(kept) < 300  # 250 expected


def test_split_without_classes_is_exact():
    made = make(n=40, targets=torch.zeros(40, 3))
    first, second = made.split(0.25)
    assert (len(first), len(second), first.targets.shape) == (10, 30, (10, 3))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 0.001, 0.999])
def test_split_refuses(fraction):
    with pytest.raises(ValueError, match="fraction"):
        make().split(fraction)


def test_take_is_balanced_and_nested():
    made = make(n=300, classes=3)
    large, small = made.take(100), made.take(31)
    assert torch.equal(large.images[:31], small.images)
    counts = torch.bincount(small.targets)
    assert int(counts.max() - counts.min()) == 1
    assert sorted(rows(made.take(300))) == sorted(rows(made))


@pytest.mark.parametrize("n", [0, -1, 61])
def test_take_refuses(n):
    with pytest.raises(ValueError, match=r"n must lie in \[1, 60\]"):
        make().take(n)


def test_digest_tells_apart():
    made = make()
    assert len(made.digest()) == 64
    pixel = made.images.clone()
    pixel[7, 0, 0, 0] ^= 1
    label = made.targets.clone()
    label[7] = (label[7] + 1) % 3
    others = [
        replace(made, images=pixel),
        replace(made, targets=label),
        replace(made, classes=("a", "b", "x")),
        make(targets=torch.nn.functional.one_hot(made.targets).float()),
        make(targets=torch.nn.functional.one_hot(made.targets)),
        made.subset(range(59)),
    ]
    assert len({made.digest(), *(other.digest() for other in others)}) == 7
    assert replace(made, name="x", provenance="y").digest() == made.digest()
