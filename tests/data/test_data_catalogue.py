"""Names, descriptions, options, and the digits."""

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import catalogue
from sklearn.datasets import load_digits


def test_names():
    assert {"glyphs", "digits", "cifar10", "cifar100", "mnist", "fashion_mnist"} <= set(data.names())


def test_unknown_names_and_options():
    for call in (data.load, data.describe):
        with pytest.raises(ValueError, match=r"name must be one of glyphs, .*cifar10, .* got 'imagenet'"):
            call("imagenet")
    with pytest.raises(ValueError, match="options of glyphs are characters, difficulty, fonts, n, seed, not size"):
        data.load("glyphs", size=3)
    with pytest.raises(ValueError, match="options of digits are none, not n"):
        data.load("digits", n=3)
    with pytest.raises(ValueError, match="options of cifar10 are none, not difficulty, n"):
        data.load("cifar10", n=3, difficulty="easy")


def test_descriptions(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPACTVISION_DATA", str(tmp_path))
    described = {name: data.describe(name) for name in data.names()}
    assert described["cifar100"] == catalogue.Description(
        name="cifar100",
        images="50,000 + 10,000, 32x32 RGB",
        classes=100,
        embedded=False,
        present=False,
        licence="none stated by the authors; cite Krizhevsky 2009",
        mib=177,
    )
    assert described["mnist"].images == "60,000 + 10,000, 28x28 grey"
    assert described["glyphs"].embedded
    assert described["glyphs"].present
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        assert not data.describe("fashion_mnist").present
        (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "FashionMNIST" / "raw" / name).write_bytes(b"")
    assert data.describe("fashion_mnist").present


def test_digits():
    train, test = data.load("digits"), data.load("digits", train=False)
    assert (len(train), len(test)) == (1348, 449)
    assert (train.name, test.name, train.num_classes) == ("digits/train", "digits/test", 10)
    source = load_digits()
    pixels = torch.cat([train.images, test.images]).flatten(1).double() * 16 / 255
    targets = torch.cat([train.targets, test.targets])
    theirs = sorted(map(tuple, np.column_stack([source.data, source.target]).astype(int).tolist()))
    ours = sorted(map(tuple, torch.cat([pixels.round(), targets[:, None]], dim=1).int().tolist()))
    assert ours == theirs
    assert (pixels - pixels.round()).abs().max() < 0.04  # 16 levels, rounded to bytes
    everything = pixels / 16
    assert train.mean == pytest.approx([float(everything.mean())], abs=5e-4)
    assert train.std == pytest.approx([float(everything.std())], abs=5e-4)
