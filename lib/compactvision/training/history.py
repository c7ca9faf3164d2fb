"""What a training run leaves behind: one row of plain numbers an epoch."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from compactvision import _checks as checks


class History:
    """Rows of a training run, one dict an epoch.

    Keys: ``epoch`` (epochs done, the first row has 1), ``lr`` (of the first group in the epoch's last step),
    ``train_loss`` (mean over the epoch's samples), ``seconds`` (training and validation of the epoch; after an
    interruption only of its rest), and ``val_*`` where `validate` was given. Callbacks may add keys. What is no list of
    dicts is a ``ValueError``.
    """

    def __init__(self, rows: list[dict] | None = None):
        self.rows: list[dict] = [] if rows is None else _copied("rows", rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.rows[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.rows == other.rows

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last {self.rows[-1]})" if self.rows else "History(0 epochs)"

    def column(self, name: str) -> list[float]:
        """Values of one key over the epochs; NaN in rows that lack it, ``ValueError`` when every row lacks it."""
        checks.texts(name=name)
        if not any(name in row for row in self.rows):
            known = sorted({str(key) for row in self.rows for key in row})
            raise ValueError(f"name={name!r} is in no row of the history; there are {known}")
        return [row.get(name, math.nan) for row in self.rows]

    def to_json(self) -> str:
        """Rows as JSON text; :meth:`from_json` reads it back."""
        return json.dumps(self.rows)

    @classmethod
    def from_json(cls, text: str) -> "History":
        """History from the text of :meth:`to_json`, else a ``ValueError``."""
        checks.texts(text=text)
        try:
            return cls(_copied("rows", json.loads(text)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"text must be that of to_json(), got {checks.shown(text)} ({error})") from error

    def state_dict(self) -> dict:
        """Rows for a checkpoint."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: dict) -> None:
        """Take over the rows of a checkpoint; a ``ValueError`` says that they are none."""
        checks.mappings(state=state)
        if state.keys() != {"rows"}:
            raise ValueError(f"state must have the key 'rows' and no other, got {checks.shown(list(state))}")
        self.rows = _copied("state['rows']", state["rows"])


def _copied(name: str, rows: Any) -> list[dict]:
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"{name} must be a list of dicts, one an epoch, got {checks.shown(rows)}")
    return [dict(row) for row in rows]
