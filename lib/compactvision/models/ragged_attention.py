"""Self-attention whose dimensions can be scored and cut, in the place of torchvision's and timm's.

Rows of ``qkv`` stand as those networks have them: all queries, all keys, all values, each head by head. After a cut the
heads may have unequal sizes. Their rows are then padded with zeros to the largest head *in the weights*, so that all
heads and all windows run as one batched product: a zero adds nothing to ``q k^T``, and a padded column of the values
meets a zero of the projection. The softmax keeps the scale of the heads before the cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.head_sizes import (
    MOST,
    checked_pair,
    checked_sizes,
    is_ragged,
    padded_places,
    padded_sizes,
)
from compactvision.models.layers import refuse_kind
from compactvision.models.scored_linear import selects
from compactvision.models.window_grid import relative_index

KINDS = ("qk", "v", "input")


class RaggedAttention(nn.Module):
    """What the forms in ``attention_forms`` share: weights, scores of dimensions, heads of unequal sizes.

    Parameters
    ----------
    width : int
        Channels of what comes in and of the result.
    query_sizes, value_sizes : sequence of int
        For each head the dimensions of queries and keys (0 is allowed), and of values.
    scale : float
        Factor of ``q k^T``: that of the heads before any cut.
    bias, project_bias : bool, default True
        Of ``qkv`` and of ``proj``.
    window : tuple of int, optional
        Rows and columns of a window, where there is a bias for relative positions.
    shift : tuple of int, default (0, 0)
        Of the windows, in rows and columns.
    reads : int, optional
        How many of the ``width`` inputs ``qkv`` reads, where not all; which ones is the buffer ``selection``.
    scores : mapping of str to sequence of int, optional
        Shapes of learnable scores: "qk" and "v" (heads or 1, size of a head), "input" (width,). They begin at 1.
    attention_dropout, dropout : float, default 0
        Of the attention weights, and behind the projection; in training alone.

    Raises
    ------
    ValueError
        If an argument is no count or of no such form; in ``forward`` if the input does not fit.
    """

    layer_name: ClassVar[str] = "RaggedAttention"

    def __init__(
        self,
        width: int,
        query_sizes: Sequence[int],
        value_sizes: Sequence[int],
        *,
        scale: float,
        bias: bool = True,
        project_bias: bool = True,
        window: Sequence[int] | None = None,
        shift: Sequence[int] = (0, 0),
        reads: int | None = None,
        scores: Mapping[str, Sequence[int]] | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        checks.counts(width=width)
        checks.flags(bias=bias, project_bias=project_bias)
        checks.finite(scale=scale, attention_dropout=attention_dropout, dropout=dropout)
        for name, rate in (("attention_dropout", attention_dropout), ("dropout", dropout)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {rate}")
        self.width, self.scale = width, float(scale)
        self.query_sizes, self.value_sizes = (
            checked_sizes(query_sizes, 0, "query_sizes"),
            checked_sizes(value_sizes, 1, "value_sizes"),
        )
        if len(self.query_sizes) != len(self.value_sizes):
            raise ValueError(f"value_sizes must have {len(self.query_sizes)} heads, got {len(self.value_sizes)}")
        self.attention_dropout, self.dropout = float(attention_dropout), float(dropout)
        queries, values = sum(self.query_sizes), sum(self.value_sizes)
        self._select(reads)
        self.qkv = nn.Linear(reads or width, 2 * queries + values, bias=bias)
        self.proj = nn.Linear(values, width, bias=project_bias)
        self._windows(window, shift)
        self._pad(queries, values)
        self._score({} if scores is None else scores)

    selection: Tensor | None
    rows: Tensor | None
    columns: Tensor | None

    def _select(self, reads: int | None) -> None:
        if reads is not None:
            checks.counts(reads=reads)
            if not reads <= self.width <= MOST:
                raise ValueError(f"reads must be at most the width {self.width}, got {reads}")
        self.register_buffer("selection", None if reads is None else torch.arange(reads))

    def _windows(self, window: Sequence[int] | None, shift: Sequence[int]) -> None:
        self.window = None if window is None else checked_pair(window, 1, "window")
        self.shift = checked_pair(shift, 0, "shift")
        if self.window is None:
            if any(self.shift):
                raise ValueError(f"shift needs a window, got {self.shift}")
            return
        rows, columns = self.window
        if rows * columns > MOST:
            raise ValueError(f"window must have at most {MOST} places, got {self.window}")
        table = torch.zeros((2 * rows - 1) * (2 * columns - 1), self.heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", relative_index(rows, columns))

    def _pad(self, queries: int, values: int) -> None:
        """Say which row of ``qkv``, and column of ``proj``, stands where once heads are padded; the last is zeros."""
        rows = columns = None
        if is_ragged(self.query_sizes, self.value_sizes):
            nothing = 2 * queries + values
            places = [padded_places(self.query_sizes, self.query_size, start, nothing) for start in (0, queries)]
            rows = torch.cat([*places, padded_places(self.value_sizes, self.value_size, 2 * queries, nothing)])
            columns = padded_places(self.value_sizes, self.value_size, 0, values)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def _score(self, scores: Mapping[str, Sequence[int]]) -> None:
        checks.mappings(scores=scores)
        self.scores = nn.ParameterDict()
        if scores and self.rows is not None:
            raise ValueError("scores need heads of one size")
        full = {"qk": (self.heads, self.query_size), "v": (self.heads, self.value_size), "input": (self.width,)}
        for kind, shape in scores.items():
            checks.one_of(KINDS, **{"scores (kind)": kind})
            allowed = [full[kind], (1, *full[kind][1:])] if kind != "input" else [full[kind]]
            if not isinstance(shape, (tuple, list)) or tuple(shape) not in allowed:
                raise ValueError(f"scores[{kind!r}] must be of shape {full[kind]}, got {checks.shown(shape)}")
            self.scores[kind] = nn.Parameter(torch.ones(*shape))

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.value_sizes)

    @property
    def query_size(self) -> int:
        """Dimensions that each head's queries are padded to."""
        return padded_sizes(self.query_sizes, self.value_sizes)[0]

    @property
    def value_size(self) -> int:
        """Dimensions that each head's values are padded to."""
        return padded_sizes(self.query_sizes, self.value_sizes)[1]

    def description(self) -> dict[str, Any]:
        """Return what :meth:`from_description` needs."""
        return {
            "width": self.width,
            "query_sizes": list(self.query_sizes),
            "value_sizes": list(self.value_sizes),
            "scale": self.scale,
            "bias": self.qkv.bias is not None,
            "project_bias": self.proj.bias is not None,
            "window": None if self.window is None else list(self.window),
            "shift": list(self.shift),
            "reads": None if self.selection is None else self.selection.numel(),
            "scores": {kind: list(score.shape) for kind, score in self.scores.items()},
            "attention_dropout": self.attention_dropout,
            "dropout": self.dropout,
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
        """Sizes of the heads, for ``print(model)``."""
        return f"queries {self.query_sizes}, values {self.value_sizes}, scale={self.scale:.4g}"

    def weights(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return weight and bias of ``qkv`` and the weight of ``proj`` with scores applied and heads padded."""
        weight, bias, project = self.qkv.weight, self.qkv.bias, self.proj.weight
        factor = self.row_scores()
        if factor is not None:
            weight, bias = weight * factor.unsqueeze(1), None if bias is None else bias * factor
        if "input" in self.scores:
            weight = weight * self.scores["input"]
        if self.rows is not None and self.columns is not None:
            weight = F.pad(weight, (0, 0, 0, 1)).index_select(0, self.rows)
            bias = None if bias is None else F.pad(bias, (0, 1)).index_select(0, self.rows)
            project = F.pad(project, (0, 1)).index_select(1, self.columns)
        return weight, bias, project

    def row_scores(self) -> Tensor | None:
        """Return the factor of each row of ``qkv``: scores of queries, ones for keys, scores of values."""
        if not {"qk", "v"} & set(self.scores.keys()):
            return None
        one = next(iter(self.scores.values()))
        parts = {"qk": one.new_ones(sum(self.query_sizes)), "v": one.new_ones(sum(self.value_sizes))}
        keys = parts["qk"]
        parts |= {k: self.scores[k].expand(self.heads, -1).flatten() for k in parts if k in self.scores}
        return torch.cat([parts["qk"], keys, parts["v"]])

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, width) to the same shape.

        ``mask`` (windows, N, N) is added to the logits of each of the windows that stand in B, the innermost last.
        """
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[2] != self.width or 0 in x.shape:
            raise ValueError(f"x must be (B, N, {self.width}), got {checks.shown(x)}")
        refuse_kind(self.qkv.weight, x=x)
        if self.selection is not None:
            x = x.index_select(2, self.selection)
        weight, bias, project = self.weights()
        queries, values = self.heads * self.query_size, self.heads * self.value_size
        parts = F.linear(x, weight, bias).split((queries, queries, values), dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, h, N, e)
        rate = self.attention_dropout if self.training else 0.0
        if self.window is None:
            found = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, scale=self.scale)
        elif not self._fused():
            found = self._in_windows(query, key, mask)
            found = F.dropout(found, rate, self.training).matmul(value)  # (B, h, N, e)
        else:
            added = self._added(query, mask)
            found = F.scaled_dot_product_attention(query, key, value, attn_mask=added, scale=self.scale)
        found = F.linear(found.transpose(1, 2).flatten(2), project, self.proj.bias)
        return F.dropout(found, self.dropout, self.training)

    def _fused(self) -> bool:
        """Whether windows run as one fused product: in evaluation, without scores; exporters do not take its layout."""
        plain = not self.training and not len(self.scores) and not torch.compiler.is_compiling()
        return plain and self.query_size == self.value_size

    def _bias(self, places: int) -> Tensor:
        """Return the bias of each relative position, (h, N, N)."""
        if places != self.window[0] * self.window[1]:
            raise ValueError(f"x must have the {self.window[0] * self.window[1]} places of a window, got {places}")
        bias = self.relative_position_bias_table[self.relative_position_index]
        return bias.unflatten(0, (places, places)).permute(2, 0, 1)

    def _in_windows(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention weights (B, h, N, N), step by step as torchvision and timm do."""
        bias = self._bias(query.shape[2])
        logits = (query * self.scale).matmul(key.transpose(2, 3))
        if mask is None:
            return torch.softmax(logits + bias, dim=3)
        logits = logits.unflatten(0, (-1, mask.shape[0])) + (bias + mask.unsqueeze(1))  # (images, windows, h, N, N)
        return torch.softmax(logits, dim=4).flatten(0, 1)

    def _added(self, query: Tensor, mask: Tensor | None) -> Tensor:
        """Return what a fused product adds to the logits: (1 or B, h, N, N)."""
        added = self._bias(query.shape[2]).unsqueeze(0)
        if mask is not None:
            added = (added + mask.unsqueeze(1)).repeat(query.shape[0] // mask.shape[0], 1, 1, 1)
        return added.to(query.dtype)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        """Refuse indices that are not those of these sizes: a file may be damaged."""
        for name in ("rows", "columns", "selection", "relative_position_index"):
            found, own = state_dict.get(prefix + name), getattr(self, name, None)
            if isinstance(found, Tensor) and isinstance(own, Tensor) and not self._fits(name, found):
                errors.append(f"{prefix + name} holds other places than those of its layer")
                return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def _fits(self, name: str, found: Tensor) -> bool:
        if name == "selection":
            return selects(found, self.width)
        if found.is_meta or found.dtype != torch.long:
            return found.is_meta
        own = getattr(self, name)
        if own.is_meta:
            with torch.device("cpu"):
                own = getattr(type(self).from_description(self.description()), name)
        return torch.equal(found.cpu(), own.cpu())
