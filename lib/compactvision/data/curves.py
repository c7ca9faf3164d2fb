"""Regular and shaky curves: words in outline, or pen strokes, drawn with a steady or with a trembling hand.

The pictures are drawn by this file and show nobody's handwriting. The two classes differ in one thing: along the curves
of the second, a tremor on three scales pushes the pen to either side. Word, font, size, slant, place and pen are drawn
from the same random numbers for both.

Sample ``i`` is a function of (seed, part, ``i``) and nothing else, so a small set is the beginning of a larger one.
All random numbers are integer hashes, and places use only additions, multiplications, divisions and square roots on
arrays, which round alike on every machine: the same seed gives the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch

from compactvision import _checks as checks
from compactvision.data import curve_paths, curve_pen, keys
from compactvision.data.arrays import ImageSet
from compactvision.data.curve_paths import FONTS, TASKS, WORDS, Paths
from compactvision.data.glyphs import class_numbers
from compactvision.data.textures import Draws

CLASSES = ("regular", "shaky")
LICENCE = "generated; fonts DejaVu, STIX, Computer Modern as matplotlib ships them"
MATCHES = ("nothing", "ink", "length")
SIZE = 64
MEAN, STD = (0.092,), (0.244,)  # of the default set, about

_CHUNK = 64
_CLASS, _NUISANCE, _PATH, _TREMOR = range(4)  # separate streams of random numbers
_KNOTS = ((8.0, 0.7), (4.0, 0.5), (2.0, 0.3))  # the tremor: spacing of its knots in 64ths of the side, and weight
_DASH = 20.0  # with match="length" a dash and the gap behind it, in 64ths of the side
_KEPT = 0.7  # share of an unshaken curve that is drawn with match="length"


@dataclass(frozen=True, eq=False)
class Curves:
    """Pictures with what was drawn: all tensors have one entry for each picture.

    Attributes
    ----------
    images : Tensor
        (N, 1, S, S) uint8, ink bright on dark ground.
    labels : Tensor
        (N,) int64, numbers of :data:`CLASSES`.
    scale : Tensor
        (N,) float64, share of the side that the larger extent of the unshaken drawing takes.
    turn : Tensor
        (N,) float64, tangent of half the angle of its rotation.
    pen : Tensor
        (N,) float64, width of the line in pixels.
    length : Tensor
        (N,) float64, length of the line in pixels, tremor included and gaps left out.
    font : Tensor
        (N,) int64, number in ``FONTS["all"]``; -1 for handwriting.
    words : tuple of str
        What is written; empty for handwriting.
    name, provenance : str
        As in :class:`~compactvision.data.ImageSet`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    scale: torch.Tensor
    turn: torch.Tensor
    pen: torch.Tensor
    length: torch.Tensor
    font: torch.Tensor
    words: tuple[str, ...]
    name: str
    provenance: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ink(self) -> torch.Tensor:
        """Sum of each picture, 1 for a pixel that is full of ink: (N,) float64."""
        return self.images.flatten(1).long().sum(1).double() / 255

    def image_set(self) -> ImageSet:
        """Return pictures and classes as an image set."""
        return ImageSet(self.images, self.labels, CLASSES, self.name, self.provenance, MEAN, STD)


def make(
    n: int,
    *,
    train: bool = True,
    task: str = "words",
    amplitude: float = 1.4,
    match: str = "nothing",
    fonts: str = "all",
    words: str = "all",
    size: int = SIZE,
    seed: int = 0,
) -> Curves:
    """Draw regular and shaky curves.

    Parameters
    ----------
    n : int
        Number of pictures. The first ``n`` of a larger set with the same options are this set; any beginning has
        equal class counts, to within one.
    train : bool
        The two parts share no random number; they share fonts and words unless these options say otherwise.
    task : {"words", "handwriting"}
        Outlines of two to four lower-case letters of a font, or one stroke with loops and arches.
    amplitude : float
        Of the tremor, in 64ths of the side. At 0 the two classes are the same thing.
    match : {"nothing", "ink", "length"}
        A tremor makes a line longer. ``"ink"``: each picture gets the pen that leaves the ink of the same picture
        without tremor. ``"length"``: all lines are dashed, the shaky ones with wider gaps, so that about
        as many pixels of line are left; and the ink is matched as well.
    fonts : {"all", "train", "test"}
        All ten, six for learning, or four of other families.
    words : {"all", "train", "test"}
        All words, or words of which every pair of neighbouring letters belongs to one of two halves.
    size : int
        Height and width in pixels, 32 to 256; everything drawn scales with it.
    seed : int
        Of everything.

    Raises
    ------
    ValueError
        For an option out of its range, or fonts or words of a handwriting, which has none.
    """
    checks.flags(train=train)
    checks.whole(seed=seed)
    _validate(n, task, amplitude, match, fonts, words, size)
    part = keys.key(seed, 0 if train else 1, 0xC04BE5, TASKS.index(task))
    labels = class_numbers(keys.key(part, _CLASS), n, len(CLASSES))
    drawn = [
        _draw(
            part, labels[k : k + _CHUNK], np.arange(k, min(k + _CHUNK, n)), task, amplitude, match, fonts, words, size
        )
        for k in range(0, n, _CHUNK)
    ]
    facts = [
        f"task {task}",
        f"amplitude {amplitude:g}",
        f"match {match}",
        f"size {size}",
        f"seed {seed}",
        f"{n} images",
    ]
    if task == "words":
        outlines = hashlib.sha256(curve_paths.alphabet(FONTS[fonts]).points.tobytes()).hexdigest()[:8]
        facts[1:1] = [f"fonts {fonts}", f"words {words}", f"outlines {outlines}"]
    columns = {name: np.concatenate([chunk[name] for chunk in drawn]) for name in drawn[0] if name != "words"}
    return Curves(
        **{name: torch.from_numpy(column) for name, column in columns.items()},
        labels=torch.from_numpy(labels),
        words=tuple(word for chunk in drawn for word in chunk["words"]),
        name=f"curves/{'train' if train else 'test'}",
        provenance=f"generated curves ({', '.join(facts)})",
    )


def load_curves(
    train: bool = True,
    *,
    n: int | None = None,
    task: str = "words",
    amplitude: float = 1.4,
    match: str = "nothing",
    fonts: str = "all",
    words: str = "all",
    size: int = SIZE,
    seed: int = 0,
) -> ImageSet:
    """Draw curves and return them as an image set; options are those of :func:`make`, 2,400 and 600 where n is None."""
    checks.flags(train=train)
    n = (2_400 if train else 600) if n is None else n
    options = {"task": task, "amplitude": amplitude, "match": match, "fonts": fonts, "words": words, "size": size}
    return make(n, train=train, seed=seed, **options).image_set()


def _draw(part, labels, numbers, task, amplitude, match, fonts, words, size) -> dict[str, np.ndarray | list[str]]:
    """Draw one chunk of pictures; ``part``, ``labels`` and ``numbers`` decide all that is random."""
    unit = size / 64
    nuisance = Draws(keys.key(part, _NUISANCE), numbers)
    pen = nuisance.between(0.9, 1.7).astype(np.float64) * unit  # (B,)
    phase = nuisance.uniform().astype(np.float64)
    path_key = keys.key(part, _PATH)
    paths = curve_paths.paths(nuisance, path_key, numbers, task, fonts, words, size)
    tremor = amplitude * unit * labels  # (B,) pixels
    shaken = _shake(paths, tremor, keys.stream(keys.key(part, _TREMOR), numbers), unit)
    length, straight = _lengths(paths, shaken), _lengths(paths, paths.xy)
    share = _KEPT * straight / length if match == "length" else np.full(len(numbers), 1.0)  # of the line that is drawn
    distance = curve_pen.distances(
        *curve_pen.line(paths, shaken, _inked(paths, share, phase, unit)), len(numbers), size
    )  # (B, P)
    half = pen / 2
    if match != "nothing":
        steadily = np.full(len(numbers), _KEPT if match == "length" else 1.0)
        steady = curve_pen.distances(
            *curve_pen.line(paths, paths.xy, _inked(paths, steadily, phase, unit)), len(numbers), size
        )
        half = curve_pen.other_pen(distance, unit, curve_pen.ink(steady, half))
    return {
        "images": curve_pen.cover(distance, half).reshape(-1, 1, size, size),
        "scale": paths.scale,
        "turn": paths.turn,
        "pen": 2 * half,
        "length": length * share,
        "font": paths.font,
        "words": paths.words,
    }


def _shake(paths: Paths, tremor: np.ndarray, base: np.ndarray, unit: float) -> np.ndarray:
    """Push each point along the normal of its curve by noise on three scales: (T, 2) pixels.

    Parameters
    ----------
    paths : the curves.
    tremor : (B,) amplitude in pixels of each picture.
    base : (B,) uint64 keys of the pictures.
    unit : pixels in a 64th of the side.
    """
    curve = np.repeat(np.arange(len(paths.count)), paths.count)  # (T,)
    behind, before = paths.neighbours(curve)
    along = paths.xy[before] - paths.xy[behind]  # (T, 2)
    norm = np.sqrt(along[:, 0] * along[:, 0] + along[:, 1] * along[:, 1])
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(norm, 1e-9)[:, None]
    offset = np.zeros(len(paths.xy))
    place = np.arange(len(paths.xy)) - paths.first[curve]
    for scale, (spacing, weight) in enumerate(_KNOTS):
        knots = np.maximum(np.floor(paths.length / (spacing * unit) + 0.5).astype(np.int64), 2)  # (curves,)
        position = place * (knots[curve] / (paths.count[curve] - (not paths.closed)))
        knot = np.minimum(np.floor(position).astype(np.int64), knots[curve] - 1)
        share = position - knot
        share = share * share * (3 - 2 * share)
        following = knot + 1
        if paths.closed:
            following = np.where(following == knots[curve], 0, following)
        stream = keys.stream(base[paths.image], np.int64(scale) + 3 * paths.number[curve])
        low, high = _gaussian(keys.stream(stream, knot)), _gaussian(keys.stream(stream, following))
        offset += weight * (low + (high - low) * share)
    return paths.xy + normal * (offset * tremor[paths.image])[:, None]


def _gaussian(bits: np.ndarray) -> np.ndarray:
    """Return the sum of four 16-bit numbers, with mean 0 and standard deviation 1: nearly normal."""
    total = np.zeros(bits.shape)
    for shift in (0, 16, 32, 48):
        total += ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64)
    return (total - 2 * 65535) * (math.sqrt(3) / 65536)


def _lengths(paths: Paths, xy: np.ndarray) -> np.ndarray:
    """Return the length of all curves of each picture in pixels, (B,), summed in whole 4096ths."""
    curve = np.repeat(np.arange(len(paths.count)), paths.count)
    step = xy[paths.neighbours(curve)[1]] - xy
    pieces = np.sqrt(step[:, 0] * step[:, 0] + step[:, 1] * step[:, 1])
    whole = np.floor(pieces * 4096 + 0.5).astype(np.int64)
    starts = np.flatnonzero(np.diff(paths.image, prepend=-1))
    return np.add.reduceat(whole, starts) / 4096


def _inked(paths: Paths, share: np.ndarray, phase: np.ndarray, unit: float) -> np.ndarray:
    """Return which points (T,) lie on a dash, if dashes take this share (B,) of the line and begin at a phase (B,)."""
    along = paths.along / (_DASH * unit) + phase[paths.image]
    return along - np.floor(along) < share[paths.image]


def _validate(n, task, amplitude, match, fonts, words, size) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n must be a whole number of at least 1, not {n!r}")
    checks.whole(size=size)
    checks.numbers(amplitude=amplitude)
    for label, value, known in (
        ("task", task, TASKS),
        ("match", match, MATCHES),
        ("fonts", fonts, tuple(FONTS)),
        ("words", words, WORDS),
    ):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{label} must be one of {', '.join(known)}, not {value!r}")
    if not 0 <= amplitude <= 8:
        raise ValueError(f"amplitude must lie in [0, 8], not {amplitude}")
    if not 32 <= size <= 256:
        raise ValueError(f"size must lie in [32, 256], not {size}")
    if task == "handwriting" and (fonts, words) != ("all", "all"):
        raise ValueError(f"fonts and words must be 'all' for a handwriting, not {fonts!r} and {words!r}")
