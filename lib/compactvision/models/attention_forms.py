"""Attention that can be cut, called as the blocks of torchvision's and timm's ViT and Swin call theirs."""

from __future__ import annotations

from torch import Tensor

from compactvision import _checks as checks
from compactvision.models.ragged_attention import RaggedAttention
from compactvision.models.window_grid import added_mask, joined, partitioned


class TokenAttention(RaggedAttention):
    """Attention of timm's ViT.

    Examples
    --------
    >>> import torch
    >>> TokenAttention(8, (4, 2), (4, 3), scale=0.5)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    layer_name = "TokenAttention"

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Map tokens (B, N, width) to the same shape; it takes no masks."""
        if attn_mask is not None or is_causal:
            raise ValueError("attn_mask and is_causal are not supported by an attention that can be cut")
        return self.attend(x)


class SequenceAttention(RaggedAttention):
    """Attention of torchvision's ViT, called as ``nn.MultiheadAttention`` is there."""

    layer_name = "SequenceAttention"

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """Map tokens (B, N, width), given three times, to the same shape; weights are not returned."""
        if key is not query or value is not query or need_weights:
            raise ValueError("query, key and value must be one tensor and need_weights False")
        return self.attend(query), None


class PartitionedAttention(RaggedAttention):
    """Attention of timm's Swin: windows that its block has cut out."""

    layer_name = "PartitionedAttention"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map windows (B * windows, places, width) to the same shape; ``mask`` is (windows, places, places)."""
        return self.attend(x, mask)


class MapAttention(RaggedAttention):
    """Attention of torchvision's Swin: shifted windows of a map, padded with zeros to whole windows.

    Examples
    --------
    >>> import torch
    >>> attention = MapAttention(8, (4, 2), (4, 3), scale=0.5, window=(4, 4), shift=(2, 2))
    >>> attention(torch.zeros(1, 6, 9, 8)).shape
    torch.Size([1, 6, 9, 8])
    """

    layer_name = "MapAttention"

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, width) to the same shape."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[3] != self.width or 0 in x.shape:
            raise ValueError(f"x must be (B, H, W, {self.width}), got {checks.shown(x)}")
        windows, grid, shifts = partitioned(x, self.window, self.shift)
        mask = added_mask(grid, self.window, shifts, x) if any(shifts) else None
        return joined(self.attend(windows, mask), grid, self.window, shifts)[:, : x.shape[1], : x.shape[2]].contiguous()


FORMS: tuple[type[RaggedAttention], ...] = (TokenAttention, SequenceAttention, PartitionedAttention, MapAttention)
