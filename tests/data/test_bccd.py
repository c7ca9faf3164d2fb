"""BCCD, on a miniature in its layout that is then broken in every way, and on the set where it lies."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import DataError, bccd
from PIL import Image

OBJECTS = [("RBC", 0, 0, 64, 48), ("WBC", 100, 50, 700, 500), ("Platelets", 30, 30, 30, 30)]
XML = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def seal(base, monkeypatch):
    digests = {}
    for part in bccd.SIZES:
        found = hashlib.sha256()
        for name in (base / "ImageSets" / "Main" / f"{part}.txt").read_text().split():
            found.update((base / "Annotations" / f"{name}.xml").read_bytes())
            found.update((base / "JPEGImages" / f"{name}.jpg").read_bytes())
        digests[part] = found.hexdigest()
    monkeypatch.setattr(bccd, "DIGESTS", digests)


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setattr(bccd, "SIZES", {"train": 3, "val": 1, "test": 2})
    base = tmp_path / "BCCD"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in bccd.SIZES.items():
        names = [f"{part}_{number}" for number in range(count)]
        (base / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
        for number, name in enumerate(names):
            Image.fromarray(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(
                base / "JPEGImages" / f"{name}.jpg"
            )
            objects = "".join(OBJECT.format(*each) for each in OBJECTS[: number + 1])
            (base / "Annotations" / f"{name}.xml").write_text(XML.format(objects))
    seal(base, monkeypatch)
    return base


def loaded(base, **options):
    return data.load("bccd", root=base.parent, download=False, **{"size": (48, 64), **options})


def test_it_is_what_the_files_hold(cells):
    found = loaded(cells)
    assert (len(found), found.classes, found.name, found.boxes) == (3, bccd.CLASSES, "bccd/train", True)
    red, white, empty = [0.0, 0.0, 6.4, 4.8, 0], [10.0, 5.0, 64.0, 48.0, 1], [-1.0] * 5
    expected = torch.tensor([[red, empty], [red, white], [red, white]])  # clipped, and without the one that is a point
    assert torch.allclose(found.targets, expected)
    assert found.provenance == "BCCD, its own split (sha256 checked; 3 photos at 48 x 64)"
    assert [len(loaded(cells, train=False, validation=each)) for each in (True, False)] == [1, 2]
    photo = np.asarray(Image.open(cells / "JPEGImages" / "train_0.jpg"))
    assert np.array_equal(loaded(cells, size=(480, 640)).images[0].permute(1, 2, 0), photo)


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("ImageSets/Main/train.txt", None, "train.txt is missing: set COMPACTVISION_DATA"),
        ("ImageSets/Main/train.txt", "train_0\n", "lists 1 photos instead of 3"),
        ("ImageSets/Main/train.txt", "train_0\ntrain_1\n../train_2\n", "lists 3 photos"),
        ("ImageSets/Main/train.txt", "train_1\ntrain_0\ntrain_2\n", "train part of .* do not match their digest"),
        ("Annotations/train_1.xml", "<annotation/>", "do not match their digest"),
        ("Annotations/train_1.xml", None, "train_1.xml is missing"),
        ("JPEGImages/train_1.jpg", "nothing", "do not match their digest"),
    ],
)
def test_damage_is_told(cells, path, content, message):
    if content is None:
        (cells / path).unlink()
    else:
        (cells / path).write_text(content)
    with pytest.raises(DataError, match=message):
        loaded(cells)


@pytest.mark.parametrize(
    "content", ["<a", XML.format(OBJECT.format("cat", 1, 2, 3, 4)), XML.format(OBJECT.format("RBC", "", 2, 3, 4))]
)
def test_notes_of_another_kind_are_told(cells, monkeypatch, content):
    (cells / "Annotations" / "train_1.xml").write_text(content)
    seal(cells, monkeypatch)
    with pytest.raises(DataError, match=r"train_1.xml has not the layout of Pascal VOC"):
        loaded(cells)


def test_bad_arguments_are_named(cells):
    with pytest.raises(ValueError, match="validation must be False where train is True"):
        loaded(cells, validation=True)
    with pytest.raises(ValueError, match="size must be"):
        loaded(cells, size=64)


def test_description(cells, monkeypatch, tmp_path):
    monkeypatch.setenv("COMPACTVISION_DATA", str(tmp_path))
    assert data.describe("bccd").present
    (cells / "JPEGImages").rename(cells / "Photos")
    assert not data.describe("bccd").present


def test_the_set_itself():
    root = Path(os.environ.get("COMPACTVISION_DATA", "/nonexistent"))
    if not (root / "BCCD").is_dir():
        pytest.skip("COMPACTVISION_DATA names no folder with BCCD")
    found = data.load("bccd", train=False, size=(48, 64))
    classes = found.targets[..., 4]
    assert [int((classes == number).sum()) for number in range(3)] == [805, 71, 69]
