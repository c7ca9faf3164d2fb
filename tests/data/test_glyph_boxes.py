"""Characters with boxes: the same bytes everywhere, and boxes around what was drawn."""

import pytest
import torch
from compactvision import data
from compactvision.data import boxes
from compactvision.data.glyph_boxes import load_glyph_boxes


def test_a_small_set_is_the_beginning_of_a_larger_one():
    small, large = load_glyph_boxes(n=5, seed=3), load_glyph_boxes(n=70, seed=3)
    assert torch.equal(small.images, large.images[:5])
    assert torch.equal(small.targets, large.targets[:5])


def test_parts_and_seeds_differ():
    sets = [load_glyph_boxes(part, n=3, seed=seed).images for part in (True, False) for seed in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(sets) for b in sets[:i])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_as_many_objects_as_asked_for_each_in_a_cell_of_its_own(count):
    found = load_glyph_boxes(n=40, objects=(count, count)).targets
    assert bool(boxes.present(found).all())
    assert found.shape == (40, count, 5)
    cell = (found[..., :2] // 32).int()
    assert torch.equal(cell, ((found[..., 2:4] - 1) // 32).int())
    places = cell[..., 0] + 2 * cell[..., 1]
    assert all(len(set(row.tolist())) == count for row in places)


def test_numbers_of_objects_and_classes_are_spread():
    found = load_glyph_boxes(n=600).targets
    counts = boxes.present(found).sum(1).bincount(minlength=4)
    assert counts[0] == 0
    assert int(counts[1:].min()) > 150
    classes = found[boxes.present(found)][:, 4].long().bincount(minlength=10)
    assert int(classes.min()) > 60


def test_inside_a_box_the_picture_departs_from_its_ground_and_outside_it_does_not():
    pictures = load_glyph_boxes(n=60, objects=(1, 1))
    for image, (x0, y0, x1, y1, _) in zip(pictures.images.float(), pictures.targets[:, 0].int().tolist(), strict=True):
        ground = image.flatten(1).median(1).values[:, None, None]
        far = (image - ground).abs().amax(0) > 60
        assert int(far[y0:y1, x0:x1].sum()) > 30
        far[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
        assert int(far.sum()) == 0


def test_it_is_in_the_catalogue():
    pictures = data.load("glyph_boxes", train=False, n=2)
    assert pictures.name == "glyph_boxes/test"
    assert pictures.boxes


@pytest.mark.parametrize("objects", [(0, 2), (2, 1), (1, 5), 3, (1, 2, 3), (1.5, 2), None])
def test_numbers_of_objects_out_of_range_are_refused(objects):
    with pytest.raises(ValueError, match="objects"):
        load_glyph_boxes(n=1, objects=objects)
