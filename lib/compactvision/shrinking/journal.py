"""A folder in which finished stages are kept, so that a run which was killed goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compactvision.training.checkpoint import write_atomically
from compactvision.training.description import differences

FORMAT = "compactvision-shrinking-1"


class Journal:
    """Stages by name, each a JSON file and where it trained a network its tensors.

    Parameters
    ----------
    folder : Path or None
        Made where it is missing; with None nothing is kept.
    run : dict
        What recognises the run, as plain data; a journal of another run is refused by a ``ValueError``.
    """

    def __init__(self, folder: Path | None, run: dict[str, Any]) -> None:
        self.folder = folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "journal.json"
        told = json.loads(json.dumps({"format": FORMAT, **run}))
        if not path.exists():
            self._write("journal", told)
            return
        others = differences(self.read("journal"), told)
        if others:
            more = f" (and {len(others) - 3} more)" if len(others) > 3 else ""
            raise ValueError(
                f"journal: {str(folder)!r} belongs to a different run: {'; '.join(others[:3])}{more}; "
                "give another folder, or delete it to start anew"
            )

    def read(self, name: str) -> dict[str, Any] | None:
        """Return what a finished stage has left, None if it is not finished."""
        path = self._path(name, "json")
        if path is None or not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"journal: {str(path)!r} is damaged ({error}); delete the folder to start anew") from error
        if not isinstance(found, dict):
            raise ValueError(f"journal: {str(path)!r} is damaged; delete the folder to start anew")
        return found

    def keep(self, name: str, values: dict[str, Any], model: nn.Module | None = None) -> None:
        """Keep a finished stage; its network first, so that what is read is whole."""
        if self.folder is None:
            return
        if model is not None:
            from safetensors.torch import save

            state = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in model.state_dict().items()}
            write_atomically(self.folder / f"{name}.safetensors", save(state))
        self._write(name, values)

    @torch.no_grad()
    def fill_(self, name: str, model: nn.Module) -> nn.Module:
        """Give a network of the same shape the tensors of a stage, in evaluation mode."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        assert self.folder is not None
        path = self.folder / f"{name}.safetensors"
        try:
            state: dict[str, Tensor] = load_file(str(path))
            model.load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ValueError(f"journal: {str(path)!r} is damaged ({error}); delete the folder to start anew") from error
        return model.eval()

    def checkpoint(self, name: str) -> Path | None:
        """Return where the training of a stage keeps its checkpoint."""
        return self._path(name, "checkpoint")

    def forget_checkpoint(self, name: str) -> None:
        """Remove the checkpoint of a training that is finished."""
        path = self.checkpoint(name)
        if path is not None:
            path.unlink(missing_ok=True)

    def _path(self, name: str, ending: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.{ending}"

    def _write(self, name: str, values: dict[str, Any]) -> None:
        assert self.folder is not None
        write_atomically(self.folder / f"{name}.json", os.fsencode(json.dumps(values, allow_nan=True)))
