"""A reader's own images."""

import shutil

import numpy as np
import pytest
import torch
from compactvision.data import DataError, from_folder
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Three classes of ten 12 x 8 pictures, each of one grey level of its own with a little pattern."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("ants", "bees", "cats")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(10):
            pixels = np.clip(80 * label + rng.integers(0, 60, (8, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{k}.png")
    return tmp_path / "set"


def test_parts(photos):
    train, test = from_folder(photos, size=8)
    assert (len(train), len(test)) == (24, 6)
    assert train.images.shape[1:] == (3, 8, 8)
    assert train.classes == ("ants", "bees", "cats")
    assert torch.bincount(train.targets).tolist() == [8, 8, 8]
    assert (train.name, test.name) == ("set/train", "set/test")
    assert train.provenance == "own images from the folder 'set' (30 files)"
    channels = train.images.double().permute(1, 0, 2, 3).flatten(1) / 255
    assert train.mean == pytest.approx(channels.mean(1).tolist())
    assert train.std == pytest.approx(channels.std(1, correction=0).tolist())
    assert (test.mean, test.std) == (train.mean, train.std)


def test_middle_square_without_resizing(photos):
    path = photos / "ants" / "0.png"
    middle = np.asarray(Image.open(path))[:, 2:10].transpose(2, 0, 1)
    train, test = from_folder(photos, size=8)
    everything = torch.cat([train.images, test.images]).numpy()
    assert (everything == middle).all(axis=(1, 2, 3)).sum() == 1


def test_size(photos):
    train, _ = from_folder(photos, size=16)
    assert train.images.shape[1:] == (3, 16, 16)


def test_names_of_files_do_not_matter(photos, tmp_path):
    other = tmp_path / "other"
    for k, file in enumerate(sorted(photos.rglob("*.png"), reverse=True)):
        place = other / file.parent.name / ("deeper" if k % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / f"renamed{k}.png")
    for one, two in zip(from_folder(photos, seed=4), from_folder(other, seed=4), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.targets, two.targets)


def test_files_of_file_managers_are_ignored(photos):
    (photos / "ants" / ".DS_Store").write_bytes(b"x")
    (photos / "ants" / "Thumbs.db").write_bytes(b"x")
    (photos / ".git").mkdir()
    assert sum(map(len, from_folder(photos, size=8))) == 30


def only(photos, image):
    """Save an image in a class of its own, beside another one, and return how it is read."""
    (photos / "zebras").mkdir()
    image.save(photos / "zebras" / "0.png")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(photos / "zebras" / "1.png")
    parts = from_folder(photos, size=4, train_fraction=0.5)
    read = torch.cat([part.images[part.targets == 3] for part in parts])
    return next(picture for picture in read if picture[:, 0, 0].tolist() != [1, 2, 3])


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
def test_other_modes_become_rgb(photos, mode):
    grey = Image.new("L", (4, 4), 255).convert(mode)
    assert only(photos, grey).unique().tolist() == [255]


def test_palette_colours(photos):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert only(photos, image)[:, 0, 0].tolist() == [10, 20, 30]


def test_transparent_parts_become_white(photos):
    assert only(photos, Image.new("RGBA", (4, 4), (9, 9, 9, 0))).unique().tolist() == [255]


def test_photographs_are_turned_upright(photos):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[0] = 255  # a white row on top; orientation 3 says: turn by 180 degrees
    (photos / "zebras").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    for k in range(2):
        Image.fromarray(pixels + np.uint8(k) * 9).save(photos / "zebras" / f"{k}.png", exif=exif)
    parts = from_folder(photos, size=4, train_fraction=0.5)
    read = torch.cat([part.images[part.targets == 3] for part in parts])
    assert sorted(picture[0].tolist() for picture in read)[0] == [[0] * 4] * 3 + [[255] * 4]


def test_files_that_are_no_images(photos):
    (photos / "bees" / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt cannot be read as an image .*: repair, convert or remove it"):
        from_folder(photos)


def test_truncated_image(photos):
    file = photos / "cats" / "3.png"
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"cats.3\.png cannot be read"):
        from_folder(photos)


def test_empty_class(photos):
    (photos / "dogs").mkdir()
    with pytest.raises(DataError, match="dogs has no images: add some, or remove"):
        from_folder(photos)


def test_fewer_than_two_classes(photos, tmp_path):
    with pytest.raises(DataError, match="ants has 0 sub-folders: at least two"):
        from_folder(photos / "ants")
    with pytest.raises(DataError, match=r"nowhere is not a folder: it must hold one sub-folder"):
        from_folder(tmp_path / "nowhere")


def test_bad_arguments(photos):
    with pytest.raises(ValueError, match="size must be at least 1, not 0"):
        from_folder(photos, size=0)
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\), not 1"):
        from_folder(photos, train_fraction=1)
    (photos / "dogs").mkdir()
    Image.new("RGB", (4, 4)).save(photos / "dogs" / "a.png")
    with pytest.raises(ValueError, match="class 'dogs' has 1 images, too few for both parts"):
        from_folder(photos)
