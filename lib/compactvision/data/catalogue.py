"""Every named set in one table: load it, or read what it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compactvision import _checks as checks
from compactvision.data import (
    bccd,
    composed,
    curves,
    digits,
    glyph_boxes,
    glyphs,
    masks,
    objects,
    official,
    photos,
    scenes,
)
from compactvision.data.arrays import ImageSet

# builder(train, **options) -> ImageSet; the options are the builder's own keyword arguments
BUILDERS: dict[str, Callable[..., ImageSet]] = {
    "glyphs": glyphs.load_glyphs,
    "glyph_boxes": glyph_boxes.load_glyph_boxes,
    "scenes": scenes.load_scenes,
    "composed": composed.load_composed,
    "far_cue": composed.load_far_cue,
    "objects": objects.load_objects,
    "curves": curves.load_curves,
    "digits": digits.load_digits,
    "photos": photos.load_photos,
    **{name: functools.partial(official.load_official, name) for name in official.SOURCES},
    "camvid": masks.load_camvid,
    "oxford_iiit_pet": masks.load_pets,
    "bccd": bccd.load_bccd,
}
EMBEDDED = {  # images, classes, licence
    "glyphs": ("any number, 32x32 RGB", 10, glyphs.LICENCE),
    "glyph_boxes": ("any number, 64x64 RGB with boxes", 10, glyph_boxes.LICENCE),
    "scenes": ("any number, 32x32 RGB with masks", 6, scenes.LICENCE),
    "composed": ("any number, 128x128 RGB with masks", 7, scenes.LICENCE),
    "far_cue": ("any number, 64x64 RGB with masks", 5, scenes.LICENCE),
    "objects": ("any number, 64x64 RGB with boxes", 3, scenes.LICENCE),
    "curves": ("any number, 64x64 grey", 2, curves.LICENCE),
    "digits": ("1,348 + 449, 8x8 grey", 10, digits.LICENCE),
    "photos": ("6, of any size, RGB", 6, photos.LICENCE),
}
PLACED = {  # images with masks or boxes, classes, licence, MiB
    "camvid": ("367 + 233 (and 101 to validate), 360x480 RGB with masks", 11, masks.CAMVID_LICENCE, 180),
    "oxford_iiit_pet": ("3,680 + 3,669, of any size, RGB with masks", 2, masks.PETS_LICENCE, 800),
    "bccd": ("205 + 72 (and 87 to validate), 480x640 RGB with boxes", 3, bccd.LICENCE, 8),
}


@dataclass(frozen=True)
class Description:
    """What a set is, for tables and the command line."""

    name: str
    images: str  # "50,000 + 10,000, 32x32 RGB"
    classes: int
    embedded: bool  # generated or part of a library: nothing to download
    present: bool  # generated, or its files lie in the library or the folder (not checked for damage)
    licence: str
    mib: int  # on disk; 0 for embedded sets


def names() -> tuple[str, ...]:
    """Return the names that :func:`load` knows."""
    return tuple(BUILDERS)


def load(
    name: str, *, train: bool = True, root: str | Path | None = None, download: bool = True, **options: object
) -> ImageSet:
    """Load the training or the test part of a named set.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    train : bool
        The training part, else the test part.
    root : path, optional
        Folder with the downloaded sets, in torchvision's layout; :func:`folder` where not given. Embedded sets
        ignore it.
    download : bool
        Fetch a missing set with torchvision. Present files are never fetched again, and nothing is written.
    options : keyword arguments
        Of the set, see :func:`~compactvision.data.glyphs.load_glyphs`.

    Raises
    ------
    ValueError
        Where the name or an option is unknown.
    DataError
        Where files are missing, damaged, truncated, not readable or not writable. Another set is never taken instead.
    """
    builder = _builder(name)
    checks.flags(train=train, download=download)
    if root is not None and not isinstance(root, (str, Path)):
        raise ValueError(f"root must be a path, got {checks.shown(root)}")
    accepted = dict(inspect.signature(builder).parameters)
    if "root" in accepted:
        own = set(accepted) - {"train", "root", "download"}
        return builder(train=train, root=root, download=download, **_known(name, options, own))
    return builder(train=train, **_known(name, options, set(accepted) - {"train"}))


def describe(name: str) -> Description:
    """Describe a named set without loading it.

    Raises
    ------
    ValueError
        Where the name is unknown.
    DataError
        Where ``COMPACTVISION_DATA`` is not a folder and the set is not embedded.
    """
    _builder(name)
    if name in EMBEDDED:
        images, classes, licence = EMBEDDED[name]
        return Description(name, images, classes, True, name != "photos" or photos.present(), licence, 0)
    if name in PLACED:
        images, classes, licence, mib = PLACED[name]
        there = bccd.present() if name == "bccd" else masks.present(name)
        return Description(name, images, classes, False, there, licence, mib)
    source = official.SOURCES[name]
    channels, height, width = source.shape
    images = f"{source.sizes[0]:,} + {source.sizes[1]:,}, {height}x{width} {'RGB' if channels == 3 else 'grey'}"
    return Description(name, images, source.num_classes, False, official.present(name), source.licence, source.mib)


def _builder(name: str) -> Callable[..., ImageSet]:
    checks.one_of(BUILDERS, name=name)
    return BUILDERS[name]


def _known(name: str, options: dict[str, object], accepted: set[str]) -> dict[str, object]:
    unknown = sorted(set(options) - accepted)
    if unknown:
        raise ValueError(f"options of {name} are {', '.join(sorted(accepted)) or 'none'}, not {', '.join(unknown)}")
    return options
