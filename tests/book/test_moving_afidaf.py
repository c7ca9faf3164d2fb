"""The moving picture of AFIDAF: an adaptive filter changes with the picture, a fixed one does not.

It is taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import re

import pytest

NOTEBOOK = "afidaf"
SCENES = 3
VIEWS = ("noisy", "cleaned by the network", "without noise", "spectrum before", "multiplied by", "spectrum after")


@pytest.fixture
def opened(stored, alone):
    """The picture alone on a telephone; the page, and functions that choose, read the answer and the pixels."""
    page, errors = alone(stored(NOTEBOOK, "Does the filter know this picture?</p>"))

    def answer(scene=None, filter_=None):
        if scene is not None:
            page.locator("select[id$=scene]").select_option(index=scene)
        if filter_ is not None:
            page.locator("select[id$=filter]").select_option(index=filter_)
        assert errors == []
        return page.locator("[id$=say]").inner_text()

    def pixels(view):
        board = page.locator(f'canvas[aria-label="{view}"]')
        return board.evaluate("b => Array.from(b.getContext('2d').getImageData(0, 0, 16, 16).data)")[::4]

    return page, answer, pixels


def ratio(text):
    return float(re.search(r"([\d.]+) times as much", text)[1])


def test_the_adaptive_filter_changes_with_the_picture_and_the_fixed_one_does_not(opened):
    _, answer, pixels = opened
    factors = {0: [], 1: []}
    for filter_ in factors:
        for scene in range(SCENES):
            answer(scene=scene, filter_=filter_)
            factors[filter_].append(tuple(pixels("multiplied by")))
    assert len(set(factors[0])) == SCENES
    assert len(set(factors[1])) == 1


def test_the_answer_depends_on_the_filter_and_on_the_picture(opened):
    _, answer, _ = opened
    said = {(scene, filter_): answer(scene=scene, filter_=filter_) for scene in range(SCENES) for filter_ in (0, 1)}
    assert len(set(said.values())) == 2 * SCENES
    assert all("Another picture, another filter" in text for (_, filter_), text in said.items() if filter_ == 0)
    assert all("the same for every picture" in text for (_, filter_), text in said.items() if filter_ == 1)
    for scene in (0, 1):  # on waves the adaptive filter knows which one is there
        assert ratio(said[scene, 0]) > ratio(said[scene, 1])


def test_the_noisy_picture_and_the_truth_belong_to_the_picture_alone(opened):
    _, answer, pixels = opened
    for scene in range(SCENES):
        seen = []
        for filter_ in (0, 1):
            answer(scene=scene, filter_=filter_)
            seen.append({view: tuple(pixels(view)) for view in VIEWS})
        assert all(seen[0][view] == seen[1][view] for view in ("noisy", "without noise"))
        assert seen[0]["cleaned by the network"] != seen[1]["cleaned by the network"]


def test_every_view_shows_something(opened):
    _, answer, pixels = opened
    answer(scene=0, filter_=0)
    assert all(len(set(pixels(view))) > 10 for view in VIEWS)


def test_nothing_sticks_out_on_a_telephone(opened):
    page, answer, _ = opened
    assert "dB on this picture" in answer(scene=2, filter_=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
