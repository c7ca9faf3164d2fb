"""Scenes with objects of three sizes, and scenes with a far clue: bytes, annotations, what the clue tells."""

import hashlib

import pytest
import torch
from compactvision.data import describe, load
from compactvision.data.composed import CUES, EDGES, composed, load_composed, load_far_cue
from compactvision.data.scene_drawing import SHAPES


def _hash(*parts):
    return hashlib.sha256(b"".join(part.numpy().astype("<i8").tobytes() for part in parts)).hexdigest()


def test_bytes_are_pinned():
    drawn, far = composed(6, size=64), load_far_cue(n=6, seed=2)
    assert (
        _hash(drawn.images, drawn.instances, drawn.boxes, drawn.shape, drawn.colour)
        == "1c6e052e906d30c1e89648f531c505f64d40c887cdc758f4b4508f3142048a44"
    )
    assert _hash(far.images, far.targets) == "2030765bba6bcc9a16e4061cb78447c13035ffce330901878ed857ca50a8857e"


def test_a_shorter_set_is_the_beginning_of_a_longer_one():
    assert torch.equal(composed(3, size=48).images, composed(70, size=48).images[:3])
    assert torch.equal(load_far_cue(n=3).images, load_far_cue(n=70).images[:3])


def test_seed_and_part_give_other_images():
    for draw in (lambda **options: composed(2, size=48, **options), lambda **options: load_far_cue(n=2, **options)):
        first = draw()
        for other in (draw(seed=1), draw(train=False)):
            assert not torch.equal(first.images, other.images)
    assert (composed(1).name, composed(1, train=False).name) == ("composed/train", "composed/test")
    assert (load_far_cue(n=1).name, load_far_cue(n=1, near=True).name) == ("far_cue/train", "near_cue/train")


def test_annotations_agree_with_the_instances():
    drawn = composed(12, counts=(3, 2, 2), size=96)
    masks, segmentation, classes = drawn.object_masks(), drawn.segmentation(), drawn.object_classes()
    assert masks.shape == (12, 7, 96, 96)
    assert (drawn.counts == 7).all()
    for i in range(12):
        for m in range(7):
            assert (segmentation[i][masks[i, m]] == classes[i, m] + 1).all()
    assert torch.equal(segmentation == 0, drawn.instances == 0)


def test_edges_part_the_sizes():
    areas = composed(60, size=128).object_masks().flatten(2).sum(2) / 128**2  # large, 2 medium, 4 small
    small, large = EDGES
    assert (areas[:, 3:] < small).all()
    assert (areas[:, 1:3] < large).all()
    assert (areas[:, 1:3] >= small).double().mean() > 0.95
    assert (areas[:, 0] >= large).double().mean() > 0.95


def test_counts_may_leave_sizes_out():
    areas = composed(10, counts=(0, 0, 2)).object_masks().flatten(2).sum(2) / 128**2
    assert (areas.max(1).values > EDGES[1]).all()
    assert composed(2, counts=(1, 0, 0)).counts.tolist() == [1, 1]


def test_the_marker_tells_the_class_and_nothing_else_does():
    far, near = load_far_cue(n=200), load_far_cue(n=200, near=True)
    assert torch.equal(far.targets, near.targets)
    assert far.classes == ("background", *CUES)
    colours = torch.tensor([[225.0, 55, 50], [235, 200, 45], [60, 175, 70], [55, 95, 225], [170, 70, 200]])
    for drawn, told in ((far, False), (near, True)):
        for image, target in zip(drawn.images.float(), drawn.targets, strict=True):
            inside = target > 0
            (cue,) = target[inside].unique()
            seen = image[:, inside].median(1).values
            nearest = int((colours - seen).square().sum(1).argmin())
            assert nearest == (int(cue) - 1 if told else SHAPES.index("cross"))  # violet is the fifth colour
    share = torch.tensor([float((far.targets == c).flatten(1).any(1).double().mean()) for c in range(1, 5)])
    assert share.tolist() == pytest.approx([0.25] * 4, abs=0.1)


def test_the_marker_is_in_a_corner_and_background():
    drawn = load_far_cue(n=100)
    places = torch.zeros(4, dtype=torch.bool)
    for image, target in zip(drawn.images.float(), drawn.targets, strict=True):
        (cue,) = target[target > 0].unique()
        ink = torch.tensor([[225.0, 55, 50], [235, 200, 45], [60, 175, 70], [55, 95, 225]])[int(cue) - 1]
        like = (image - ink[:, None, None]).square().sum(0) < 60**2
        corners = [like[y, x].sum() for y in (slice(3, 13), slice(51, 61)) for x in (slice(3, 13), slice(51, 61))]
        best = int(torch.stack(corners).argmax())
        places[best] = True
        y, x = (8, 56)[best // 2], (8, 56)[best % 2]
        assert (target[y - 4 : y + 4, x - 4 : x + 4] == 0).all()
    assert places.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"counts": (0, 0, 0)}, "counts must ask for at least one"),
        ({"counts": (10, 0, 0)}, r"counts\[0\] must lie in \[0, 9\], got 10"),
        ({"counts": (1, 2)}, "counts must be"),
        ({"counts": (1, 2, 0.5)}, r"counts\[2\]"),
        ({"difficulty": "brutal"}, "difficulty"),
        ({"size": 31}, "size must be at least 32 pixels, got 31"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        composed(**{"n": 2, **options})


def test_bad_options_of_the_far_clue_are_named():
    for options in ({"n": 0}, {"size": 20}, {"near": 1}, {"seed": 0.5}):
        with pytest.raises(ValueError, match=next(iter(options))):
            load_far_cue(**{"n": 2, **options})


def test_the_catalogue_loads_them():
    loaded = load("composed", train=False, n=4, size=64, seed=4)
    assert torch.equal(loaded.targets, load_composed(False, n=4, size=64, seed=4).targets)
    assert loaded.classes == ("background", *SHAPES)
    assert loaded.provenance.endswith("(counts=(4, 2, 1), difficulty=medium, size=64, seed=4)")
    assert load("far_cue", n=2, near=True).num_classes == 5
    assert describe("composed").embedded
    assert describe("far_cue").present
