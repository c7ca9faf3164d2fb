"""The telephone's variant says what the wide one says, in text that can be read, or there is none."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from compactvision import plots
from compactvision.plots import looks, narrow, on_page

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _fresh():
    with mpl.rc_context():
        yield
    plt.close("all")


def facets():
    fig, axes = plots.figure("Does the loss fall in both?", columns=2, sharey=True, height=2.9)
    for i, place in enumerate(axes):
        place.plot([1, 2, 3], [3, 2 - i, 1])
        place.set_title(f"panel {i}")
        place.set_xlabel("epoch")
        place.tick_params(labelsize=8)
    axes[0].set_ylabel("loss")
    return fig, axes


def contents(axes):
    return [(a.get_title("left"), a.get_xlabel(), [line.get_xydata().tolist() for line in a.lines]) for a in axes]


def test_facets_stack_with_the_same_contents_and_names_of_their_own():
    fig, axes = facets()
    before = contents(axes)
    assert narrow.variant(fig, narrow.look(fig))
    seen = narrow.look(fig)
    assert contents(axes) == before
    assert [a.get_ylabel() for a in axes] == ["loss", "loss"]
    boxes = [a.get_window_extent() for a in axes]
    assert boxes[0].y0 > boxes[1].y1
    assert boxes[0].x0 == pytest.approx(boxes[1].x0)
    assert seen.words.count("loss") == 2
    assert min(seen.sizes) >= 9
    assert (seen.outside, seen.clashes) == (0, 0)
    assert fig.get_size_inches()[0] * 72 == pytest.approx(narrow.POINTS)


def test_both_variants_stand_in_the_page_one_hidden_and_no_id_twice():
    fig, _ = facets()
    markup = on_page.figure(fig, "Both fall.")
    assert re.findall(r'<svg class="([a-z-]+)"', markup) == ["cv-wide", "cv-narrow"]
    assert re.findall(r"display: (none|block);", markup) == ["block", "none"]
    ids = re.findall(r'\bid="([^"]+)"', markup)
    assert len(ids) == len(set(ids))


def test_what_is_bound_to_its_place_is_not_stacked():
    fig, axes = facets()
    fig.text(0.5, 0.5, "between the two", fontsize=10)
    narrow.variant(fig, narrow.look(fig))
    assert axes[0].get_subplotspec().colspan.start != axes[1].get_subplotspec().colspan.start


def pairs(columns, titles):
    """Pictures and below each its map; the rows have names."""
    fig, axes = plots.figure("What made the score?", rows=2, columns=columns, height=2.8)
    rng = np.random.default_rng(0)
    for column in range(columns):
        for row in range(2):
            axes[row, column].imshow(rng.random((8, 8)))
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].set_title(titles[row], fontsize=8, loc="center")
    for axis, name in zip(axes[:, 0], ("picture", "map"), strict=True):
        axis.set_ylabel(name, fontsize=8)
    return fig, axes


def places(axes):
    found = [place.get_subplotspec() for place in axes.flat]
    return [(place.rowspan.start, place.colspan.start) for place in found]


def test_pictures_keep_their_columns_and_do_not_become_a_wall():
    fig, axes = pairs(6, ("", ""))
    assert narrow.variant(fig, narrow.look(fig))
    assert places(axes) == [(row, column) for row in range(2) for column in range(6)]
    assert fig.get_size_inches()[1] < 3.5


def test_pictures_whose_titles_find_no_room_are_wrapped_each_above_its_own_map():
    fig, axes = pairs(6, ("heard most", "2.4 % of it"))
    assert narrow.variant(fig, narrow.look(fig))
    assert places(axes) == [(column // 3 * 2 + row, column % 3) for row in range(2) for column in range(6)]
    assert [place.get_ylabel() for place in axes.flat if place.get_ylabel()] == ["picture"] * 2 + ["map"] * 2
    assert fig.get_size_inches()[1] < 8
    seen = narrow.look(fig)
    assert (seen.outside, seen.clashes) == (0, 0)


def test_pictures_tied_together_by_a_line_are_not_wrapped():
    fig, axes = pairs(6, ("heard most", "2.4 % of it"))
    fig.text(0.5, 0.5, "between", fontsize=10)
    assert not narrow.variant(fig, narrow.look(fig))
    assert places(axes) == [(row, column) for row in range(2) for column in range(6)]
    assert not axes[0, 3].get_ylabel()


def test_texts_that_would_run_into_each_other_keep_the_wide_variant():
    fig, axes = plots.figure("Are the names long?", height=3)
    axes.bar(range(9), range(9))
    axes.set_xticks(range(9), [f"name {i}" for i in range(9)], fontsize=7)
    markup = on_page.figure(fig, "They are.")
    assert re.findall(r'<svg class="([a-z-]+)"', markup) == ["cv-only"]
    assert "--cv-least: 500px" in markup


def test_clashes_agree_with_a_slow_count_of_shared_points():
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(0, 60, 0.5), np.arange(0, 60, 0.5)), -1).reshape(-1, 2)

    def inside(box):
        edges = [(box[1] - box[0], box[0]), (box[3] - box[0], box[0])]
        along = [((grid - start) @ edge / (edge @ edge)) for edge, start in edges]
        return (along[0] > 0) & (along[0] < 1) & (along[1] > 0) & (along[1] < 1)

    for _ in range(60):
        boxes = []
        for _ in range(2):
            turn, (w, h) = rng.uniform(0, np.pi), rng.uniform(8, 25, 2)
            turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            boxes.append(np.array([(0, 0), (w, 0), (w, h), (0, h)]) @ turned + rng.uniform(20, 40, 2))
        shared = (inside(boxes[0]) & inside(boxes[1])).sum() / 4
        if looks.meet(*boxes):
            assert shared > 0
        else:
            assert shared < 45  # a strip no deeper than the margin
