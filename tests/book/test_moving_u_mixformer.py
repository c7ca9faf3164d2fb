"""The moving picture of U-MixFormer: whom a pixel asks changes with the scene, the pixel and the level.

It is taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import re

import pytest

NOTEBOOK = "u_mixformer"


@pytest.fixture
def opened(stored, alone):
    """The picture alone on a telephone; the page, and a function that chooses and reads the answer."""
    page, errors = alone(stored(NOTEBOOK, "level that asks"))

    def answer(scene=None, level=None, at=None):
        if scene is not None:
            page.locator("select[id$=scene]").select_option(index=scene)
        if level is not None:
            page.locator("select[id$=level]").select_option(index=level)
        if at is not None:
            box = page.locator("svg[id$=over]").bounding_box()
            page.mouse.click(box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"])
        assert errors == []
        return page.locator("[id$=say]").inner_text()

    return page, answer


def test_the_scene_changes_whom_a_pixel_asks(opened):
    _, answer = opened
    upper = {answer(scene=0, level=level).partition(":")[0] for level in (0, 1, 2)}
    lower = {answer(scene=1, level=level).partition(":")[0] for level in (0, 1, 2)}
    assert upper != lower


def test_another_pixel_and_another_level_have_another_answer(opened):
    _, answer = opened
    places = [(0.1, 0.1), (0.5, 0.5), (0.9, 0.2), (0.3, 0.8)]
    assert len({answer(scene=2, level=0, at=place) for place in places}) > 1
    assert len({answer(level=level) for level in range(4)}) == 4


def test_only_refined_levels_come_from_the_decoder(opened):
    page, answer = opened
    for level, refined in enumerate(("level 2, decoder", "level 3, decoder", "level 4, decoder", None)):
        answer(level=level)
        shown = page.locator("[id$=bars] span").all_inner_texts()
        assert len(shown) == 4
        assert sum("decoder" in each for each in shown) == 3 - level
        assert refined is None or refined in shown


def test_shares_and_weights_add_up(opened):
    page, answer = opened
    for scene in range(3):
        for level in range(4):
            answer(scene=scene, level=level)
            weights = [int(text) for text in page.locator("svg[id$=over] text").all_text_contents()]
            shares = [int(text.split()[0]) for text in page.locator("[id$=bars] b").all_inner_texts()]
            assert len(weights) == (4 if scene < 2 else 16)
            assert abs(sum(weights) - 100) <= 8
            assert abs(sum(shares) - 100) <= 2


def test_arrow_keys_move_the_pixel(opened):
    page, answer = opened
    answer(scene=2, level=0)
    frame = page.locator("svg[id$=over] rect").last
    before = frame.get_attribute("x")
    page.locator("svg[id$=over]").focus()
    page.keyboard.press("ArrowRight")
    after = frame.get_attribute("x")
    assert float(after) == pytest.approx(float(before) + 320 / 32)


def test_nothing_sticks_out_on_a_telephone(opened):
    page, answer = opened
    assert re.search(r"\d+ % of its attention", answer(scene=2, level=0))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
