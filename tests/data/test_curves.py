"""Curves: the same bytes everywhere, classes that differ in the tremor and in nothing else, options."""

import hashlib

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import curve_paths, curve_pen, curves, keys, outlines
from compactvision.data.textures import Draws
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import plain_numpy

OPTIONS = {
    "words": {},
    "ink": {"match": "ink", "fonts": "train", "words": "train", "amplitude": 0.8},
    "length": {"match": "length", "fonts": "test", "words": "test", "size": 48, "train": False},
    "handwriting": {"task": "handwriting", "size": 96},
}
DIGESTS = {
    "words": "c115e5c721e2962c7ab657cad9ef1918ebf7c63d4c076cf98a0a644bd236ff92",
    "ink": "e6c4260cc39217a3cd8b2df54e8d782d7472acbc95f7e5d6d2d0f5ee20c5859b",
    "length": "c39fdf9372b5d04671f64c0fc8d18d8c8f985b9d6f06287d40470f1b428ca799",
    "handwriting": "4fb252d25e62bc62ab806d884478701e6b6bf7abceba9e0b0805c997b370e686",
}


def sha256(drawn):
    return hashlib.sha256(drawn.images.numpy().tobytes() + drawn.labels.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("name", OPTIONS)
def test_same_bytes_on_every_machine(name):
    assert sha256(curves.make(150, seed=1, **OPTIONS[name])) == DIGESTS[name]


def test_same_bytes_without_vector_instructions():
    code = (
        "import hashlib; from compactvision.data import curves; "
        f"drawn = curves.make(150, seed=1, **{OPTIONS['length']!r}); "
        "print(hashlib.sha256(drawn.images.numpy().tobytes() + drawn.labels.numpy().tobytes()).hexdigest())"
    )
    assert plain_numpy.printed(code) == DIGESTS["length"]


@pytest.mark.parametrize("task", curve_paths.TASKS)
def test_a_small_set_is_the_beginning_of_a_larger_one(task):
    small, large = (curves.make(n, task=task, match="ink") for n in (70, 150))
    for column in ("images", "labels", "scale", "turn", "pen", "length", "font"):
        assert torch.equal(getattr(large, column)[:70], getattr(small, column)), column
    assert large.words[:70] == small.words


def test_parts_seeds_and_tasks_share_no_image():
    sets = [curves.make(40, **o) for o in ({}, {"train": False}, {"seed": 1}, {"task": "handwriting"})]
    assert len({image.numpy().tobytes() for drawn in sets for image in drawn.images}) == 160


def test_every_beginning_is_balanced():
    labels = curves.make(151).labels
    for n in (2, 63, 64, 100, 151):
        assert abs(int((labels[:n] == 0).sum()) - n / 2) <= 0.5
    assert labels[:8].tolist() not in ([0, 1] * 4, [1, 0] * 4)


class TestOnlyTheTremorDiffers:
    """The class enters the drawing as the amplitude of the tremor, and nowhere else."""

    @pytest.mark.parametrize("match", curves.MATCHES)
    def test_without_amplitude_the_classes_are_the_same(self, match):
        arguments = ("words", 0.0, match, "all", "all", 64)
        numbers = np.arange(40)
        one, other = (curves._draw(7, np.full(40, label), numbers, *arguments) for label in (0, 1))
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name])

    @pytest.mark.parametrize("task", curve_paths.TASKS)
    @pytest.mark.parametrize("match", curves.MATCHES)
    def test_what_the_tremor_leaves_alone(self, task, match):
        arguments = (task, 1.4, match, "all", "all", 64)
        one, other = (curves._draw(7, np.full(40, label), np.arange(40), *arguments) for label in (0, 1))
        for name in ("scale", "turn", "font", "words"):
            np.testing.assert_array_equal(one[name], other[name])
        assert (one["images"] != other["images"]).any(axis=(1, 2, 3)).all()
        if match == "nothing":
            np.testing.assert_array_equal(one["pen"], other["pen"])
            assert (other["length"] > one["length"]).all()
        else:
            ink = [drawn["images"].sum(axis=(1, 2, 3), dtype=np.int64) / 255 for drawn in (one, other)]
            assert np.abs(ink[0] - ink[1]).max() < 0.01 * ink[0].mean()
        if match == "length":
            np.testing.assert_allclose(one["length"], other["length"], rtol=1e-12)

    def test_regular_pictures_do_not_know_the_amplitude(self):
        weak, strong = curves.make(60, amplitude=0.2), curves.make(60, amplitude=3)
        regular = weak.labels == 0
        assert torch.equal(weak.images[regular], strong.images[regular])
        assert not (weak.images[~regular] == strong.images[~regular]).flatten(1).all(1).any()

    def test_distributions_of_the_nuisances(self):
        drawn = curves.make(1500, size=32)
        shaky = drawn.labels == 1
        for name, spread in (("scale", 0.2 / 12**0.5), ("turn", 0.12 / 12**0.5), ("pen", 0.4 / 12**0.5)):
            values = getattr(drawn, name)
            assert float(values.std()) == pytest.approx(spread, rel=0.05)
            gap = float(values[shaky].mean() - values[~shaky].mean())
            assert abs(gap) < 4 * spread * (2 / 750) ** 0.5, name

    def test_a_linear_reader_of_ink_and_length(self):
        """Ink and length give the class away, until both are matched."""

        def score(match):
            drawn = curves.make(1600, match=match, amplitude=2)
            features, labels = torch.stack([drawn.ink, drawn.length], 1).numpy(), drawn.labels.numpy()
            reader = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[:800], labels[:800])
            return reader.score(features[800:], labels[800:])

        assert score("nothing") > 0.7
        assert score("ink") > 0.7  # the length still tells
        assert score("length") == pytest.approx(0.5, abs=0.07)


class TestHeldOut:
    def test_fonts(self):
        assert set(curves.FONTS["train"]).isdisjoint(curves.FONTS["test"])
        assert set(curves.FONTS["train"]) | set(curves.FONTS["test"]) == set(curves.FONTS["all"])
        seen, new = (set(curves.make(80, fonts=part, size=32).font.tolist()) for part in ("train", "test"))
        assert seen == set(range(6))
        assert new == {6, 7, 8, 9}

    def test_words(self):
        def pairs(part):
            words = curves.make(400, words=part, size=32).words
            assert {len(word) for word in words} == {2, 3, 4}
            return {word[i : i + 2] for word in words for i in range(len(word) - 1)}

        assert pairs("train").isdisjoint(pairs("test"))
        assert len(pairs("all")) > 400
        for part in curves.WORDS:
            assert min(map(len, curve_paths.followers(part))) >= 4

    def test_letters_are_drawn_alike_often(self):
        letters = "".join(curves.make(1000, size=32).words)
        counts = np.array([letters.count(letter) for letter in curve_paths.LETTERS])
        assert counts.sum() == pytest.approx(3000, abs=120)
        assert counts.min() > 70
        assert counts.max() < 165


class TestDrawing:
    def test_extent_place_and_polarity(self):
        drawn = curves.make(60, amplitude=0, seed=3)
        ink = drawn.images[:, 0].numpy() > 40
        for k in range(60):
            rows, columns = np.flatnonzero(ink[k].any(1)), np.flatnonzero(ink[k].any(0))
            extent = max(np.ptp(rows), np.ptp(columns)) + 1
            assert extent == pytest.approx(64 * float(drawn.scale[k]) + float(drawn.pen[k]), abs=4.5)
            for place in (rows, columns):  # shifted by 4 % of the side at most, and a little by the warp
                assert (place[0] + place[-1]) / 2 == pytest.approx(31.5, abs=0.04 * 64 + 1.5)
        assert 0.04 < ink.mean() < 0.25

    def test_a_straight_line(self):
        """A line at x = 10.5 with a pen of 1.6: the pixel under it is full, its neighbours 0.3 full."""
        xy = np.stack([np.full(200, 10.5), np.linspace(8, 24, 200)], axis=1)
        distance = curve_pen.distances(xy, np.zeros(200, int), 1, 32)
        picture = curve_pen.cover(distance, np.array([0.8])).reshape(32, 32)
        assert picture[16].nonzero()[0].tolist() == [9, 10, 11]
        assert picture[16, 9:12] == pytest.approx(np.array([0.3, 1, 0.3]) * 255, abs=2)
        assert picture[:6].max() == picture[27:].max() == 0

    def test_noise_has_unit_variance_and_the_scales_add_up(self):
        bits = keys.stream(keys.key(1), np.arange(20000))
        noise = curves._gaussian(bits)
        assert noise.mean() == pytest.approx(0, abs=0.03)
        assert noise.std() == pytest.approx(1, abs=0.02)
        paths = curve_paths.paths(Draws(3, np.arange(64)), 4, np.arange(64), "words", "all", "all", 64)
        shaken = curves._shake(paths, np.ones(64), keys.stream(5, np.arange(64)), 1.0)
        offset = np.sqrt(((shaken - paths.xy) ** 2).sum(1))
        # in the middle between two knots half of the variance is left; on average 26 of 35
        assert (offset**2).mean() == pytest.approx(26 / 35 * (0.49 + 0.25 + 0.09), rel=0.1)

    def test_tremor_goes_along_the_normal_and_closes(self):
        paths = curve_paths.paths(Draws(3, np.arange(9)), 4, np.arange(9), "words", "all", "all", 64)
        shaken = curves._shake(paths, np.full(9, 0.5), keys.stream(5, np.arange(9)), 1.0)
        curve = np.repeat(np.arange(len(paths.count)), paths.count)
        behind, before = paths.neighbours(curve)
        tangent = paths.xy[before] - paths.xy[behind]
        assert np.abs(((shaken - paths.xy) * tangent).sum(1)).max() < 1e-9
        steps = np.sqrt(((shaken[before] - shaken) ** 2).sum(1))
        assert np.quantile(steps, 0.99) < 0.6
        assert steps.max() > 1  # corners, and the line that is drawn closes them
        line, image = curve_pen.line(paths, shaken, np.ones(len(shaken), bool))
        ends = np.searchsorted(image, np.arange(9), side="right")
        inside = np.delete(np.sqrt((np.diff(line, axis=0) ** 2).sum(1)), ends[:-1] - 1)
        assert (inside < 0.5).mean() > 0.99  # all but the way from one curve to the next

    def test_points_lie_at_equal_steps_on_closed_curves(self):
        paths = curve_paths.paths(Draws(3, np.arange(9)), 4, np.arange(9), "words", "all", "all", 64)
        assert paths.image.max() == 8
        assert (np.diff(paths.image) >= 0).all()
        curve = np.repeat(np.arange(len(paths.count)), paths.count)
        _, before = paths.neighbours(curve)
        steps = np.sqrt(((paths.xy[before] - paths.xy) ** 2).sum(1))
        assert np.median(steps) == pytest.approx(0.25, rel=0.1)
        assert steps.max() < 0.6
        assert np.bincount(curve) == pytest.approx(paths.count)

    def test_a_stroke_is_one_open_curve(self):
        paths = curve_paths.paths(Draws(3, np.arange(9)), 4, np.arange(9), "handwriting", "all", "all", 64)
        assert not paths.closed
        assert len(paths.count) == 9
        behind, before = paths.neighbours(np.repeat(np.arange(9), paths.count))
        assert behind[0] == 0
        assert before[-1] == len(paths.xy) - 1

    def test_letters_are_matplotlibs(self):
        """Lengths of all outlines of a word agree with those of matplotlib's text paths."""
        import matplotlib
        from matplotlib.font_manager import FontProperties
        from matplotlib.textpath import TextPath

        shapes = curve_paths.alphabet(curves.FONTS["all"])
        for font, name in enumerate(curves.FONTS["all"]):
            path = FontProperties(fname=f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf")
            tall = np.concatenate(TextPath((0, 0), "x", size=100, prop=path).to_polygons())[:, 1].max()
            for letter in "aeg":
                theirs = TextPath((0, 0), letter, size=100, prop=path).to_polygons()
                total = sum(np.sqrt((np.diff(p, axis=0) ** 2).sum(1)).sum() for p in theirs) / (2 * tall)
                k = 26 * font + ord(letter) - ord("a")
                ours = shapes.length[shapes.start[k] : shapes.start[k] + shapes.curves[k]].sum()
                assert ours == pytest.approx(total, rel=0.03), (name, letter)

    def test_widths_move_the_pen(self):
        assert outlines.advance("DejaVuSansMono", "i") == outlines.advance("DejaVuSansMono", "m")
        assert outlines.advance("DejaVuSans", "i") < outlines.advance("DejaVuSans", "m") / 3


def test_normalisation_constants_describe_the_default_set():
    pixels = curves.make(800, seed=5).images.double() / 255
    assert float(pixels.mean()) == pytest.approx(curves.MEAN[0], abs=0.005)
    assert float(pixels.std()) == pytest.approx(curves.STD[0], abs=0.005)


def test_catalogue_loads_curves():
    loaded = data.load("curves", train=False, n=12, task="handwriting", seed=4, amplitude=1)
    assert torch.equal(loaded.images, curves.make(12, train=False, task="handwriting", seed=4, amplitude=1).images)
    assert (loaded.name, loaded.classes) == ("curves/test", ("regular", "shaky"))
    assert loaded.provenance == (
        "generated curves (task handwriting, amplitude 1, match nothing, size 64, seed 4, 12 images)"
    )
    inputs, targets = next(iter(loaded.batches(5)))
    assert inputs.shape == (5, 1, 64, 64)
    assert targets.tolist() == loaded.targets[:5].tolist()
    assert data.describe("curves").embedded
    made = data.load("curves", n=3, words="test")
    assert "fonts all, words test, outlines " in made.provenance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1, not 0"),
        ({"n": 2.5}, "n must be a whole number of at least 1, not 2.5"),
        ({"task": "poem"}, "task must be one of words, handwriting, not 'poem'"),
        ({"match": "all"}, "match must be one of nothing, ink, length, not 'all'"),
        ({"fonts": "some"}, "fonts must be one of all, train, test, not 'some'"),
        ({"words": "some"}, "words must be one of all, train, test, not 'some'"),
        ({"amplitude": -1}, r"amplitude must lie in \[0, 8\], not -1"),
        ({"amplitude": float("nan")}, r"amplitude must lie in \[0, 8\], not nan"),
        ({"size": 16}, r"size must lie in \[32, 256\], not 16"),
        ({"task": "handwriting", "fonts": "test"}, "must be 'all' for a handwriting, not 'test' and 'all'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        curves.make(**{"n": 2, **options})
