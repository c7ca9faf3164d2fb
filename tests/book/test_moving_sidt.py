"""The slider of SiDT: what is left of each head and hidden layer as the share that is cut grows.

It is taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import re

import pytest

NOTEBOOK = "sidt"
STEPS = 9


@pytest.fixture
def opened(stored, alone):
    """The slider alone on a telephone; the page, and a function that moves it and reads what it says."""
    page, errors = alone(stored(NOTEBOOK, "What can each task spare?</p>"))

    def at(step):
        slider = page.locator("input[id$=share]")
        slider.fill(str(step))
        assert errors == []
        return page.locator("[id$=say]").inner_text()

    return page, at


def shares(text, what):
    return [int(found) for found in re.findall(rf"(\d+) % of the {what}", text)]


def test_the_more_goes_the_less_stays(opened):
    page, at = opened
    said = [at(step) for step in range(STEPS)]
    for what in ("parameters", "MACs"):
        for rows in zip(*(shares(text, what) for text in said), strict=True):
            assert list(rows) == sorted(rows, reverse=True)
            assert rows[0] > rows[-1]
    assert page.locator("output[id$=left]").inner_text() == "90 %"


def test_bars_are_those_of_eighteen_heads_and_four_hidden_layers_for_both_tasks(opened):
    page, at = opened
    at(7)
    assert page.locator("svg[role=img]").count() == 2
    assert page.locator("svg[role=img] rect.frame").count() == 2 * (18 + 18 + 4)
    titles = page.locator("svg[role=img] title").all_text_contents()
    kept = [int(re.match(r"(\d+) % kept", title)[1]) for title in titles]
    assert min(kept) < 15 < 40 < max(kept)


def test_recorded_shares_tell_their_scores(opened):
    _, at = opened
    assert at(7).count("Trained on") == 2
    assert at(4).count("Trained on") == 0


def test_nothing_sticks_out_on_a_telephone(opened):
    page, at = opened
    at(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
