"""Checkpoints: one file, replaced atomically, that only the run which wrote it can continue."""

import contextlib
import hashlib
import io
import os
import pickle
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .description import differences
from .digests import digest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FORMAT = 3
REMEDY = "give another path, or delete it to start anew"


class Checkpoint:
    """All states of a run in one file at `path`; with path None nothing is read or written.

    Parameters
    ----------
    path : path or None
        The file; missing folders are made. It is read by ``torch.load(weights_only=True)``.
    describe : callable () -> dict
        What recognises the run (:func:`compactvision.training.description.describe`); asked for only where there is a
        path. A file of another run is refused.
    parts : objects with ``state_dict`` and ``load_state_dict``
        Loaded in this order.

    Raises
    ------
    ValueError
        `path` is no path or a folder, or the file there is damaged, no checkpoint, or that of another run.
    """

    def __init__(self, path: str | os.PathLike | None, describe: Callable[[], dict], **parts: Any):
        self.path, self.parts = checked_path(path), parts
        self.tried = False  # whether a first file was seen to be readable
        self.run = {} if self.path is None else describe()
        self.stored = self._read()

    def _read(self) -> dict | None:
        if self.path is None or not _is_there(self.path):
            return None
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what the damaged place brings about
            said = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
            reason = said[0] if said and isinstance(error, (OSError, RuntimeError)) else "it is no file of torch"
            raise ValueError(f"checkpoint={str(self.path)!r} cannot be read ({reason}); {REMEDY}") from error
        self._check(stored)
        return stored

    def _check(self, stored: Any) -> None:
        found = stored.get("format") if isinstance(stored, dict) else None
        if not isinstance(found, int) or found != FORMAT:
            older = "" if not isinstance(found, int) else f" (it is of format {found})"
            raise ValueError(
                f"checkpoint={str(self.path)!r} is no checkpoint of fit in format {FORMAT}{older}; {REMEDY}"
            )
        content = stored.keys() - {"digest"}
        if content != {"format", "run", "parts"} or stored.get("digest") != digest(stored["run"], stored["parts"]):
            raise ValueError(f"checkpoint={str(self.path)!r} is damaged: its content is not what was written; {REMEDY}")
        others = differences(stored["run"], self.run)
        if others:
            more = f" (and {len(others) - 3} more)" if len(others) > 3 else ""
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to a different run: {'; '.join(others[:3])}{more}; {REMEDY}"
            )

    def load(self) -> str | None:
        """Put all parts into the stored states, if there are any; returns where they came from.

        Raises
        ------
        ValueError
            A stored state does not fit its part.
        OSError
            There is no file yet, and none could be written.
        """
        if self.path is None:
            return None
        if self.stored is None:
            with _named_error(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with _partial(self.path):
                    pass
            return None
        for name, part in self.parts.items():
            try:
                part.load_state_dict(self.stored["parts"][name])
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
                raise ValueError(
                    f"checkpoint={str(self.path)!r} does not fit, state of {name}: {error}; {REMEDY}"
                ) from error
        self.stored = None
        return str(self.path)

    def save(self) -> str | None:
        """Replace the file by the present states; the previous one stays whole until the new one is on the disk.

        Raises
        ------
        OSError
            The file cannot be written (disk full, read-only); the previous one is unchanged.
        ValueError
            A callback's state holds something that ``torch.load(weights_only=True)`` would not read.
        """
        if self.path is None:
            return None
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        buffer = io.BytesIO()
        content = {"format": FORMAT, "run": self.run, "parts": parts, "digest": digest(self.run, parts)}
        torch.save(content, buffer)
        if not self.tried:
            _check_readable(buffer)
            self.tried = True
        write_atomically(self.path, buffer.getbuffer())
        return str(self.path)


def _check_readable(buffer: io.BytesIO) -> None:
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"callbacks: a state_dict holds more than tensors and plain Python data ({error})") from error


def checked_path(path: Any) -> Path | None:
    """Return the path of a checkpoint; a ``ValueError`` names one that no file can have."""
    if path is None:
        return None
    try:
        possible = isinstance(path, (str, os.PathLike)) and b"\0" not in os.fsencode(path)
    except UnicodeError:
        possible = False
    if not possible:
        raise ValueError(f"checkpoint must be the path of a file, not {path!r}")
    found = Path(os.fsdecode(path))
    if os.path.isdir(found):
        raise ValueError(f"checkpoint={str(path)!r} cannot be read: it is a folder; name a file in it")
    return found


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ValueError(f"checkpoint={str(path)!r} cannot be read ({error.strerror}); name another file") from error


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that at every moment `path` holds either the old or the new content, whole.

    Several processes may write the same path: each has a file of its own until it is whole, and the last one stays.
    What writers that were killed have left is removed.

    Raises
    ------
    OSError
        The file cannot be written; what was there before is unchanged.
    """
    with _named_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(path)
        with _partial(path) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    with contextlib.suppress(OSError):  # the new file is in place already
        _sync_folder(path.parent)


@contextlib.contextmanager
def _named_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"checkpoint {path} could not be written ({error.strerror or error})"
        raise OSError(error.errno, f"{reason}; the previous one, if any, is unchanged") from error


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Make an empty hidden file beside `path`, locked until the end, when it is removed if it is still there."""
    descriptor, temporary = _locked(path)
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


def _locked(path: Path) -> tuple[int | None, Path]:
    while True:
        temporary = path.with_name(f"{_stem(path)}{secrets.token_hex(4)}.part")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        if fcntl is None:
            os.close(descriptor)
            return None, temporary
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)  # another writer has taken it for one that was left, before it was locked


def _stem(path: Path) -> str:
    """Return how the names of the unfinished files of a path begin."""
    name = path.name if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return f".{name}."


def _remove_left(path: Path) -> None:
    """Remove unfinished files of writers that are no more: nobody holds their lock."""
    if fcntl is None:
        return
    for name in os.listdir(path.parent):
        if not (name.startswith(_stem(path)) and name.endswith(".part")):
            continue
        with contextlib.suppress(OSError), open(path.with_name(name), "rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.with_name(name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Loose:
    """Tensors that the optimiser trains but the model does not hold, as a part of a checkpoint."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.model, self.optimizer = model, optimizer

    def tensors(self) -> list[Tensor]:
        """Return the tensors, in the order of the optimiser's groups."""
        held = {id(parameter) for parameter in self.model.parameters()}
        return [p for group in self.optimizer.param_groups for p in group["params"] if id(p) not in held]

    def state_dict(self) -> dict:
        """Return the values for a checkpoint."""
        return {"tensors": [tensor.detach() for tensor in self.tensors()]}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Copy the stored values into the tensors."""
        for tensor, saved in zip(self.tensors(), state["tensors"], strict=True):
            tensor.copy_(saved)
