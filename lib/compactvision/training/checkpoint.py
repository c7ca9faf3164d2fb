"""Checkpoints: one file, replaced atomically, that only the run which wrote it can continue."""

import io
import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = 2
SOURCE = ("batch_size", "shuffle", "crop", "flip", "seed", "drop_last")  # what is noted of a source that has it


class Checkpoint:
    """All states of a run in one file at `path`; with path None nothing is read or written.

    Parameters
    ----------
    path : path or None
        The file; missing folders are made. It is read by ``torch.load(weights_only=True)``.
    run : dict
        What recognises the run (see :func:`describe`); a file of another run is refused.
    parts : objects with ``state_dict`` and ``load_state_dict``
        Loaded in this order.
    """

    def __init__(self, path: str | os.PathLike | None, run: dict, **parts: Any):
        self.path = None if path is None else Path(path)
        self.run, self.parts = run, parts
        self.tried = False  # whether a first file was seen to be readable
        self.stored = self._read()

    def _read(self) -> dict | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"checkpoint={str(self.path)!r} cannot be read ({reason}); delete it to start anew"
            ) from error
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise ValueError(f"checkpoint={str(self.path)!r} is no checkpoint of fit in format {FORMAT}")
        found = differences(stored["run"], self.run)
        if found:
            more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to a different run: {'; '.join(found[:3])}{more}; "
                "give another path, or delete it to start anew"
            )
        return stored

    def load(self) -> str | None:
        """Put all parts into the stored states, if there are any; returns where they came from."""
        if self.stored is None:
            return None
        for name, part in self.parts.items():
            part.load_state_dict(self.stored["parts"][name])
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
        torch.save({"format": FORMAT, "run": self.run, "parts": parts}, buffer)
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


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that at every moment `path` holds either the old or the new content, whole."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = f"checkpoint {path} could not be written ({error.strerror}); the previous one, if any, is unchanged"
        raise OSError(error.errno, reason) from error


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def describe(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable, **settings: Any) -> dict:
    """Describe a run by plain data: shapes of the model, settings of optimiser and batches, and `settings`."""
    tensors = {name: f"{tuple(t.shape)} {t.dtype}" for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    groups = [
        {**{key: _plain(value) for key, value in group.items() if key != "params"}, "tensors": len(group["params"])}
        for group in optimizer.param_groups
    ]
    chosen = {name: _plain(value) for name, value in settings.items()}
    source = {name: _plain(getattr(batches, name)) for name in SOURCE if hasattr(batches, name)}
    return {**chosen, "batches": source, "optimizer": type(optimizer).__name__, "groups": groups, "model": tensors}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    shown = repr(value)
    return type(value).__qualname__ if " at 0x" in shown else shown


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Fields in which two descriptions differ, each as 'field is X there and Y here'."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = list(there) + [key for key in here if key not in there]
        lists = [differences(there.get(k, "absent"), here.get(k, "absent"), f"{name}.{k}".lstrip(".")) for k in keys]
        return [entry for entries in lists for entry in entries]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = zip(there, here, strict=True)
        return [entry for i, (a, b) in enumerate(pairs) for entry in differences(a, b, f"{name}[{i}]")]
    return [] if there == here else [f"{name} is {there!r} there and {here!r} here"]


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
