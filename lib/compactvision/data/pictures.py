"""One picture from a file as bytes: any depth, palettes, transparency, orientation, and what is no picture."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compactvision.data.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 89_478_485  # of one picture; more is what Pillow, too, takes for a bomb
_BITS, _FORMAT, _SIGNED = 258, 339, 2  # TIFF: tags of bits a sample and of their form, and the form with a sign
# What Pillow's readers raise for damaged files; a missing one would be a raw error, not a wrong picture.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError)
_DAMAGED += (NotImplementedError, AttributeError, struct.error, zlib.error)


def read_picture(file: Path, size: int | tuple[int, int]) -> np.ndarray:
    """Read one picture as (3, height, width) uint8; see :func:`~compactvision.data.from_folder` for the rules.

    ``size`` is one side of a square that is cut from the middle, or (height, width), to which the whole is resized.

    Raises
    ------
    DataError
        Naming the file: it is no picture, damaged, too large, or has values that eight bits cannot hold by the rules.
    """
    from PIL import Image

    return _fitted(_opened(file, _rgb), size, Image.Resampling.BICUBIC).transpose(2, 0, 1)


def read_mask(file: Path, size: int | tuple[int, int]) -> np.ndarray:
    """Read the class numbers of a mask as (height, width) uint8, placed as ``read_picture`` places the photo.

    Numbers are those that the file stores (places in a palette, where it has one); each pixel takes the nearest one.

    Raises
    ------
    DataError
        Naming the file: it is no picture, damaged, too large, or not of one channel of eight bits.
    """
    from PIL import Image

    def plain(image: Image.Image) -> Image.Image:
        if image.mode not in ("L", "P"):
            raise DataError(_said(file, f"a mask has one channel of eight bits, not mode {image.mode}"))
        return Image.fromarray(np.asarray(image))

    return _fitted(_opened(file, plain), size, Image.Resampling.NEAREST)


def _opened(file: Path, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Open a picture upright and convert it; whatever is wrong with it becomes a ``DataError``."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture is read or refused
            with Image.open(file) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise DataError(
                        _said(file, f"it has {opened.width} x {opened.height} pixels, above {MOST_PIXELS:,}")
                    )
                upright = ImageOps.exif_transpose(opened)
                return convert(_eight_bits(upright, opened, file))
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise DataError(_said(file, error)) from error


def _fitted(image: Image.Image, size: int | tuple[int, int], method: Image.Resampling) -> np.ndarray:
    from PIL import ImageOps

    if isinstance(size, int):
        return np.asarray(ImageOps.fit(image, (size, size), method=method))
    height, width = size
    return np.asarray(image.resize((width, height), method))


def _said(file: Path, why: object) -> str:
    return f"{file} cannot be read as an image ({why}): repair, convert or remove it"


def _rgb(image: Image.Image) -> Image.Image:
    """Put a picture of eight bits on white and make it RGB."""
    from PIL import Image

    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image, opened: Image.Image, file: Path) -> Image.Image:
    """Return a grey picture of more than eight bits, or of floats, with eight; others as they are.

    ``opened`` is the picture as the file has it, with the file's tags.
    """
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)  # (H, W)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise DataError(_said(file, f"its floats go from {values.min():g} to {values.max():g}, not within 0 to 1"))
        grey = values.astype(np.float64)
    else:
        values, range_ = _integers(opened, values)
        if values.min() < 0:
            raise DataError(_said(file, f"its values go down to {values.min()}, and 0 must be black"))
        if values.max() > values.min() and values.max() * 255 < range_:
            raise DataError(_said(file, f"its values end at {values.max()} of {range_}, and all would become black"))
        grey = values / range_
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(values == transparent, 1.0, grey)
    return Image.fromarray(np.rint(255 * grey).astype(np.uint8))


def _integers(opened: Image.Image, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a picture's integers, and the largest that its file could hold."""
    tags: Any = getattr(opened, "tag_v2", None)
    if tags is None:  # PNG, PGM and others that hold at most 16 bits
        return values.astype(np.int64), 2**16 - 1
    bits = int(tags.get(_BITS, (16,))[0])
    signed = tags.get(_FORMAT, (1,))[0] == _SIGNED
    if bits == 32 and not signed:
        values = values.view(np.uint32)  # Pillow's numbers have a sign
    return values.astype(np.int64), 2 ** (bits - signed) - 1
