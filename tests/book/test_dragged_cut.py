"""The cut that can be dragged, alone from file://: what it shows is what was computed."""

import json

import pytest


@pytest.fixture
def picture(browser, repo, tmp_path):
    static = repo / "book" / "_static"
    if not (static / "dragged-cut-data.js").is_file():
        pytest.skip("the data of the picture were not made: python -m compactvision.dragged_cut")
    (tmp_path / "_static").mkdir()
    (tmp_path / "book").mkdir()
    for name in ("dragged-cut-data.js", "dragged-cut.js"):
        (tmp_path / "_static" / name).write_text((static / name).read_text())
    page = tmp_path / "book" / "cut.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{(static / "dragged-cut.html").read_text()}</body>')
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    wrong = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(page.as_uri() + "#rule=energy")
    opened.wait_for_function("document.getElementById('cv-drag-says').textContent")
    yield opened
    assert wrong == []
    opened.close()


def test_rules_budgets_and_switches_show_what_was_computed(picture, repo):
    text = (repo / "book" / "_static" / "dragged-cut-data.js").read_text()
    known = json.loads(text.removeprefix("window.cvDraggedCut = ").rstrip().removesuffix(";"))
    assert picture.locator("input:checked").first.get_attribute("value") == "energy"
    picture.locator("#cv-drag-budget").focus()
    for _ in range(5):
        picture.keyboard.press("ArrowRight")
    for rule, cells in known["cells"].items():
        picture.locator(f"input[value={rule}]").check()
        for ghost, renew, state in ((0, 0, "cut"), (0, 1, "renewed"), (1, 0, "ghost"), (1, 1, "ghost renewed")):
            picture.locator("#cv-drag-ghost").set_checked(bool(ghost))
            picture.locator("#cv-drag-renew").set_checked(bool(renew))
            pairs = [p for p in zip(cells[5][state], known["targets"], strict=True) if p[0] != p[1]]
            assert picture.locator("#cv-drag-says").inner_text().startswith(f"{200 - len(pairs)} of 200 right")
            shown = picture.locator("#cv-drag-misread figcaption").all_inner_texts()
            names = known["classes"]
            assert shown == [f"{names[int(b)]} → {names[int(a)]}" for a, b in pairs[:24]]
        assert picture.locator("#cv-drag-net i.gone").count() == "".join(cells[5]["kept"]).count("0")
    assert picture.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
