"""The photographs of scikit-image and scikit-learn: what they are, how they are cut, what a missing one says."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import photos
from PIL import Image
from skimage.data import chelsea, coffee
from sklearn.datasets import load_sample_image


def test_they_are_six_squares_named_one_class_each():
    found = data.load("photos")
    assert found.images.shape == (6, 3, 224, 224)
    assert found.images.dtype == torch.uint8
    assert found.classes == ("coffee", "camera", "chelsea", "rocket", "flower", "china")
    assert found.targets.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.name == "photos"
    assert data.load("photos", train=False).digest() == found.digest()


def test_every_picture_is_the_one_that_its_package_shows():
    whole = {"coffee": coffee(), "chelsea": chelsea(), "china": load_sample_image("china.jpg")}
    found = data.load("photos", size=200, crop=1.0)
    for name, photo in whole.items():
        middle = found.images[found.classes.index(name)].permute(1, 2, 0).numpy()
        scale = 200 / min(photo.shape[:2])
        shape = [round(side * scale) for side in photo.shape[1::-1]]
        resized = np.array(Image.fromarray(photo).resize(shape, Image.Resampling.BICUBIC))
        left = (resized.shape[1] - 200) // 2
        assert np.array_equal(middle, resized[:, left : left + 200]), name
    assert len({bytes(image.numpy()) for image in found.images}) == 6


def test_the_grey_photograph_has_three_equal_channels():
    camera = data.load("photos").images[1]
    assert torch.equal(camera[0], camera[1])
    assert torch.equal(camera[0], camera[2])


def test_crop_is_the_share_of_the_shorter_side_that_stays():
    whole, half = data.load("photos", size=64, crop=1.0), data.load("photos", size=64, crop=0.5)
    inner = data.load("photos", size=128, crop=1.0).images[:, :, 32:96, 32:96]
    assert (half.images.float() - inner.float()).abs().mean() < 1
    assert (whole.images.float() - inner.float()).abs().mean() > 10


def test_batches_are_normalised_for_efficientnet_lite():
    found = data.load("photos")
    inputs, _ = next(iter(found.batches(6)))
    torch.testing.assert_close(inputs, (found.images.float() - 127) / 128)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"crop": 0}, r"crop must lie in \(0, 1\], not 0"),
        ({"crop": 1.5}, r"crop must lie in \(0, 1\], not 1.5"),
        ({"names": 2}, "options of photos are crop, size, not names"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("photos", **options)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    with pytest.raises(data.DataError, match=r"coffee is part of scikit-image.*run: pip install scikit-image$"):
        data.load("photos")
    assert not data.describe("photos").present


def test_a_missing_file_is_named(monkeypatch):
    monkeypatch.setitem(photos.FILES, "rocket", ("skimage", "data/no_rocket.jpg"))
    with pytest.raises(data.DataError, match=r"no_rocket.jpg is missing; install scikit-image anew"):
        data.load("photos")
    assert not data.describe("photos").present


def test_nothing_is_fetched(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a photograph was fetched")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert data.describe("photos").present
    assert len(data.load("photos")) == 6
    for package, file in photos.FILES.values():
        assert (Path(importlib.util.find_spec(package).origin).parent / file).is_file()


def test_licences_are_named():
    found = data.load("photos")
    assert all(name in found.provenance for name in found.classes)
    assert "CC BY 2.0 (flower: vultilion, china: danielbuechele)" in data.describe("photos").licence
