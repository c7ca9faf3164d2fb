"""CamVid and the Oxford-IIIT Pets, on miniatures in their layouts that are then broken in every way."""

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import DataError, masks
from PIL import Image
from torchvision import datasets


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(masks, "CAMVID_SIZES", {"train": 3, "val": 1, "test": 2})
    monkeypatch.setattr(masks, "PETS_SIZES", {"trainval": 3, "test": 2})


def write_camvid(root, suffix="png"):
    rng = np.random.default_rng(0)
    for part, count in masks.CAMVID_SIZES.items():
        for folder in (part, f"{part}annot"):
            (root / "CamVid" / folder).mkdir(parents=True)
        for number in range(count):
            photo = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(photo).save(root / "CamVid" / part / f"{part}_{number}.{suffix}", lossless=True)
            mask = ((np.arange(12 * 16).reshape(12, 16) // 8 + number) % 12).astype(np.uint8)
            Image.fromarray(mask).save(root / "CamVid" / f"{part}annot" / f"{part}_{number}.png")
    return root / "CamVid"


def write_pets(root):
    rng = np.random.default_rng(0)
    place = root / "oxford-iiit-pet"
    (place / "annotations" / "trimaps").mkdir(parents=True)
    (place / "images").mkdir()
    for part, count in masks.PETS_SIZES.items():
        names = [f"Cat_{part}_{number}" for number in range(count)]
        (place / "annotations" / f"{part}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
        for name in names:
            photo = rng.integers(0, 256, (10, 20, 3), dtype=np.uint8)
            Image.fromarray(photo).save(place / "images" / f"{name}.jpg")
            trimap = np.full((10, 20), 2, dtype=np.uint8)
            trimap[2:8, 7:13], trimap[3:7, 8:12] = 3, 1
            Image.fromarray(trimap).save(place / "annotations" / "trimaps" / f"{name}.png")
    return place


@pytest.fixture
def camvid(tmp_path):
    return write_camvid(tmp_path)


@pytest.fixture
def pets(tmp_path):
    return write_pets(tmp_path)


def street(place, **options):
    return data.load("camvid", root=place.parent, **{"download": False, "size": (12, 16), **options})


def animals(place, **options):
    return data.load("oxford_iiit_pet", root=place.parent, **{"download": False, "size": 10, **options})


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_camvid_is_what_the_files_hold(tmp_path, suffix):
    place = write_camvid(tmp_path, suffix)
    loaded = street(place)
    assert (len(loaded), loaded.num_classes, loaded.name) == (3, 11, "camvid/train")
    for number in range(3):
        photo = np.asarray(Image.open(place / "train" / f"train_{number}.{suffix}"))
        mask = np.asarray(Image.open(place / "trainannot" / f"train_{number}.png")).astype(np.int64)
        assert np.array_equal(loaded.images[number].permute(1, 2, 0), photo)
        assert np.array_equal(loaded.targets[number], np.where(mask == 11, masks.IGNORED, mask))
    assert loaded.provenance == f"CamVid, SegNet's split, from a folder (3 photos as {suffix}, 12 x 16)"
    assert sorted(loaded.targets.unique().tolist()) == [*range(11), 255]


def test_camvid_parts_and_sizes(camvid):
    names = [street(camvid, train=False, validation=flag).name for flag in (False, True)]
    assert names == ["camvid/test", "camvid/val"]
    half = street(camvid, size=(6, 8))
    assert half.images.shape == (3, 3, 6, 8)
    whole = street(camvid)
    assert set(half.targets.unique().tolist()) <= set(whole.targets.unique().tolist())  # nearest: no new numbers
    batch, targets = next(iter(whole.batches(2)))
    logits = torch.zeros(2, 11, *batch.shape[2:])
    loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=masks.IGNORED)
    assert float(loss) == pytest.approx(np.log(11))


def test_pets_are_what_the_files_hold(pets):
    loaded = animals(pets, n=2)
    assert loaded.images.shape == (2, 3, 10, 10)
    assert loaded.classes == ("background", "pet")
    expected = np.zeros((10, 10), dtype=np.int64)
    expected[2:8, 2:8], expected[3:7, 3:7] = 255, 1  # the middle of 10 x 20
    assert np.array_equal(loaded.targets[0], expected)
    assert (len(animals(pets)), len(animals(pets, train=False))) == (3, 2)
    assert torch.equal(animals(pets).images[:2], loaded.images)


def test_torchvision_reads_the_same_pets(pets, monkeypatch):
    monkeypatch.setattr(datasets.OxfordIIITPet, "_check_exists", lambda self: True)
    theirs = datasets.OxfordIIITPet(pets.parent, split="test", target_types="segmentation")
    ours = animals(pets, train=False)
    found = sorted(np.asarray(trimap)[:, 5:15].tobytes() for _, trimap in theirs)
    back = np.array([2, 1, *[3] * 254])
    assert found == sorted(back[target].astype(np.uint8).tobytes() for target in ours.targets.numpy())
    photos = sorted(np.asarray(photo.crop((5, 0, 15, 10))).tobytes() for photo, _ in theirs)
    assert photos == sorted(image.permute(1, 2, 0).contiguous().numpy().tobytes() for image in ours.images)


def unlink(*parts):
    return lambda place: place.joinpath(*parts).unlink()


def spoil(*parts, content=b"no picture"):
    return lambda place: place.joinpath(*parts).write_bytes(content)


def paint(*parts, value=12, mode="L"):
    return lambda place: Image.new(mode, (16, 12), value).save(place.joinpath(*parts))


def rename(*parts, to):
    return lambda place: place.joinpath(*parts).rename(place.joinpath(*parts[:-1], to))


DAMAGES = {
    "no folder": (rename("valannot", to="gone"), r"valannot is missing: set COMPACTVISION_DATA .*cannot be downloaded"),
    "no mask": (unlink("valannot", "val_0.png"), r"val_0 of .*val has no photo or no mask"),
    "no photo": (unlink("val", "val_0.png"), r"val_0 of .*val has no photo or no mask"),
    "neither": (
        lambda place: (unlink("val", "val_0.png")(place), unlink("valannot", "val_0.png")(place)),
        r"val holds 0 photos instead of 1",
    ),
    "twice": (
        lambda place: Image.new("RGB", (16, 12)).save(place / "val" / "val_0.webp"),
        r"photos twice, in two formats",
    ),
    "photo": (spoil("val", "val_0.png"), r"val_0\.png cannot be read as an image"),
    "mask": (spoil("valannot", "val_0.png", content=b""), r"val_0\.png cannot be read as an image"),
    "value": (paint("valannot", "val_0.png"), r"val_0\.png holds 12 to 12, not 0 to 11"),
    "colour": (paint("valannot", "val_0.png", value=(0, 0, 0), mode="RGB"), r"one channel of eight bits, not mode RGB"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_camvid_names_file_and_remedy(camvid, kind):
    change, message = DAMAGES[kind]
    change(camvid)
    with pytest.raises(DataError, match=message):
        street(camvid, train=False, validation=True)


PET_DAMAGES = {
    "list": (unlink("annotations", "test.txt"), r"test\.txt is missing and download=False"),
    "short": (spoil("annotations", "test.txt", content=b"Cat_test_0 1 1 1\n"), r"lists 1 photos instead of 2"),
    "photo": (unlink("images", "Cat_test_0.jpg"), r"Cat_test_0\.jpg cannot be read as an image"),
    "trimap": (unlink("annotations", "trimaps", "Cat_test_1.png"), r"Cat_test_1\.png cannot be read"),
    "value": (paint("annotations", "trimaps", "Cat_test_1.png", value=0), r"holds 0 to 0, not 1 to 3"),
}


@pytest.mark.parametrize("kind", PET_DAMAGES)
def test_damaged_pets_name_the_file(pets, kind):
    change, message = PET_DAMAGES[kind]
    change(pets)
    with pytest.raises(DataError, match=message):
        animals(pets, train=False)


def test_pets_are_fetched_once(tmp_path, monkeypatch):
    calls = []

    def fetch(root, download):
        calls.append(download)
        write_pets(root)

    monkeypatch.setattr(datasets, "OxfordIIITPet", fetch)
    for _ in range(2):
        assert len(data.load("oxford_iiit_pet", root=tmp_path / "new", size=8)) == 3
    assert calls == [True]


def test_a_failed_download_names_folder_and_remedy(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise RuntimeError("no connection")

    monkeypatch.setattr(datasets, "OxfordIIITPet", offline)
    with pytest.raises(
        DataError, match=r"oxford_iiit_pet: download to .* failed \(no connection\).*COMPACTVISION_DATA"
    ):
        data.load("oxford_iiit_pet", root=tmp_path)


def test_bad_arguments_are_named(camvid, pets):
    for options, message in (
        ({"size": 5}, "size must be"),
        ({"size": (5, 0)}, r"size\[1\]"),
        ({"validation": True}, "validation must be False where train is True"),
        ({"validation": 1}, "validation"),
        ({"n": 2}, "options of camvid are size, validation, not n"),
    ):
        with pytest.raises(ValueError, match=message):
            street(camvid, **options)
    for options, message in (({"size": 0}, "size"), ({"n": 0}, "n must"), ({"n": 4}, r"n must lie in \[1, 3\], got 4")):
        with pytest.raises(ValueError, match=message):
            animals(pets, **options)
    (camvid.parent / "file").write_text("")
    with pytest.raises(DataError, match=r"root .*file is not a folder"):
        masks.load_camvid(root=camvid.parent / "file")
    with pytest.raises(ValueError, match="root must be a path"):
        masks.load_pets(root=3)


def test_described(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPACTVISION_DATA", str(tmp_path))
    for name, write in (("camvid", write_camvid), ("oxford_iiit_pet", write_pets)):
        assert not data.describe(name).present
        write(tmp_path)
        assert data.describe(name).present
        assert not data.describe(name).embedded


def test_real_camvid(monkeypatch):
    monkeypatch.undo()
    if not masks.present("camvid"):
        pytest.skip("COMPACTVISION_DATA has no CamVid")
    loaded = data.load("camvid", train=False, validation=True, size=(96, 128))
    assert loaded.images.shape == (101, 3, 96, 128)
    assert sorted(loaded.targets.unique().tolist()) == [*range(11), 255]
