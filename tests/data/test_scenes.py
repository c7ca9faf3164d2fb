"""Scenes: the same bytes everywhere, and labels, masks, boxes and concepts that describe what was drawn."""

import hashlib

import numpy as np
import pytest
import torch
from compactvision.data.catalogue import describe, load
from compactvision.data.scene_drawing import DIFFICULTIES
from compactvision.data.scenes import BACKGROUNDS, COLOURS, FILLS, MEAN, SHAPES, STD, load_scenes, scenes
from hypothesis import given, settings
from hypothesis import strategies as st


def _bytes(drawn):
    parts = (drawn.images, drawn.instances, drawn.boxes, drawn.shape, drawn.fill, drawn.colour, drawn.background)
    return hashlib.sha256(b"".join(part.numpy().astype("<i8").tobytes() for part in parts)).hexdigest()


def test_bytes_are_pinned():
    assert _bytes(scenes(300)) == "7787d56f177f751729a15912fd808af8f1ac5acd7011602c94cae6a95db80325"
    options = {"train": False, "difficulty": "hard", "objects": (2, 4), "distinct": True, "size": 48, "seed": 7}
    assert _bytes(scenes(40, **options)) == "4f709d6f21ef026a3a65e98a6d78d038f2b5e8ee8ebd701d4b97e965e485f10a"


def test_a_shorter_set_is_the_beginning_of_a_longer_one():
    short, long = scenes(70, seed=3), scenes(300, seed=3)
    assert torch.equal(short.images, long.images[:70])
    assert torch.equal(short.boxes, long.boxes[:70])


def test_seed_and_part_give_other_images():
    first, seed, part = scenes(8), scenes(8, seed=1), scenes(8, train=False)
    assert not torch.equal(first.images, seed.images)
    assert not torch.equal(first.images, part.images)
    assert (first.name, part.name) == ("scenes/train", "scenes/test")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    difficulty=st.sampled_from(sorted(DIFFICULTIES)),
    objects=st.sampled_from([(1, 1), (1, 3), (2, 4), (4, 4)]),
    size=st.sampled_from([28, 32, 64]),
)
def test_annotations_agree_with_the_instances(seed, difficulty, objects, size):
    drawn = scenes(6, difficulty=difficulty, objects=objects, size=size, seed=seed)
    assert drawn.images.shape == (6, 3, size, size)
    assert ((drawn.counts >= objects[0]) & (drawn.counts <= objects[1])).all()
    segmentation, labels, classes = drawn.segmentation(), drawn.labels(), drawn.object_classes()
    masks, class_masks = drawn.object_masks(), drawn.class_masks()
    for i in range(6):
        instance = drawn.instances[i].numpy()
        assert set(np.unique(instance)) == set(range(int(drawn.counts[i]) + 1))  # every object is visible
        for m in range(objects[1]):
            rows, columns = np.nonzero(instance == m + 1)
            assert torch.equal(masks[i, m], torch.from_numpy(instance == m + 1))
            if m >= drawn.counts[i]:
                assert drawn.boxes[i, m].tolist() == [-1] * 4
                assert classes[i, m] == -1
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert drawn.boxes[i, m].tolist() == box
            assert (segmentation[i][masks[i, m]] == classes[i, m] + 1).all()
        shown = {int(c) for c in classes[i] if c >= 0}
        assert {int(c) for c in labels[i].nonzero()} == shown
        assert {int(c) for c in class_masks[i].flatten(1).any(1).nonzero()} == shown
    assert torch.equal(segmentation == 0, drawn.instances == 0)


def test_every_pixel_has_one_shape_fill_and_colour_or_one_background():
    drawn = scenes(50)
    names, masks = drawn.concepts()
    assert names == SHAPES + FILLS + COLOURS + BACKGROUNDS
    assert masks.shape == (50, len(names), 32, 32)
    background = masks[:, -len(BACKGROUNDS) :].sum(1)
    assert torch.equal(background.bool(), drawn.instances == 0)
    for part in masks.split([len(SHAPES), len(FILLS), len(COLOURS), len(BACKGROUNDS)], 1)[:3]:
        assert torch.equal(part.sum(1), 1 - background)


def test_combined_classes_count_like_digits():
    drawn = scenes(60, objects=(1, 1))
    by = ("shape", "fill")
    assert drawn.classes(by)[:5] == ("disc plain", "disc stripes", "disc checks", "disc dots", "ring plain")
    assert len(drawn.classes(by)) == 24
    assert torch.equal(drawn.object_classes(by), drawn.shape * 4 + drawn.fill)
    by = ("fill", "colour", "shape")
    numbers = drawn.object_classes(by)
    assert torch.equal(numbers, (drawn.fill * 5 + drawn.colour) * 6 + drawn.shape)
    first = f"{FILLS[drawn.fill[0, 0]]} {COLOURS[drawn.colour[0, 0]]} {SHAPES[drawn.shape[0, 0]]}"
    assert drawn.classes(by)[numbers[0, 0]] == first


def test_plain_easy_objects_have_their_colour():
    drawn = scenes(400, difficulty="easy", objects=(1, 1))
    palette = {"red": (225, 55, 50), "yellow": (235, 200, 45), "blue": (55, 95, 225)}
    for name, grey in palette.items():
        chosen = (drawn.colour[:, 0] == COLOURS.index(name)) & (drawn.fill[:, 0] == FILLS.index("plain"))
        inside = drawn.object_masks()[:, 0]
        eroded = inside & inside.roll(1, 1) & inside.roll(-1, 1) & inside.roll(1, 2) & inside.roll(-1, 2)
        pixels = drawn.images[chosen].permute(0, 2, 3, 1)[eroded[chosen]].float()
        assert pixels.mean(0).tolist() == pytest.approx(grey, abs=6)


def test_shapes_have_the_areas_of_their_geometry():
    drawn = scenes(1500, difficulty="easy", objects=(1, 1))
    area = drawn.object_masks()[:, 0].flatten(1).sum(1).double()
    mean = {name: float(area[drawn.shape[:, 0] == k].mean()) for k, name in enumerate(SHAPES)}
    square = (2 * 0.78) ** 2  # in units of radius squared
    expected = {
        "disc": np.pi * 0.92**2,
        "ring": np.pi * (1 - 0.48**2),
        "cross": 8 * 0.98 * 0.33 - 4 * 0.33**2,
        "triangle": 3 * np.sqrt(3) * 0.55**2,
    }
    for name, value in expected.items():
        assert mean[name] / mean["square"] == pytest.approx(value / square, rel=0.03)


def test_attributes_are_balanced():
    drawn = scenes(3000)
    present = drawn.shape >= 0
    for values, names in ((drawn.shape, SHAPES), (drawn.fill, FILLS), (drawn.colour, COLOURS)):
        share = values[present].bincount() / present.sum()
        assert share.tolist() == pytest.approx([1 / len(names)] * len(names), abs=0.02)
    assert (drawn.counts.bincount() / 3000).tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3], abs=0.03)


def test_distinct_shows_no_shape_twice():
    drawn = scenes(300, objects=(2, 4), distinct=True)
    assert torch.equal(drawn.labels().sum(1).long(), drawn.counts)
    assert not torch.equal(scenes(300, objects=(2, 4)).labels().sum(1).long(), drawn.counts)


def test_harder_means_closer_to_the_background():
    def contrast(difficulty):
        drawn = scenes(300, difficulty=difficulty, objects=(1, 1))
        images, mask = drawn.images.float(), drawn.object_masks()[:, 0, None]
        inside = (images * mask).sum((2, 3)) / mask.sum((2, 3))
        outside = (images * ~mask).sum((2, 3)) / (~mask).sum((2, 3))
        return float((inside - outside).abs().mean())

    assert contrast("easy") > 1.15 * contrast("medium") > 1.5 * contrast("hard")


def test_normalisation_constants_describe_the_default_set():
    pixels = scenes(1000, seed=5).images.double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(MEAN, abs=0.01)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(STD, abs=0.01)


def test_image_sets_feed_batches():
    drawn = scenes(20, objects=(1, 1))
    inputs, targets = next(iter(drawn.image_set().batches(5)))
    assert inputs.shape == (5, 3, 32, 32)
    assert torch.equal(targets, drawn.labels()[:5])
    assert torch.nn.functional.binary_cross_entropy_with_logits(torch.zeros(5, 6), targets).item() == pytest.approx(
        np.log(2)
    )
    assert torch.equal(drawn.image_set("class").targets, drawn.shape[:, 0])
    segmentation = drawn.image_set("segmentation", by="colour")
    assert segmentation.classes == ("background", *COLOURS)
    assert torch.equal(segmentation.targets, drawn.segmentation("colour"))
    same = load_scenes(n=20, objects=(1, 1), targets="class", by=("fill",))
    assert torch.equal(same.targets, drawn.fill[:, 0])


def test_subset_keeps_rows_together():
    drawn = scenes(30)
    chosen = drawn.subset(drawn.counts == 2)
    assert (chosen.counts == 2).all()
    assert torch.equal(chosen.images, drawn.images[drawn.counts == 2])
    assert torch.equal(chosen.segmentation(), drawn.segmentation()[drawn.counts == 2])
    assert torch.equal(drawn.subset([3, 1]).boxes, drawn.boxes[[3, 1]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"difficulty": "brutal"}, "difficulty"),
        ({"objects": (0, 2)}, "objects"),
        ({"objects": (3, 2)}, "objects"),
        ({"objects": (1, 5)}, "size 32"),
        ({"objects": (1, 7), "size": 64, "distinct": True}, "distinct shapes"),
        ({"size": 20}, "size 20"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        scenes(**{"n": 2, **options})


def test_bad_requests_are_named():
    drawn = scenes(5, objects=(2, 3))
    with pytest.raises(ValueError, match="exactly one object"):
        drawn.image_set("class")
    with pytest.raises(ValueError, match="targets must be"):
        drawn.image_set("masks")
    for by in ("size", (), ("shape", "shape")):
        with pytest.raises(ValueError, match="by must name"):
            drawn.labels(by)
    with pytest.raises(ValueError, match="non-empty"):
        drawn.subset([])


def test_catalogue_loads_scenes():
    loaded = load("scenes", train=False, n=12, targets="segmentation", difficulty="hard", seed=4)
    drawn = scenes(12, train=False, difficulty="hard", seed=4)
    assert torch.equal(loaded.images, drawn.images)
    assert torch.equal(loaded.targets, drawn.segmentation())
    assert loaded.name == "scenes/test"
    assert "difficulty=hard" in loaded.provenance
    assert describe("scenes").embedded
