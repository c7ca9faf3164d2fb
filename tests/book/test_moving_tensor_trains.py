"""The moving pictures of the chapter on tensor trains: their answers change between two positions of the control.

They are taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import pytest

NOTEBOOK = "admm_tensor_train"


@pytest.fixture
def opened(stored, alone):
    """Open a picture alone; returns the page, and a function that moves the control and reads the answer."""

    def open_(name, width=390):
        page, errors = alone(stored(NOTEBOOK, f'{name}" type="range"'), width)

        def answer(place):
            control = page.locator("input[type=range]")
            last = int(control.get_attribute("max"))
            control.evaluate(
                "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(place if place >= 0 else last)
            )
            assert errors == []
            return page.locator("[id$=say]").inner_text()

        return page, answer

    return open_


def test_admm_hops_below_two_thirds_and_settles_above(opened):
    page, answer = opened("rho")
    shown = page.locator("output")
    answers = {}
    for place in range(int(page.locator("input").get_attribute("max")) + 1):
        text = answer(place)
        answers[float(shown.inner_text())] = text
    assert min(answers) == 0.1
    assert max(answers) == 2.0
    for rho, text in answers.items():
        assert text.startswith("Yes, it settles" if rho > 2 / 3 else "No, it keeps hopping"), rho
    assert {0.66, 0.67} < set(answers)


def test_the_path_is_drawn_anew(opened):
    page, answer = opened("rho")
    answer(0)
    first = page.locator("svg").inner_html()
    answer(-1)
    assert page.locator("svg").inner_html() != first
    assert page.locator("svg circle").count() == 2 * 41  # two of four values are kept at each of the drawn updates


def test_small_ranks_win_and_full_ranks_lose(opened):
    _, answer = opened("rank")
    assert answer(0).startswith("Smaller")
    assert answer(-1).startswith(("Neither", "Faster, but not smaller"))


@pytest.mark.parametrize("name", ["rho", "rank"])
def test_nothing_sticks_out_on_a_telephone(opened, name):
    page, answer = opened(name)
    answer(-1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
