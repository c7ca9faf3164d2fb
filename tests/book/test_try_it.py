"""The page "Try it": its cut and its answers are the package's, on characters drawn here, at budgets drawn here.

The picture is put together alone, from the folder (file://), so that a change is seen without building the book.
"""

import secrets

import pytest
import torch
from compactvision import data, in_browser, measure, models, surgery, training

TOLERANCE = 1e-4
SHARES = (0.15, 0.95)
ALONE = """
([weights, description, scores, images, renewal, mean, std, asked]) => {
  const library = cutNetwork();
  const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0));
  const normalised = (image) => Float64Array.from(image, (byte) => (byte / 255 - mean[0]) / std[0]);
  const whole = library.build(library.readWeights(bytes), description);
  const given = scores ?? library.lots(whole, asked.seed);
  const keep = library.plan(whole, given, asked.share);
  let small = library.cut(whole, keep);
  if (renewal) small = library.renewed(small, renewal.map(normalised));
  const run = library.compiled(small);
  return {
    scores: given, keep, macs: library.macs(small), parameters: library.parameters(small),
    sizes: small.blocks.map((block) => block.weight.length).concat(small.head.weight.length),
    logits: images.map((image) => [...run(normalised(image))]),
  };
}
"""
SEEN = """
() => {
  const { image, ...rest } = document.getElementById("cv-try").answer;
  return { ...rest, image: [...image] };
}
"""
STICKING = """
() => {
  const { right } = document.getElementById("cv-try").getBoundingClientRect();
  const beyond = (e) => e.getBoundingClientRect().right > right;
  return [...document.querySelectorAll("#cv-try *")].filter(beyond).map((e) => e.outerHTML.slice(0, 60));
}
"""
NAMELESS = """
() => [...document.querySelectorAll("#cv-try :is(input, button, svg, canvas)")].filter((e) =>
  !(e.ariaLabel || e.ariaHidden === "true" || e.labels?.[0]?.textContent.trim() || e.textContent.trim())).length
"""


@pytest.fixture(scope="module")
def model():
    return models.pretrained(in_browser.NETWORK)


@pytest.fixture(scope="module")
def graph(model):
    return surgery.channel_graph(model, (3, 32, 32))


@pytest.fixture(scope="module")
def payload():
    return in_browser.payload()


@pytest.fixture(scope="module")
def picture(repo, tmp_path_factory, payload):
    """Address of the picture alone, in folders as in the built book."""
    folder = tmp_path_factory.mktemp("site")
    static = repo / "book" / "_static"
    (folder / "_static").mkdir()
    (folder / "book").mkdir()
    for name in ("cut-network.js", "try-it.js"):
        (folder / "_static" / name).write_text((static / name).read_text())
    head = '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Try it</title>'
    page = folder / "book" / "try-it.html"
    page.write_text(f"{head}<body>{in_browser.page(payload)}{(static / 'try-it.html').read_text()}</body></html>")
    return page.as_uri()


@pytest.fixture
def opened(browser, picture):
    """The picture on a telephone, answered once; fails afterwards where the page reported or asked for anything."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda asked: wrong.append(asked.url))
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
    page.set_default_timeout(60_000)
    page.goto(picture)
    page.wait_for_function("document.getElementById('cv-try').answer")
    yield page
    assert wrong == []
    context.close()


def change(page, act, wanted="true"):
    """Do something to the page; return what it says as soon as that is its answer to all that was asked."""
    page.evaluate("document.getElementById('cv-try').answer = null")
    act(page)
    page.wait_for_function(f"(a => a && ({wanted}))(document.getElementById('cv-try').answer)")
    return page.evaluate(SEEN)


def to_share(percent):
    return lambda page: page.locator("#cv-try-budget").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(percent)
    )


def normalised(images, dtype=torch.float32):
    return (images.to(dtype) / 255 - 0.5) / 0.25


def cut(model, graph, keep):
    blocks = in_browser.description(model)["blocks"]
    plan = surgery.keep_plan(graph, {block["conv"]: kept for block, kept in zip(blocks, keep, strict=True)})
    return surgery.prune(model, plan), plan


def drawn():
    """Rule, budget and characters that nobody has seen before; an error names them."""
    asked = {
        "seed": secrets.randbelow(2**31),
        "share": SHARES[0] + (SHARES[1] - SHARES[0]) * secrets.randbelow(10**6) / 10**6,
    }
    return asked, data.load("glyphs", train=False, n=10, seed=1 + asked["seed"])


@pytest.fixture
def alone(browser, picture, payload):
    """Function from scores (None: lots), characters, what is asked and images to renew with to what the code says."""
    page = browser.new_page()
    page.goto(picture)
    network = {name: value for name, value in payload["network"].items() if name != "weights"}

    def ask(scores, fresh, asked, renewal=None):
        images = [image.flatten().tolist() for image in fresh.images]
        renewal = renewal and [image.flatten().tolist() for image in renewal.images]
        given = [
            payload["network"]["weights"],
            network,
            scores,
            images,
            renewal,
            payload["mean"],
            payload["std"],
            asked,
        ]
        return page.evaluate(ALONE, given)

    yield ask
    page.close()


@pytest.mark.parametrize("rule", ["l1", "taylor", "reverse", "random"])
def test_the_cut_is_the_package_s_at_a_budget_drawn_by_lot(rule, alone, model, graph, payload):
    asked, fresh = drawn()
    l1 = payload["scores"]["l1"]
    scores = {"random": None, "reverse": [[-score for score in block] for block in l1]}.get(
        rule, payload["scores"].get(rule)
    )
    found = alone(scores, fresh, asked)
    blocks = in_browser.description(model)["blocks"]
    given = {block["conv"]: torch.tensor(s) for block, s in zip(blocks, found["scores"], strict=True)}
    plan = surgery.make_plan(graph, given, keep_macs=asked["share"])
    small, kept = cut(model, graph, found["keep"])
    assert plan.keep == kept.keep, asked
    assert found["macs"] == measure.macs(small, (3, 32, 32)) == plan.macs, asked
    assert found["parameters"] == measure.parameters(small)
    weights = [m.weight.numel() for m in small.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert found["sizes"] == weights, "arrays are smaller, not masked"
    with torch.no_grad():
        expected = small(normalised(fresh.images))
    assert (torch.tensor(found["logits"]) - expected).abs().max() < TOLERANCE, asked


def test_the_rules_are_those_of_the_criteria(alone, model, graph, payload):
    asked, fresh = drawn()
    known = data.load("glyphs", n=in_browser.SCORED).batches(100)
    for rule, importance in (("l1", surgery.criteria.l1()), ("taylor", surgery.criteria.taylor(known))):
        found = alone(payload["scores"][rule], fresh, asked)
        _, kept = cut(model, graph, found["keep"])
        assert kept.keep == surgery.make_plan(graph, importance, keep_macs=asked["share"]).keep, (rule, asked)


def test_renewed_statistics_are_those_of_the_package(alone, model, graph):
    asked, fresh = drawn()
    known = data.load("glyphs", n=in_browser.RENEWAL)
    found = alone(None, fresh, asked, known)
    small, _ = cut(model, graph, found["keep"])
    small = training.renewed(small.double(), [normalised(known.images, torch.float64)])
    with torch.no_grad():
        expected = small(normalised(fresh.images, torch.float64))
    assert (torch.tensor(found["logits"], dtype=torch.float64) - expected).abs().max() < 1e-8, asked


def test_lots_are_drawn_evenly_and_again_with_the_same_seed(alone):
    _, fresh = drawn()
    one = fresh.subset([0])
    scores = [alone(None, one, {"share": 1, "seed": seed})["scores"] for seed in (0, 1, 2**31, 0)]
    draws = [[score for block in found for score in block] for found in scores]
    assert draws[0] == draws[3]
    assert len({tuple(draw) for draw in draws}) == 3
    for draw in draws:
        assert all(0 <= score < 1 for score in draw)
        assert len(set(draw)) == len(draw)
        assert sum(draw) / len(draw) == pytest.approx(0.5, abs=0.15)


def test_a_budget_out_of_reach_is_refused(alone):
    _, fresh = drawn()
    with pytest.raises(Exception, match=r"0\.001 is out of reach"):
        alone(None, fresh, {"share": 0.001, "seed": 0})


def draw_on(page, strokes):
    canvas = page.locator("#cv-try-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=4)
        page.mouse.up()


def test_what_is_drawn_and_cut_in_the_page_is_answered_as_pytorch_does(opened, model, graph):
    """Strokes, budget, rule and lots by lot; the picture's worker has the word."""
    percent = 15 + secrets.randbelow(80)
    change(opened, lambda page: page.locator("input[value=random]").check(), "a.settings.rule === 'random'")
    change(opened, to_share(percent), f"a.settings.share === {percent / 100}")
    change(opened, lambda page: page.locator("#cv-try-lots").click(), "a.settings.seed > 1")
    wobble = [[0.3 + 0.4 * secrets.randbelow(100) / 100 for _ in range(2)] for _ in range(5)]
    draw_on(opened, [wobble, [(0.35, 0.25), (0.35, 0.75)]])
    opened.wait_for_timeout(1500)
    answer = opened.evaluate(SEEN)
    image = torch.tensor(answer["image"], dtype=torch.uint8).view(1, 3, 32, 32)
    assert len(image.unique()) > 6, "strokes on a plain ground"
    small, plan = cut(model, graph, answer["keep"])
    assert plan.macs <= percent / 100 * graph.macs
    assert answer["facts"]["macs"] == [graph.macs, plan.macs]
    with torch.no_grad():
        for found, network in zip(answer["logits"], (model, small), strict=True):
            assert (torch.tensor(found) - network(normalised(image))[0]).abs().max() < TOLERANCE, (percent, wobble)
    test = data.load("glyphs", train=False, n=in_browser.TEST).batches(100)
    right = [round(in_browser.TEST * measure.accuracy(network, test)) for network in (model, small)]
    assert answer["facts"]["right"] == pytest.approx(right, abs=1)
    assert min(answer["facts"]["ms"]) > 0
    assert "Draw one of A B E F" in opened.locator("#cv-try-says").inner_text()


def test_each_budget_adds_a_mark_and_the_table_follows(opened):
    marks = opened.locator("#cv-try-curve path[data-rule]")
    assert marks.count() == 1
    answer = change(opened, to_share(50), "a.settings.share === 0.5")
    assert marks.count() == 2
    cells = opened.locator("[data-row=macs] td").all_inner_texts()
    assert cells[:2] == [f"{macs:,}" for macs in answer["facts"]["macs"]]
    change(opened, lambda page: page.locator("#cv-try-renew").check(), "a.settings.renew")
    assert marks.count() == 3
    assert opened.locator("#cv-try-curve path[data-renewed=true]").count() == 1
    change(opened, to_share(100), "a.settings.share === 1")
    assert [opened.locator(f"[data-row={row}] td").last.inner_text() for row in ("macs", "parameters")] == [
        "100\u00a0%"
    ] * 2


def test_new_lots_are_others_and_offered_for_lots_alone(opened):
    assert not opened.locator("#cv-try-lots").is_visible()
    change(opened, lambda page: page.locator("input[value=random]").check(), "a.settings.rule === 'random'")
    one = change(opened, to_share(50), "a.settings.share === 0.5")
    other = change(opened, lambda page: page.locator("#cv-try-lots").click(), "a.settings.seed === 2")
    assert one["keep"] != other["keep"]
    assert one["facts"]["macs"] == other["facts"]["macs"]


def test_it_works_by_keyboard_alone(opened):
    opened.locator("#cv-try-budget").focus()
    answer = change(opened, lambda page: page.keyboard.press("ArrowLeft"))
    assert answer["settings"]["share"] == 0.99
    opened.keyboard.press("Tab")
    answer = change(opened, lambda page: page.keyboard.press("ArrowDown"))
    assert answer["settings"]["rule"] == "taylor"
    opened.keyboard.press("Tab")
    answer = change(opened, lambda page: page.keyboard.press("Space"))
    assert answer["settings"]["renew"] is True
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    change(opened, lambda page: page.keyboard.press("Enter"))
    assert "Test character 2" in opened.locator("#cv-try-says").inner_text()


def test_every_control_has_a_name(opened):
    assert opened.evaluate(NAMELESS) == 0


def test_a_finger_draws(opened):
    opened.locator("#cv-try-canvas").scroll_into_view_if_needed()
    before = opened.evaluate(SEEN)["image"]
    opened.locator("#cv-try-canvas").tap()
    opened.wait_for_function("document.getElementById('cv-try-says').textContent.startsWith('Draw one')")
    assert opened.locator("#cv-try-frame").is_visible()
    assert opened.evaluate(SEEN)["image"] != before
    change(opened, lambda page: page.locator("#cv-try-next").click())
    assert not opened.locator("#cv-try-frame").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(opened, width):
    opened.set_viewport_size({"width": width, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.evaluate(STICKING) == []
