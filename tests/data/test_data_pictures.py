"""Pictures of every depth keep their values, and what is no picture of the set is refused or left out."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from compactvision.data import DataError, from_folder
from compactvision.data.pictures import read_picture
from PIL import Image

RAMP = np.tile(np.linspace(0, 1, 16), (16, 1))  # (H, W), black to white
EXPECTED = np.rint(255 * RAMP).astype(np.uint8)


def tiff(path, values, bits, form):
    """Write one strip of grey samples by hand: what Pillow cannot write."""
    data = values.tobytes()
    tags = [(256, values.shape[1]), (257, values.shape[0]), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, values.shape[0]), (279, len(data)), (339, form)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


def write(path, kind):
    if kind == "PNG of 16 bits":
        Image.fromarray(np.rint(65535 * RAMP).astype(np.uint16)).save(path, "PNG")
    elif kind == "TIFF of 16 bits":
        Image.fromarray(np.rint(65535 * RAMP).astype(np.uint16)).save(path, "TIFF")
    elif kind == "TIFF of 16 bits, big-endian":
        Image.frombytes("I;16B", (16, 16), np.rint(65535 * RAMP).astype(">u2").tobytes()).save(path, "TIFF")
    elif kind == "PGM of 16 bits":
        path.write_bytes(b"P5 16 16 65535\n" + np.rint(65535 * RAMP).astype(">u2").tobytes())
    elif kind == "TIFF of 16 bits with a sign":
        tiff(path, np.rint(32767 * RAMP).astype("<i2"), 16, 2)
    elif kind == "TIFF of 32 bits":
        Image.fromarray(np.rint((2**31 - 1) * RAMP).astype(np.int32)).save(path, "TIFF")
    elif kind == "TIFF of 32 bits without a sign":
        tiff(path, np.rint((2**32 - 1) * RAMP).astype("<u4"), 32, 1)
    elif kind == "TIFF of floats":
        Image.fromarray(RAMP.astype(np.float32)).save(path, "TIFF")
    elif kind == "PNG of 8 bits":
        Image.fromarray(EXPECTED).save(path, "PNG")


KINDS = ["PNG of 16 bits", "TIFF of 16 bits", "TIFF of 16 bits, big-endian", "PGM of 16 bits"]
KINDS += ["TIFF of 16 bits with a sign", "TIFF of 32 bits", "TIFF of 32 bits without a sign", "TIFF of floats"]


@pytest.mark.parametrize("kind", [*KINDS, "PNG of 8 bits"])
def test_a_ramp_stays_the_ramp(kind, tmp_path):
    write(tmp_path / "ramp", kind)
    read = read_picture(tmp_path / "ramp", 16)
    assert read.dtype == np.uint8
    for channel in read:
        np.testing.assert_array_equal(channel, EXPECTED)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.float32([[0, 255]]), "its floats go from 0 to 255, not within 0 to 1"),
        (np.float32([[-0.1, 1]]), "its floats go from -0.1 to 1"),
        (np.float32([[np.nan, 1]]), "its floats go from nan to nan"),
        (np.float32([[0, np.inf]]), "its floats go from 0 to inf"),
        (np.int32([[-5, 2**30]]), "its values go down to -5, and 0 must be black"),
        (np.int32([[0, 65535]]), "its values end at 65535 of 2147483647, and all would become black"),
        (np.uint16([[0, 255]]), "its values end at 255 of 65535, and all would become black"),
    ],
)
def test_values_that_eight_bits_cannot_hold_are_refused(values, said, tmp_path):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=said) as caught:
        read_picture(tmp_path / "a.tif", 2)
    assert str(tmp_path / "a.tif") in str(caught.value)


def test_a_black_picture_is_black(tmp_path):
    for values in (np.zeros((2, 2), np.uint16), np.zeros((2, 2), np.int32), np.zeros((2, 2), np.float32)):
        Image.fromarray(values).save(tmp_path / "a.tif")
        assert not read_picture(tmp_path / "a.tif", 2).any()


def test_a_deep_picture_is_turned_upright_and_its_clear_value_is_white(tmp_path):
    values = np.full((4, 4), 30000, np.uint16)
    values[0] = 65535
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    read = read_picture(tmp_path / "a.png", 4)
    assert read[0].tolist() == [[117] * 4] * 3 + [[255] * 4]
    Image.fromarray(values).save(tmp_path / "b.png", transparency=30000)
    assert set(read_picture(tmp_path / "b.png", 4).flat) == {255}


def palette(colours, index):
    image = Image.new("P", (4, 4), index)
    image.putpalette([value for colour in colours for value in colour])
    return image


PICTURES = {
    "palette": (palette([(0, 0, 0), (10, 20, 30)], 1), {}, (10, 20, 30)),
    "clear entry of a palette": (palette([(0, 0, 0), (10, 20, 30)], 1), {"transparency": 1}, (255, 255, 255)),
    "other entry of a palette": (palette([(0, 0, 0), (10, 20, 30)], 1), {"transparency": 0}, (10, 20, 30)),
    "half clear": (Image.new("RGBA", (4, 4), (100, 0, 200, 51)), {}, (224, 204, 244)),
    "grey and clear": (Image.new("LA", (4, 4), (0, 0)), {}, (255, 255, 255)),
    "grey, half clear": (Image.new("LA", (4, 4), (100, 51)), {}, (224, 224, 224)),
    "clear colour": (Image.new("RGB", (4, 4), (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255)),
    "one bit": (Image.new("1", (4, 4), 1), {}, (255, 255, 255)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_palettes_and_transparency(name, tmp_path):
    image, options, colour = PICTURES[name]
    image.save(tmp_path / "a.png", **options)
    assert {tuple(pixel) for pixel in read_picture(tmp_path / "a.png", 4).reshape(3, -1).T.tolist()} == {colour}


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_a_picture_that_moves(form, tmp_path):
    frames = [Image.new("RGB", (4, 4), (shade, shade, shade)) for shade in (200, 20, 90)]
    frames[0].save(
        tmp_path / "a", form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    assert set(read_picture(tmp_path / "a", 4).flat) == {200}


def bomb(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9_460, 9_460), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (0, 4)])
@pytest.mark.parametrize("limit", [None, 89_478_485])
def test_bombs_are_not_unpacked(size, limit, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(DataError, match=r"bomb\.png cannot be read as an image"):
        read_picture(tmp_path / "bomb.png", 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PNG of 16 bits", "TIFF of floats"])
def test_a_damaged_file_is_a_picture_or_an_error_that_names_it(kind, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    if " " in kind:
        write(path, kind)
    else:
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path, kind)
    good, refused = path.read_bytes(), []
    for _ in range(150):
        data = bytearray(good[: rng.integers(1, len(good))] if rng.random() < 0.3 else good)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            assert read_picture(path, 4).shape == (3, 4, 4)
        except DataError as error:
            refused.append(str(error))
    assert refused
    assert all(str(path) in said for said in refused)


@pytest.fixture
def folder(tmp_path):
    """Two classes of five pictures that all differ."""
    rng = np.random.default_rng(1)
    for name in ("ants", "bees"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(5):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "set" / name / f"{k}.png")
    return tmp_path / "set"


def count(folder):
    return sum(map(len, from_folder(folder, size=8)))


@pytest.mark.parametrize(
    "name",
    [
        "ants/.ipynb_checkpoints/0-checkpoint.png",
        "ants/deeper/.hidden/x.png",
        "ants/.DS_Store",
        "ants/._0.png",
        "ants/__MACOSX/._0.png",
        "ants/__MACOSX/0.png",
        "ants/deeper/Thumbs.db",
        "__MACOSX/ants/0.png",
        ".git/config",
        ".ipynb_checkpoints/a.png",
        "ants/desktop.ini",
    ],
)
def test_what_is_hidden_is_left_out(name, folder):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((folder / "ants" / "0.png").read_bytes()[:-30])  # read, it would be an error
    assert count(folder) == 10
    assert from_folder(folder, size=8)[0].classes == ("ants", "bees")


def test_a_set_below_a_hidden_folder_is_read(folder, tmp_path):
    (tmp_path / ".cache").mkdir()
    assert count(folder.rename(tmp_path / ".cache" / "set")) == 10


def keys(part):
    return {picture.numpy().tobytes() for picture in part.images}


@pytest.mark.parametrize("seed", range(8))
def test_equal_pictures_stay_on_one_side(seed, folder):
    for name in ("ants", "bees"):
        for k in range(5):
            data = (folder / name / f"{k}.png").read_bytes()
            for copy in range(k):
                (folder / name / f"copy {copy} of {k}.png").write_bytes(data)  # equal bytes
            Image.open(io.BytesIO(data)).save(folder / name / f"{k}.bmp")  # equal pixels
    other = folder / "bees" / "also an ant.png"
    other.write_bytes((folder / "ants" / "3.png").read_bytes())  # in two classes
    train, test = from_folder(folder, size=8, seed=seed)
    assert len(train) + len(test) == 2 * (5 + 10 + 5) + 1
    assert not keys(train) & keys(test)
    assert (len(keys(train)), len(keys(test))) == (8, 2)
    again = from_folder(folder, size=8, seed=seed)
    other.rename(folder / "bees" / "renamed.png")
    renamed = from_folder(folder, size=8, seed=seed)
    for one, two, three in zip((train, test), again, renamed, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.images, three.images)
        assert torch.equal(one.targets, three.targets)


def test_without_copies_the_split_is_that_of_the_set(folder):
    train, test = from_folder(folder, size=8, seed=3)
    whole = train.subset(np.arange(len(train)))
    whole = type(whole)(
        **{
            **whole.__dict__,
            "images": torch.cat([train.images, test.images]),
            "targets": torch.cat([train.targets, test.targets]),
        }
    )
    for one, two in zip(whole.split(0.8, 3), (train, test), strict=True):
        assert torch.equal(one.images, two.images)


def test_a_class_of_copies_cannot_be_in_both_parts(folder):
    (folder / "cats").mkdir()
    for k in range(6):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / "cats" / f"{k}.png")
    with pytest.raises(ValueError, match="class 'cats' has 6 images, of which 1 differ, too few for both parts"):
        from_folder(folder, size=8)


def test_a_class_of_one_and_an_empty_one(folder):
    (folder / "cats").mkdir()
    with pytest.raises(DataError, match="cats has no images: add some, or remove"):
        from_folder(folder, size=8)
    (folder / "cats" / ".hidden.png").write_bytes(b"x")
    with pytest.raises(DataError, match="cats has no images: add some, or remove"):
        from_folder(folder, size=8)
    Image.new("RGB", (8, 8)).save(folder / "cats" / "a.png")
    with pytest.raises(ValueError, match="class 'cats' has 1 images, too few for both parts"):
        from_folder(folder, size=8)


def test_names_in_any_script(folder, tmp_path):
    (folder / "ants").rename(folder / "蚂蚁 🐜")
    (folder / "bees").rename(folder / "Bienen & Hummeln (ö)")
    (folder / "蚂蚁 🐜" / "0.png").rename(folder / "蚂蚁 🐜" / "ein Bild – é.png")
    moved = folder.rename(tmp_path / "Bilder ü")
    train, _ = from_folder(moved, size=8)
    assert train.classes == ("Bienen & Hummeln (ö)", "蚂蚁 🐜")
    assert count(moved) == 10


def test_links(folder, tmp_path):
    (folder / "ants" / "round").symlink_to(folder / "ants")  # not followed
    (folder / "ants" / "up").symlink_to(tmp_path)
    (tmp_path / "elsewhere.png").write_bytes((folder / "ants" / "0.png").read_bytes())
    (folder / "ants" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    assert count(folder) == 11
    for target in (tmp_path / "nowhere.png", folder / "bees" / "loop.png"):
        (folder / "bees" / "loop.png").symlink_to(target)
        with pytest.raises(DataError, match=r"loop\.png is a link to nothing"):
            from_folder(folder, size=8)
        (folder / "bees" / "loop.png").unlink()
    for target in (folder, tmp_path):
        (folder / "self").symlink_to(target)
        with pytest.raises(DataError, match=r"self is a link to a folder that holds it"):
            from_folder(folder, size=8)
        (folder / "self").unlink()


def test_what_is_no_file_or_folder(folder):
    os.mkfifo(folder / "ants" / "pipe.png")
    assert count(folder) == 10
    for path in (folder / "ants" / "0.png", "a\0b", folder / "nowhere"):
        with pytest.raises(DataError, match="is not a folder"):
            from_folder(path)
