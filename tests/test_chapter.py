"""The chapters' floor: generators, values over seeds and their pictures, the running picture."""

import json

import matplotlib.pyplot as plt
import pytest
import torch
from compactvision import chapter, data, experiment, measure, models, records, surgery

FOLDED = {"hide-cell", "hide-input", "remove-cell", "remove-input"}


@pytest.fixture
def run():
    return experiment.start("foundations", seed=3)


@pytest.fixture
def recorded(monkeypatch, run):
    """A run with a quick record of three seeds and no full one."""
    record = run.record()
    monkeypatch.setattr(records, "load", lambda slug, profile: record if profile == "quick" else None)
    return record


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def test_generators_depend_on_seed_and_stream_alone(run):
    first, again = (torch.rand(3, generator=chapter.generator(run, 2)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, torch.rand(3, generator=torch.Generator().manual_seed(3002)))
    assert not torch.equal(first, torch.rand(3, generator=chapter.generator(run)))


def test_recorded_seeds_come_first_and_the_run_where_there_is_none(run, recorded):
    name = next(name for name in recorded.names if not isinstance(recorded.values(name)[0], list))
    assert chapter.percent(run, name) == [100 * value for value in recorded.values(name)]
    assert chapter.percent(run, name, scale=1) == recorded.values(name)
    run.log("only.here", 0.25)
    assert chapter.percent(run, "only.here") == [25.0]
    with pytest.raises(ValueError, match="neither the quick record of foundations nor this run has 'nowhere'"):
        chapter.percent(run, "nowhere")
    with pytest.raises(ValueError, match="neither the full record of foundations nor this run has 'only"):
        chapter.percent(run, "only.here", "full")


def test_mean_and_deviation_as_text(run, recorded):
    run.log("only.here", 0.25)
    assert chapter.mean_sd(run, "only.here", 2) == "25.00"
    name = next(name for name in recorded.names if not isinstance(recorded.values(name)[0], list))
    mean, sd = recorded.mean(name), recorded.sd(name)
    assert (
        chapter.mean_sd(recorded, name, 3, scale=1)
        == chapter.mean_sd(run, name, 3, scale=1)
        == f"{mean:.3f} ± {sd:.3f}"
    )
    assert [chapter.mean_sd(source, "nowhere") for source in (run, recorded, None)] == ["–"] * 3


def test_real_data_is_noted(run, monkeypatch):
    asked = []

    def load(name, *, train):
        asked.append((name, train))
        return digits[train]

    digits = {train: data.load("digits", train=train) for train in (True, False)}
    monkeypatch.setattr(data, "load", load)
    assert chapter.cifar10(run, "cifar100") == (digits[True], digits[False])
    assert asked == [("cifar100", True), ("cifar100", False)]
    assert [source.digest for source in run.sources] == [digits[True].digest(), digits[False].digest()]


def test_points_of_the_running_picture(run):
    model = models.small_cnn(10, generator=torch.Generator().manual_seed(0)).eval()
    graph = surgery.channel_graph(model, (3, 32, 32))
    small = surgery.prune(model, surgery.make_plan(graph, surgery.criteria.l1(), keep_macs=0.5))
    images = data.load("glyphs", train=False, n=40)
    chapter.log_picture(run, {"whole": model, "half": small}, model, images, (3, 32, 32))
    assert set(run.values) == {f"picture.{p}.{v}" for p in ("whole", "half") for v in ("macs", "time", "accuracy")}
    assert run.values["picture.whole.macs"] == run.values["picture.whole.time"] == 1
    assert run.values["picture.half.macs"] == measure.macs(small, (3, 32, 32)) / graph.macs
    assert run.values["picture.half.accuracy"] == measure.accuracy(small, images)


def test_bars_end_at_means_and_show_every_seed(axis):
    axis.set(xlabel="accuracy, %")
    chapter.seed_bars(axis, {"a": [10, 20, 60], "b": [5, 5, 5]}, colors=["#0072B2", "#D55E00"])
    widths = sorted(bar.get_width() for bar in axis.patches)
    assert widths == pytest.approx([5, 30])
    assert [text.get_text() for text in axis.texts] == ["30", "5"]
    dots = {round(float(x)) for collection in axis.collections for x, _ in collection.get_offsets()}
    assert dots == {10, 20, 60, 5}
    ranges = sorted(tuple(map(float, line.get_xdata())) for line in axis.lines if len(line.get_xdata()) == 2)
    assert (10.0, 60.0) in ranges
    assert axis.get_xlabel() == "accuracy, %"


def test_lines_go_through_means_and_bands_from_least_to_greatest(axis):
    axis.set(xlabel="share", ylabel="accuracy")
    chapter.seed_lines(axis, [1, 2], [[0, 3, 6], [10, 10, 40]], color="#0072B2", label="energy")
    (line,) = axis.lines
    assert line.get_ydata().tolist() == [3, 20]
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0, 40)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("share", "accuracy")
    with pytest.raises(ValueError, match="one row for each of the 3 places x, got 1"):
        chapter.seed_lines(axis, [1, 2, 3], [[1]])


@pytest.mark.parametrize("other", [None, 3, "axis", plt.Axes, [], lambda: None])
def test_pictures_of_seeds_want_an_axis(other):
    with pytest.raises(ValueError, match=r"^axis must be of class Axes, got "):
        chapter.seed_bars(other, {"a": [1.0]})
    with pytest.raises(ValueError, match=r"^axis must be of class Axes, got "):
        chapter.seed_lines(other, [1.0], [[1.0]])


@pytest.mark.parametrize("colors", [3, "no such colour", "", [], ["red"], ["red"] * 3, [None, "red"], {}, int, b"red"])
def test_bars_refuse_colors(axis, colors):
    with pytest.raises(ValueError, match=r"^colors must be a colour, or one for each of the 2 labels, got "):
        chapter.seed_bars(axis, {"a": [1.0], "b": [2.0]}, colors=colors)


def _chapters(repo):
    return {p.name: json.loads(p.read_text(encoding="utf-8"))["cells"] for p in (repo / "notebooks").glob("*.ipynb")}


def _open_cells(repo):
    for name, cells in _chapters(repo).items():
        for cell in cells:
            if cell["cell_type"] == "code" and not FOLDED & set(cell["metadata"].get("tags", ())):
                yield (name, cell["id"]), "".join(cell["source"])


def test_an_open_code_cell_has_at_most_twenty_lines(repo):
    assert not [where for where, code in _open_cells(repo) if len(code.splitlines()) > 20]


def test_an_open_code_cell_shows_no_machinery_of_the_record(repo):
    assert not [where for where, code in _open_cells(repo) if "run.log(" in code or "run.recording" in code]


def test_every_chapter_ends_with_what_to_take_away_the_claims_and_exercises(repo):
    for name, cells in _chapters(repo).items():
        text = "\n".join("".join(cell["source"]) for cell in cells)
        places = [text.find(mark) for mark in ("## What to take away", "claims.table(", "## Exercises")]
        assert -1 < places[0] < places[1] < places[2], name


def test_every_chapter_has_eight_figures_at_least(repo):
    for name, cells in _chapters(repo).items():
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        pages = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
        assert sum("<svg" in page or "<figure" in page for page in pages) >= 8, name
