"""Where chapters' files lie: claims and records in the package, notebooks in the repository, runs in a cache.

``COMPACTVISION_BOOK`` names another folder with ``claims/``, ``records/`` and ``notebooks/`` in it, for
chapters that do not belong to this book (a teacher's own, or a test's).
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent.parent


def below_home(path: Path, variable: str) -> Path:
    """Return a path with its ``~`` replaced; ``ValueError`` naming the variable to set where there is no home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{variable}: {str(path)!r} needs a home folder, and there is none; set {variable}") from None


def _own_book() -> Path | None:
    folder = os.environ.get("COMPACTVISION_BOOK", "")
    return below_home(Path(folder), "COMPACTVISION_BOOK").resolve() if folder else None


def claims_folder() -> Path:
    """Return the folder of the chapters' claim files, ``<slug>.toml``."""
    return (_own_book() or PACKAGE) / "claims"


def records_folder() -> Path:
    """Return the folder of the chapters' records, ``<slug>/<profile>.json``."""
    return (_own_book() or PACKAGE) / "records"


def in_checkout() -> bool:
    """Tell whether records and notebooks belong to a working copy that a run may write to."""
    return _own_book() is not None or (PACKAGE.parent / "pyproject.toml").is_file()


def notebooks_folder() -> Path | None:
    """Return the folder of the notebooks, or None where the package was installed without the repository.

    Looked for: ``COMPACTVISION_BOOK``, the checkout that holds the package, then the working directory and
    the folders above it.
    """
    own = _own_book()
    if own is not None:
        return own / "notebooks"
    if in_checkout():
        return CHECKOUT / "notebooks"
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
            return folder / "notebooks"
    return None


def cache_folder() -> Path:
    """Return the folder of unfinished runs and locks: ``COMPACTVISION_CACHE`` or ``~/.cache/compactvision/runs``."""
    folder = os.environ.get("COMPACTVISION_CACHE", "")
    return below_home(Path(folder or "~/.cache/compactvision/runs"), "COMPACTVISION_CACHE")
