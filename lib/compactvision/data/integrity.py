"""Are the files of a set all there, readable and unchanged? Checked by digest, once in a process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from compactvision.data.errors import DataError

SUMS, PROVENANCE = "SHA256SUMS", "PROVENANCE.txt"
_checked: set[tuple] = set()  # (path, size, time of change, digest) of files found good


def own_digests(folder: Path, needed: tuple[str, ...]) -> str | None:
    """Check a folder against its own SHA256SUMS and return its PROVENANCE.txt, in one line.

    Parameters
    ----------
    folder : of one set.
    needed : names of the files that will be read; each must be listed.

    Returns
    -------
    The provenance; None where the folder carries neither file.

    Raises
    ------
    DataError
        Where only one of the two files is there, a line cannot be read, a needed file is not listed, or a listed file
        is missing, unreadable or changed.
    """
    sums, note = folder / SUMS, folder / PROVENANCE
    if not sums.exists() and not note.exists():
        return None
    listed = _parse(sums)
    for name in needed:
        if name not in listed:
            raise DataError(f"{sums} does not list {name}: unpack the set again so that list and files belong together")
    for name, digest in listed.items():
        _check(folder / name, "sha256", digest, f"its digest in {SUMS}: unpack the set again")
    text = " ".join(read_bytes(note).decode("utf-8", errors="replace").split())
    if not text:
        raise DataError(f"{note} is empty: it must say where the files came from; unpack the set again")
    return text


def official_digests(folder: Path, files: dict[str, str]) -> None:
    """Check files of a folder against md5 digests; ``DataError`` where one is missing, unreadable or changed."""
    for name, digest in files.items():
        _check(folder / name, "md5", digest, f"the official md5: delete {folder} and load the set again")


def digest_of_all(files: Sequence[Path], digest: str, what: str) -> None:
    """Check the SHA-256 of files one after the other; ``DataError`` where one is missing or the whole has changed."""
    found = hashlib.sha256()
    for path in files:
        found.update(read_bytes(path))
    if found.hexdigest() != digest:
        raise DataError(f"{what} is damaged, its files do not match their digest: unpack the set again")


def read_bytes(path: Path) -> bytes:
    """Read a whole file, or raise ``DataError`` with what to do."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _parse(sums: Path) -> dict[str, str]:
    """Read lines ``<64 hexadecimal digits>  <name>`` as sha256sum writes them."""
    listed = {}
    for number, line in enumerate(read_bytes(sums).decode("utf-8", errors="replace").splitlines(), start=1):
        digest, _, name = line.partition(" ")
        name = name.lstrip(" *")
        plain = name and Path(name).name == name
        if len(digest) != 64 or set(digest) - set("0123456789abcdef") or not plain:
            raise DataError(f"{sums}, line {number} is not '<sha256>  <file name>': unpack the set again")
        listed[name] = digest
    return listed


def _check(path: Path, method: str, digest: str, remedy: str) -> None:
    try:
        state = path.stat()
        seen = (str(path.resolve()), state.st_size, state.st_mtime_ns, digest)
        if seen in _checked:
            return
        with path.open("rb") as file:
            found = hashlib.file_digest(file, method).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
    if found != digest:
        raise DataError(f"{path} ({state.st_size:,} bytes) is damaged or truncated, it does not match {remedy}")
    _checked.add(seen)


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} is missing: unpack the set again, or delete {path.parent} and load it again")
    return DataError(f"{path} cannot be read ({error.strerror or error}): check its permissions and the disk")
