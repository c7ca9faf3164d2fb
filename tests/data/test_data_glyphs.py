"""Glyphs: the same bytes for a seed everywhere, prefixes, outlines, options."""

import hashlib

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import DataError, glyphs, keys, outlines, textures

import plain_numpy

DIGESTS = {
    "easy": "a97e98c0dda9b2b0224285e8aebc8012ecc74e50f8f858bdbdb2fb09583871ca",
    "medium": "634ec0283f8978841d3f0d9d291256f05128e48bc25817d06548255a2f7c651e",
    "hard": "25ca688216ac97bf0136172eaa1ec185157eba03563f2a110dfe46c8038d7201",
}


def sha256(images):
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("difficulty", DIGESTS)
def test_same_bytes_on_every_machine(difficulty):
    made = data.load("glyphs", n=300, difficulty=difficulty, seed=1)
    assert sha256(made.images) == DIGESTS[difficulty]


def test_same_bytes_without_vector_instructions():
    code = (
        "import hashlib; from compactvision import data; "
        "images = data.load('glyphs', n=300, difficulty='hard', seed=1).images; "
        "print(hashlib.sha256(images.numpy().tobytes()).hexdigest())"
    )
    assert plain_numpy.printed(code) == DIGESTS["hard"]


@pytest.mark.parametrize("train", [True, False])
def test_a_small_set_is_the_beginning_of_a_larger_one(train):
    large, small = (data.load("glyphs", train=train, n=n) for n in (400, 150))
    assert torch.equal(large.images[:150], small.images)
    assert torch.equal(large.targets[:150], small.targets)


def test_every_beginning_is_balanced():
    targets = data.load("glyphs", n=203, characters="abcdefg").targets
    for n in (7, 50, 100, 203):
        counts = torch.bincount(targets[:n], minlength=7)
        assert counts.max() - counts.min() <= 1
    assert targets[:7].tolist() != targets[7:14].tolist()


def test_parts_seeds_and_difficulties_share_no_image():
    sets = [
        data.load("glyphs", n=100, **options)
        for options in (
            {},
            {"train": False},
            {"seed": 1},
            {"difficulty": "easy"},
            {"difficulty": "hard"},
            {"fonts": "test"},
        )
    ]
    rows = {image.numpy().tobytes() for made in sets for image in made.images}
    assert len(rows) == 600


def test_what_a_set_says_of_itself():
    made = data.load("glyphs", train=False, n=20, characters="xyz", difficulty="hard", seed=3, fonts="train")
    assert made.name == "glyphs/test"
    assert made.classes == ("x", "y", "z")
    assert made.images.shape == (20, 3, 32, 32)
    assert made.provenance == "generated glyphs (hard, 'xyz', fonts train, outlines 9b8e1d6c, seed 3, 20 images)"
    assert len(data.load("glyphs", train=False)) == 2000
    assert data.load("glyphs", n=1).classes == tuple(glyphs.DEFAULT_CHARACTERS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"difficulty": "brutal"}, "difficulty must be one of easy, medium, hard, got 'brutal'"),
        ({"fonts": "some"}, "fonts must be one of all, train, test, got 'some'"),
        ({"characters": "A"}, "characters must be two or more different ones"),
        ({"characters": "AA"}, "characters must be .* not 'AA'"),
        ({"characters": "Aß"}, "characters must be .* not 'Aß'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("glyphs", **options)


def test_every_font_has_every_character():
    fields = outlines.atlas(outlines.FONTS["all"], outlines.SUPPORTED)
    assert fields.shape == (19, 62, 48, 48)
    assert set(outlines.TRAIN_FONTS).isdisjoint(outlines.TEST_FONTS)
    inside = (fields < 0).mean(axis=(2, 3))
    assert inside.min() > 0.01  # l in a thin font
    assert inside.max() < 0.35  # M in a bold one
    assert (fields[:, :, 0, 0] > 0).all()
    # no two characters of a font are drawn alike
    for font in fields:
        assert len({field.tobytes() for field in font}) == 62


def test_a_font_that_is_missing():
    with pytest.raises(
        DataError, match=r"NoSuchFont\.ttf, a font of matplotlib, cannot be read .*: install matplotlib"
    ):
        outlines.atlas(("NoSuchFont",), "A")


def test_distance_field_of_a_square_with_a_hole():
    corners = np.asarray([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    hole = corners[::-1] / 2  # the other way round
    start = np.concatenate([corners, hole])
    end = np.concatenate([np.roll(corners, -1, axis=0), np.roll(hole, -1, axis=0)])
    ticks = np.linspace(-outlines.REACH, outlines.REACH, outlines.GRID)
    x, y = np.meshgrid(ticks, -ticks)
    reach = np.maximum(abs(x), abs(y))
    outer = np.hypot(np.maximum(abs(x) - 0.5, 0), np.maximum(abs(y) - 0.5, 0))
    expected = np.where(
        reach > 0.5, outer, np.where(reach > 0.25, -np.minimum(0.5 - reach, _to_hole(x, y)), 0.25 - reach)
    )
    assert outlines.distance_field(start, end) == pytest.approx(expected, abs=1e-6)


def _to_hole(x, y):
    return np.hypot(np.maximum(abs(x) - 0.25, 0), np.maximum(abs(y) - 0.25, 0))


def test_two_overlapping_contours_that_wind_alike_are_one_shape():
    corners = np.asarray([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    start = np.concatenate([corners, corners / 2])
    end = np.concatenate([np.roll(corners, -1, axis=0), np.roll(corners, -1, axis=0) / 2])
    middle = outlines.GRID // 2
    assert outlines.distance_field(start, end)[middle, middle] < 0


def test_corners_exactly_beside_a_point_of_the_grid():
    ticks = (np.arange(outlines.GRID) * 2 - (outlines.GRID - 1)) * (outlines.REACH / (outlines.GRID - 1))
    row = 20
    corners = np.asarray([[0.0, -0.8], [-0.8, -ticks[row]], [0.0, 0.8], [0.8, -ticks[row]]])  # two level with row 20
    field = outlines.distance_field(corners, np.roll(corners, -1, axis=0))
    assert ((field[row] < 0) == (np.abs(ticks) < 0.8)).all()


def test_curves_are_flattened_exactly():
    # one quadratic from (0, 0) over (4, 8) to (8, 0), and straight back
    pieces = outlines._flatten([(0.0, 0.0, 1), (4.0, 8.0, 0), (8.0, 0.0, 1)])
    assert pieces[:4] == [((0, 0), (2, 3)), ((2, 3), (4, 4)), ((4, 4), (6, 3)), ((6, 3), (8, 0))]
    assert pieces[4:] == [((8, 0), (0, 0))]


def test_points_left_out_between_control_points():
    # four control points and no other: a ring through the middles of the square's sides
    pieces = outlines._flatten([(0.0, 0.0, 0), (4.0, 0.0, 0), (4.0, 4.0, 0), (0.0, 4.0, 0)])
    assert len(pieces) == 16
    ends = {end for piece in pieces for end in piece}
    assert {(2, 0), (4, 2), (2, 4), (0, 2)} <= ends
    assert pieces[-1][1] == pieces[0][0]


def test_outline_agrees_with_matplotlibs():
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif-Bold.ttf"
    for character in "RQ8g":
        theirs = TextPath((0, 0), character, size=100, prop=FontProperties(fname=path)).to_polygons(closed_only=True)
        box = np.concatenate(theirs)
        box = box.max(axis=0) - box.min(axis=0)
        start, _ = outlines._segments("DejaVuSerif-Bold", character)
        ours = (start.max(axis=0) - start.min(axis=0)) * 100 / 2048
        assert ours == pytest.approx(box, rel=0.02)


def draw_one(**changes):
    """Cover of one upright 20-pixel character in the middle, unless changed."""
    values = {"angle": 0, "shear": 0, "height": 20, "right": 0, "down": 0, "weight": 0} | changes
    fields = outlines.atlas(("DejaVuSans-Bold",), "HE")
    zero = np.zeros(1, dtype=np.int64)
    arrays = [
        np.asarray([values[key]], dtype=np.float32) for key in ("angle", "shear", "height", "right", "down", "weight")
    ]
    return glyphs.cover(fields, zero, zero, *arrays).reshape(32, 32)


def test_a_letter_where_it_should_be():
    cover = draw_one()
    rows, columns = np.flatnonzero(cover.max(axis=1) > 0.5), np.flatnonzero(cover.max(axis=0) > 0.5)
    assert (rows[0], rows[-1]) == (6, 25)  # 20 pixels high, in the middle
    assert columns[0] + columns[-1] == 31
    assert cover == pytest.approx(cover[:, ::-1], abs=0.02)  # H is symmetric
    start, end = outlines._segments("DejaVuSans-Bold", "H")
    area = abs((start[:, 0] * end[:, 1] - end[:, 0] * start[:, 1]).sum()) / 2 / start[:, 1].max() ** 2 * 20**2
    assert cover.sum() == pytest.approx(area, rel=0.05)


def test_moving_turning_and_thickening():
    cover = draw_one()
    assert draw_one(right=3, down=-2)[0:28, 5:30] == pytest.approx(cover[2:30, 2:27], abs=1e-5)
    assert draw_one(angle=1) == pytest.approx(np.rot90(cover, -1), abs=1e-4)  # clockwise; tan(90 degrees / 2) = 1
    slanted = draw_one(shear=0.5)  # row by row, by half a pixel each
    assert slanted.sum() == pytest.approx(cover.sum(), rel=0.02)
    columns = np.arange(32)
    middles = [(row * columns).sum() / row.sum() for row in slanted[8:24]]
    assert np.diff(middles) == pytest.approx(np.full(15, -0.5), abs=0.05)
    assert draw_one(weight=0.5).sum() > cover.sum() + 20
    assert draw_one(weight=-0.5).sum() < cover.sum() - 20
    assert draw_one(height=10).sum() == pytest.approx(cover.sum() / 4, rel=0.05)


def test_rotation_is_a_rotation():
    cosine, sine = textures.rotation(np.linspace(-1, 1, 9, dtype=np.float32))
    angle = 2 * np.arctan(np.linspace(-1, 1, 9))
    assert cosine[:, 0] == pytest.approx(np.cos(angle), abs=1e-6)
    assert sine[:, 0] == pytest.approx(np.sin(angle), abs=1e-6)


def test_colours_keep_their_luminance():
    hue = np.linspace(0, 1, 13, dtype=np.float32)
    for luminance in (0.1, 0.5, 0.8):
        colour = textures.colour(hue, np.full(13, 0.8, np.float32), np.full(13, luminance, np.float32))
        assert colour @ [0.30, 0.59, 0.11] == pytest.approx(np.full(13, luminance), abs=1e-5)
    red, green, blue = textures.colour(
        np.asarray([0, 1 / 3, 2 / 3], np.float32), np.ones(3, np.float32), np.full(3, 0.5)
    )
    assert (red.argmax(), green.argmax(), blue.argmax()) == (0, 1, 2)


@pytest.mark.parametrize("difficulty", glyphs.DIFFICULTIES)
def test_contrast_between_letter_and_ground(difficulty):
    level = glyphs.DIFFICULTIES[difficulty]
    dark, light = glyphs._luminances(textures.Draws(keys.key(0), np.arange(2000)), level)
    contrast = light - dark
    assert contrast.min() == pytest.approx(level.contrast[0], abs=0.01)
    assert contrast.max() == pytest.approx(level.contrast[1], abs=0.01)
    assert dark.min() >= 0.06
    assert light.max() <= 0.9401


def test_patterns_fill_their_range():
    level = glyphs.DIFFICULTIES["hard"]
    pattern = textures.pattern(textures.Draws(keys.key(5), np.arange(400)), level.plain, keys.key(6), np.arange(400))
    assert pattern.shape == (400, 1024)
    assert 0 <= pattern.min() < 0.01
    assert 0.99 < pattern.max() <= 1
    assert (pattern.std(axis=1) > 0.02).all()


def test_clouds_pass_through_their_lattice():
    clouds = textures.clouds(keys.key(1), np.arange(3), spacing=8).reshape(3, 32, 32)
    lattice = keys.uniform(keys.stream(keys.stream(keys.key(1), np.arange(3))[:, None], np.arange(25))).reshape(3, 5, 5)
    # pixel 7 lies half a pixel before lattice point 1: 3 s^2 - 2 s^3 at s = 15/16
    step = 3 * (15 / 16) ** 2 - 2 * (15 / 16) ** 3
    rows = lattice[:, 0] + (lattice[:, 1] - lattice[:, 0]) * step
    assert clouds[:, 7, 7] == pytest.approx(rows[:, 0] + (rows[:, 1] - rows[:, 0]) * step, abs=1e-6)


def test_noise_is_triangular_and_rounded():
    level = glyphs.DIFFICULTIES["hard"]
    grey = np.full((50, 3, 1024), 0.5, dtype=np.float32)
    pixels = textures.to_bytes(grey, level.noise, keys.key(2), np.arange(50)) / 255 - 0.5
    assert abs(pixels.mean()) < 0.003
    assert pixels.std() == pytest.approx(level.noise / 6**0.5, rel=0.02)  # of a triangle of this half width
    assert np.abs(pixels).max() <= level.noise + 0.003
    channels = pixels.transpose(1, 0, 2, 3).reshape(3, -1)
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.02
    assert textures.to_bytes(np.full((1, 3, 1024), 9, np.float32), level.noise, 0, np.arange(1)).min() == 255
