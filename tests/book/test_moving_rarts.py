"""The moving picture of RARTS: its answer changes with both sliders, and agrees with the limits of the package.

It is taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import re

import pytest
from compactvision.search.rarts import solvable

NOTEBOOK = "rarts"


@pytest.fixture
def opened(stored, alone):
    """The picture alone on a telephone; the page, and a function that moves both sliders and reads what it says."""
    page, errors = alone(stored(NOTEBOOK, 'lambda" type="range"'))

    def answer(lam, beta):
        for name, place in (("lambda", lam), ("beta", beta)):
            page.locator(f"input[id$={name}]").evaluate(
                "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(place)
            )
        assert errors == []
        return page.locator("[id$=say]").inner_text()

    return page, answer


def number(place):
    """What a slider's place stands for."""
    return 10 ** (place / 30)


def test_the_answer_changes_between_positions(opened):
    _, answer = opened
    assert answer(30, 30).startswith("Yes, nearer.")
    assert answer(0, 0).startswith("No, it ends farther off.")
    assert answer(-20, 0).startswith("No: RARTS runs away.")
    assert answer(60, 60).startswith("Yes, nearer.")


def test_it_says_what_the_package_computes(opened):
    _, answer = opened
    for lam, beta in ((30, 30), (60, 60), (0, 30), (30, 0), (0, 0), (12, 45)):
        text = answer(lam, beta)
        limit = solvable.rarts_limit(number(lam), number(beta)).alpha
        single = solvable.single_level_limit(number(lam)).alpha
        shown = float(re.search(r"RARTS ends at α = (-?[\d.]+)", text)[1])
        assert shown == pytest.approx(limit, abs=6e-4)
        assert float(re.search(r"both halves, ends at (-?[\d.]+)", text)[1]) == pytest.approx(single, abs=6e-4)
        assert "nearer than RARTS" in text
        assert ("not nearer" in text) == (abs(single - 1) >= abs(limit - 1))


def test_the_boundary_is_where_the_determinant_is_zero(opened):
    _, answer = opened
    for lam in range(-20, 61, 8):
        for beta in range(-20, 61, 8):
            runs = "runs away." in answer(lam, beta).partition("α")[0]
            assert runs == (solvable.determinant(number(lam), number(beta)) <= 0), (lam, beta)


def test_walks_end_at_the_limits(opened):
    """The last circle of RARTS lies where the closed form says, in the picture's own coordinates."""
    page, answer = opened
    for place in (30, 60):
        answer(place, place)
        limit = solvable.rarts_limit(number(place), number(place))
        circles = page.locator("svg[id$=walks] circle")
        ends = [tuple(float(circles.nth(i).get_attribute(k)) for k in ("cx", "cy")) for i in range(circles.count())]
        wanted = 34 + 286 * (limit.alpha + 0.6) / 4.8, 262 - 252 * (limit.w + 2.4) / 5.6
        assert min(abs(x - wanted[0]) + abs(y - wanted[1]) for x, y in ends) < 1.5


def test_a_click_moves_both_sliders(opened):
    page, answer = opened
    before = answer(30, 30)
    box = page.locator("svg[id$=map]").bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.75 * box["height"])
    assert page.locator("[id$=say]").inner_text() != before
    wanted = {"lambda": 80 * (0.3 * 200 - 30) / 150 - 20, "beta": 80 * (170 - 0.75 * 200) / 160 - 20}
    for name, place in wanted.items():
        assert float(page.locator(f"input[id$={name}]").input_value()) == pytest.approx(place, abs=1.5)


def test_nothing_sticks_out_on_a_telephone(opened):
    page, answer = opened
    answer(60, -20)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
