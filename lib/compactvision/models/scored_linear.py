"""A linear layer whose inputs carry learnable scores, or that reads only some of them."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks

MOST = 2**20  # inputs


class ScoredLinear(nn.Linear):
    """``y = W (s * x) + b``, computed as ``(W diag(s)) x + b``; or ``y = W x[selection] + b``.

    Parameters
    ----------
    width : int
        Channels of what comes in.
    out_features : int
        Channels of the result.
    bias : bool, default True
        Whether b is there.
    reads : int, optional
        How many of the inputs are read, where not all; which ones is the buffer ``selection``.
    scored : bool, default True
        Whether there are scores, which begin at 1.

    Raises
    ------
    ValueError
        If an argument is no count or flag; in ``forward`` if the input has other channels.

    Examples
    --------
    >>> layer = ScoredLinear(6, 2)
    >>> layer(torch.zeros(4, 6)).shape, layer.scores.shape
    (torch.Size([4, 2]), torch.Size([6]))
    """

    layer_name: ClassVar[str] = "ScoredLinear"
    selection: Tensor | None

    def __init__(
        self, width: int, out_features: int, *, bias: bool = True, reads: int | None = None, scored: bool = True
    ) -> None:
        checks.counts(width=width, out_features=out_features)
        checks.flags(bias=bias, scored=scored)
        if reads is not None:
            checks.counts(reads=reads)
            if not reads <= width <= MOST:
                raise ValueError(f"reads must be at most the width {width}, got {reads}")
            if scored:
                raise ValueError("scored must be False where only some inputs are read")
        super().__init__(reads or width, out_features, bias=bias)
        self.width = width
        self.register_buffer("selection", None if reads is None else torch.arange(reads))
        self.scores = nn.Parameter(torch.ones(width)) if scored else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., out_features)."""
        if not isinstance(x, Tensor) or x.ndim < 1 or x.shape[-1] != self.width:
            raise ValueError(f"x must be (..., {self.width}), got {checks.shown(x)}")
        if self.selection is not None:
            x = x.index_select(-1, self.selection)
        return F.linear(x, self.weight if self.scores is None else self.weight * self.scores, self.bias)

    def description(self) -> dict[str, Any]:
        """Return what :meth:`from_description` needs."""
        return {
            "width": self.width,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "reads": None if self.selection is None else self.selection.numel(),
            "scored": self.scores is not None,
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Return a layer of the described shapes."""
        checks.mappings(description=description)
        try:
            return cls(**description)
        except TypeError as error:
            raise ValueError(f"its description is not that of a {cls.layer_name}: {error}") from None

    def extra_repr(self) -> str:
        """Channels, for ``print(model)``."""
        read = "" if self.selection is None else f" of {self.width}"
        return (
            f"in_features={self.in_features}{read}, out_features={self.out_features}, scored={self.scores is not None}"
        )

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        """Refuse a selection that reads what is not there: a file may be damaged."""
        found = state_dict.get(prefix + "selection")
        if isinstance(found, Tensor) and self.selection is not None and not selects(found, self.width):
            errors.append(f"{prefix}selection does not select from {self.width} inputs")
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


def selects(selection: Tensor, width: int) -> bool:
    """Whether an index is rising and below ``width``; one without values may be."""
    if selection.is_meta:
        return True
    if selection.dtype != torch.long or selection.ndim != 1 or not len(selection):
        return False
    return bool((selection.diff() > 0).all()) and int(selection[0]) >= 0 and int(selection[-1]) < width
