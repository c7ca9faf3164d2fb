"""The moving picture of NAT++: legal moves light up, and the answer to its title changes with the cell.

It is taken from the stored outputs of the notebook, so that a change is seen without building the book.
"""

import json
import re

import pytest

from oracles import nat_plus_plus as oracle

NOTEBOOK = "nat_plus_plus"
START = ["conv_5x5", "sep_conv_3x3", "avg_pool_3x3", "conv_3x3"]


def short(name):
    """The name on a button."""
    return {"skip_connect": "skip", "none": "none"}.get(name) or f"{name.split('_')[0]} {name[-1]}"


@pytest.fixture(scope="module")
def piece(repo):
    """HTML of the picture."""
    cells = json.loads((repo / "notebooks" / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    if not outputs:
        pytest.skip("the notebook was not executed yet")
    pages = ["".join(output["data"].get("text/html", "")) for output in outputs]
    (found,) = (page for page in pages if "start again" in page)
    return found


@pytest.fixture
def opened(browser, piece):
    """The picture alone on a telephone."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(f"<!doctype html><html><body>{piece}</body></html>")
    yield page
    assert errors == []
    page.close()


def click_edge(page, number):
    page.locator(f".edge[data-edge='{number}'] rect").click(force=True)


def move(page, name):
    page.locator("button[data-op]", has_text=re.compile(f"^{short(name)}$")).click()


def lit(page):
    return {text.strip() for text in page.locator("button[data-op]:enabled").all_inner_texts()}


def said(page):
    return page.locator("[id$=say]").inner_text()


def worth(page):
    return float(re.search(r"formula of our toy: (-?[\d.]+)", said(page))[1])


@pytest.mark.parametrize("edge", range(4))
def test_exactly_the_legal_moves_light_up(opened, edge):
    assert lit(opened) == set()
    click_edge(opened, edge)
    name = START[edge]
    assert lit(opened) == {short(other) for other in oracle.TABLE[name].split()} - {short(name)}
    assert f"{len(lit(opened))} other operation" in said(opened)


def test_the_answer_changes_with_the_cell(opened):
    answers = [said(opened).partition(".")[0]]
    for edge, name in ((0, "none"), (1, "none"), (3, "none")):
        click_edge(opened, edge)
        move(opened, name)
        answers.append(said(opened).partition(".")[0])
    assert answers[0] == "Nothing was moved yet"
    assert answers[-1] == "No dearer, and no better"
    opened.locator("button", has_text="start again").click()
    assert said(opened).startswith("Nothing was moved yet")
    better = set()
    for edge in range(4):
        for name in oracle.TABLE[START[edge]].split():
            if name != START[edge]:
                opened.locator("button", has_text="start again").click()
                click_edge(opened, edge)
                move(opened, name)
                better.add(said(opened).partition(".")[0])
    assert "Better, and no dearer" in better


def test_a_skip_is_dearer_where_maps_are_halved(opened):
    click_edge(opened, 2)
    move(opened, "skip_connect")
    assert not said(opened).startswith("Dearer")
    opened.locator("input[type=checkbox]").check()
    assert said(opened).startswith("Dearer than before")


def test_a_change_is_drawn_and_there_is_no_way_back(opened):
    click_edge(opened, 0)
    move(opened, "skip_connect")
    assert opened.locator(".edge[data-edge='0'] text").text_content() == "skip"
    assert lit(opened) == {"none"}


def test_the_worth_is_that_of_the_package(opened):
    from compactvision.models.cells import NAT_OPERATIONS
    from compactvision.search.nat_plus_plus import toy

    world = toy.toy(100)
    assert worth(opened) == pytest.approx(float(world.rewards[tuple(map(NAT_OPERATIONS.index, START))]), abs=0.006)
    cell = list(START)
    for edge, name in ((0, "skip_connect"), (3, "sep_conv_3x3"), (1, "none"), (0, "none")):
        click_edge(opened, edge)
        move(opened, name)
        cell[edge] = name
        assert worth(opened) == pytest.approx(float(world.rewards[tuple(map(NAT_OPERATIONS.index, cell))]), abs=0.006)


def test_where_the_bench_has_the_cell_its_accuracy_is_told(opened):
    from compactvision.search import small_cells

    assert "Trained by us" not in said(opened)
    for edge, name in ((0, "conv_3x3"), (1, "skip_connect")):
        click_edge(opened, edge)
        move(opened, name)
    accuracies = []
    for third in ("avg_pool_3x3", "skip_connect", "none"):
        if third != "avg_pool_3x3":
            click_edge(opened, 2)
            move(opened, third)
        tests = small_cells.table()["conv_3x3", "skip_connect", third, "conv_3x3"].test
        accuracies.append(float(re.search(r"reads ([\d.]+) % of new", said(opened))[1]))
        assert accuracies[-1] == pytest.approx(100 * sum(tests) / len(tests), abs=0.06)
    assert len(set(accuracies)) == 3


def test_the_keyboard_works(opened):
    opened.locator(".edge[data-edge='1']").focus()
    opened.keyboard.press("Enter")
    assert len(lit(opened)) == 5


def test_nothing_sticks_out_on_a_telephone(opened):
    click_edge(opened, 0)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
