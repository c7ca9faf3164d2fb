"""The moving picture of collaborative compression: its answer changes along the path, and a click moves the point.

It is taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import re

import pytest

NOTEBOOK = "collaborative_compression"


@pytest.fixture
def opened(stored, alone):
    """The picture alone on a telephone; the page, and a function that moves the slider and reads the answer."""
    page, errors = alone(stored(NOTEBOOK, 'step" type="range"'))

    def answer(place):
        page.locator("input[type=range]").evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(place)
        )
        assert errors == []
        return said(page)

    return page, answer


def said(page):
    """The answer."""
    return page.locator("[id$=say]").inner_text()


def test_the_answer_changes_along_the_path(opened):
    page, answer = opened
    last = int(page.locator("input").get_attribute("max"))
    verdicts, shares = [], []
    for place in range(last + 1):
        verdicts.append(answer(place).partition(".")[0])
        shares.append(float(page.locator("output").inner_text().removesuffix(" %")))
    assert shares[0] == 100
    assert shares[-1] < 10
    assert verdicts[0] == "Nothing is cut yet"
    assert {"Drop channels only", "Do both"} <= set(verdicts)
    mild = [verdict for verdict, share in zip(verdicts, shares, strict=True) if 70 < share < 99]
    hard = [verdict for verdict, share in zip(verdicts, shares, strict=True) if share < 25]
    assert set(mild) == {"Drop channels only"}
    assert set(hard) == {"Do both"}


def test_the_best_point_is_not_worse_than_the_other_three(opened):
    _, answer = opened
    for place in (20, 40, 60, 80):
        text = answer(place)
        shown = [float(number) for number in re.findall(r"([\d.]+) %", text)]
        if len(shown) == 5:  # price, channels, rank, best, point
            assert shown[3] <= min(shown[1], shown[2], shown[4]) + 0.05, text


def test_a_click_moves_the_point_and_the_curve(opened):
    page, answer = opened
    before = answer(30)
    drawn = page.locator("svg").inner_html()
    box = page.locator("svg").bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    assert said(page) != before
    assert page.locator("svg").inner_html() != drawn
    channels, rank = map(int, re.search(r"circle: (\d+) channels, rank (\d+)", said(page)).groups())
    assert abs(channels - (0.3 * 330 - 40) / 280 * 64) < 2
    assert abs(rank - (260 - 0.6 * 300) / 250 * 64) < 2


def test_nothing_sticks_out_on_a_telephone(opened):
    page, answer = opened
    answer(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
