"""Boxes move with their pixels, are clipped and dropped; what cannot move them says so."""

import dataclasses
import hashlib
import math

import pytest
import torch
from compactvision import data
from compactvision.data import ImageSet, boxes
from compactvision.data.batches import crop_and_flip
from compactvision.data.objects import objects
from compactvision.data.scenes import scenes


def image_set(targets, size=16, **options):
    images = torch.zeros(len(targets), 3, size, size, dtype=torch.uint8)
    options = {"boxes": True, **options}
    return ImageSet(images, targets, ("a", "b"), "few", "by hand", (0.5,) * 3, (0.25,) * 3, **options)


def test_padding_and_back():
    rows = [torch.tensor([[0.0, 0, 4, 2, 1], [1, 1, 3, 5, 0]]), torch.zeros(0, 5), torch.tensor([[2.0, 2, 9, 9, 1]])]
    targets = boxes.padded(rows)
    assert targets.shape == (3, 2, 5)
    assert (targets[1] == -1).all()
    for back, row in zip(boxes.ragged(targets), rows, strict=True):
        assert torch.equal(back, row)
    assert boxes.padded([torch.zeros(0, 5)]).tolist() == [[[-1.0] * 5]]
    assert torch.equal(boxes.padded([row[:, :4] for row in rows], [row[:, 4].long() for row in rows]), targets)


@pytest.mark.parametrize(("crop", "flip"), [(0, True), (5, False), (5, True)])
def test_boxes_move_as_the_pixels_inside_them(crop, flip):
    """A box filled with ones is, after crop and flip, the box around the ones."""
    drawn = scenes(60, size=32, objects=(1, 1), difficulty="hard")
    found = drawn.image_set("boxes")
    filled = torch.zeros(60, 3, 32, 32, dtype=torch.uint8)
    for image, (x0, y0, x1, y1) in zip(filled, found.targets[:, 0, :4].int().tolist(), strict=True):
        image[:, y0:y1, x0:x1] = 1
    batches = dataclasses.replace(found, images=filled).batches(16, crop=crop, flip=flip, seed=3)
    seen, moved = 0, 0
    for number, (pixels, targets) in zip(batches.indices(), batches.raw(), strict=True):
        for index, image, target in zip(number, pixels, targets[:, 0], strict=True):
            rows, columns = image[0].any(1).nonzero(), image[0].any(0).nonzero()
            x0, y0, x1, y1 = drawn.boxes[index, 0].tolist()
            if int(image[0].sum()) < 0.25 * (x1 - x0) * (y1 - y0):
                assert target.tolist() == [-1.0] * 5
                continue
            box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
            assert target.tolist() == [*box, float(found.targets[index, 0, 4])]
            seen += 1
            moved += target[:4].tolist() != [x0, y0, x1, y1]
    assert seen > 50
    assert moved > 20


def test_what_is_left_of_a_box():
    targets = torch.tensor([[[0.0, 4, 8, 8, 1], [10, 0, 16, 16, 0], [-1, -1, -1, -1, -1]]])

    def at(left, mirrored=0):
        place = torch.tensor([left])
        return boxes.moved(targets, torch.tensor([10]), place, torch.tensor([mirrored]), 10, (16, 16))[0].tolist()

    empty = [-1.0] * 5
    assert at(10) == targets[0].tolist()
    assert at(10, 1) == [[8, 4, 16, 8, 1], [0, 0, 6, 16, 0], empty]
    assert at(13) == [[0, 4, 5, 8, 1], [7, 0, 13, 16, 0], empty]
    assert at(16) == [[0, 4, 2, 8, 1], [4, 0, 10, 16, 0], empty]  # a quarter is left, which is just enough
    assert at(17)[0] == empty
    assert at(5) == [[5, 4, 13, 8, 1], empty, empty]  # a sixth of the second one


def test_moving_agrees_with_the_pixels_at_every_place():
    pixels = torch.zeros(9, 1, 12, 12, dtype=torch.uint8)
    pixels[:, :, 2:7, 3:9] = 1
    targets = torch.tensor([[[3.0, 2, 9, 7, 0]]]).repeat(9, 1, 1)
    top, left = torch.arange(9) % 3, torch.arange(9) // 3
    mirrored = torch.arange(9) % 2
    moved = boxes.moved(targets, top, left, mirrored, 1, (12, 12))
    for image, (x0, y0, x1, y1, _) in zip(
        crop_and_flip(pixels, top, left, mirrored, 1), moved[:, 0].int().tolist(), strict=True
    ):
        assert int(image[:, y0:y1, x0:x1].sum()) == 30 == int(image.sum())


def test_without_crop_and_flip_targets_are_untouched():
    found = data.load("objects", n=5)
    (batch,) = found.batches(5)
    assert torch.equal(batch[1], found.targets)


def test_what_cannot_move_boxes_says_so():
    for shape in ((2, 3, 4), (2, 3, 5)):
        found = image_set(torch.zeros(shape), boxes=False)
        found.batches(2)
        for options in ({"crop": 1}, {"flip": True}):
            with pytest.raises(
                ValueError, match=r"look like boxes: crop and flip move those of a set made with boxes=T"
            ):
                found.batches(2, **options)
    masks = image_set(torch.zeros(2, 16, 16, dtype=torch.int64), boxes=False)
    with pytest.raises(ValueError, match="are masks"):
        masks.batches(2, flip=True)


def test_boxes_survive_what_sets_do():
    found = data.load("objects", n=40)
    assert all(part.boxes for part in (found.take(7), found.subset([3, 1]), *found.split(0.5), found.to("cpu")))
    assert not found.labelled
    assert found.digest() == found.subset(range(39, -1, -1)).digest()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.zeros(2, 3, 4), r"targets must be boxes with classes \(N, M, 5\)"),
        (torch.zeros(2, 3, 5, dtype=torch.int64), "targets must be a floating-point tensor"),
        (torch.tensor([[[0.0, 0, 1, 1, 2]]]), r"class numbers in \[0, 2\)"),
        (torch.tensor([[[0.0, 0, 1, 1, 0.5]]]), r"class numbers in \[0, 2\)"),
        (torch.tensor([[[3.0, 0, 1, 1, 0]]]), "x0 < x1"),
        (torch.tensor([[[0.0, 0, math.inf, 1, 0]]]), "finite"),
        (torch.tensor([[[0.0, 0, 1, 1, -1]]]), "-1 five times"),
    ],
)
def test_sets_refuse_what_are_no_boxes(targets, message):
    with pytest.raises(ValueError, match=message):
        image_set(targets)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boxes.padded([]), "boxes must be a list"),
        (lambda: boxes.padded([torch.zeros(2, 4)]), r"boxes\[0\] must be finite numbers \(M, 5\)"),
        (lambda: boxes.padded([torch.zeros(2, 4)], []), "classes must be a list"),
        (lambda: boxes.padded([torch.zeros(2, 4)], [torch.zeros(1)] * 2), "classes must be one tensor for each of 1"),
        (lambda: boxes.padded([torch.zeros(2, 4)], [torch.zeros(3)]), r"classes\[0\] must be one number"),
        (lambda: boxes.padded([torch.full((1, 5), math.nan)]), r"boxes\[0\] must be finite"),
        (lambda: boxes.present(torch.zeros(2, 5)), "targets must be boxes"),
        (
            lambda: boxes.moved(torch.zeros(2, 1, 5), torch.zeros(1), torch.zeros(2), torch.zeros(2), 1, (4, 4)),
            "top must be one number for each of 2",
        ),
        (
            lambda: boxes.moved(torch.zeros(2, 1, 5), torch.zeros(2), torch.zeros(2), torch.zeros(2), 1, 4),
            "size must be",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_scenes_give_boxes_with_classes():
    drawn = scenes(30, objects=(2, 3), size=48)
    found = drawn.image_set("boxes", by=("shape", "colour"))
    there = drawn.boxes[..., 0] >= 0
    assert torch.equal(boxes.present(found.targets), there)
    assert torch.equal(found.targets[..., :4][there].long(), drawn.boxes[there])
    assert torch.equal(found.targets[..., 4][there].long(), drawn.object_classes(("shape", "colour"))[there])


def test_objects_are_the_same_for_a_longer_set_and_differ_by_seed():
    short, long = objects(10, seed=4), objects(140, seed=4)
    assert torch.equal(short.images, long.images[:10])
    assert torch.equal(short.boxes, long.boxes[:10])
    for other in (objects(10, seed=5), objects(10, seed=4, train=False)):
        assert not torch.equal(short.images, other.images)


def test_objects_keep_apart_and_inside():
    drawn = objects(300, count=(1, 4))
    counts = drawn.counts
    assert set(counts.tolist()) == {1, 2, 3, 4}
    for image in range(50):
        for m in range(int(counts[image])):
            x0, y0, x1, y1 = drawn.boxes[image, m].tolist()
            assert 12 <= x1 - x0 <= 30
            assert 12 <= y1 - y0 <= 30
            cell = (x0 // 32, y0 // 32)
            assert ((x1 - 1) // 32, (y1 - 1) // 32) == cell


def test_objects_have_the_classes_that_were_asked_for():
    found = data.load("objects", n=200, shapes=["cross", "disc"], fills=("dots",), count=(2, 2))
    drawn = objects(200, shapes=["cross", "disc"], fills=("dots",), count=(2, 2))
    assert found.classes == ("cross", "disc")
    assert torch.equal(found.targets[..., 4] == 0, drawn.shape == drawn.classes("shape").index("cross"))
    assert set(drawn.fill.flatten().tolist()) == {3}
    assert 0.4 < float(found.targets[..., 4].mean()) < 0.6
    assert "shapes=cross+disc" in found.provenance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": ()}, "shapes must be a sequence"),
        ({"shapes": ("disc", "star")}, r"shapes\[1\] must be one of disc"),
        ({"shapes": ("disc", "disc")}, "shapes must differ"),
        ({"fills": "plain"}, "fills must be a sequence"),
        ({"count": (2, 1)}, "least <= largest"),
        ({"count": (0, 1)}, r"count\[0\] must be at least 1"),
        ({"count": (1, 30)}, "does not fit"),
        ({"count": 3}, "count must be"),
        ({"difficulty": "none"}, "difficulty must be one of"),
        ({"n": 0}, "n must be at least 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        objects(**{"n": 2, **options})


def test_bytes_are_pinned():
    drawn = objects(8, fills=("plain", "dots"))
    found = hashlib.sha256(drawn.images.numpy().tobytes() + drawn.boxes.numpy().astype("<i8").tobytes()).hexdigest()
    assert found == "c273102334c2f0a68f8a66d19ae8c98d3f880c766b37ca40b89efacd9168d060"
