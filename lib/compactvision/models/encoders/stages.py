"""What the encoders share: a stage of layers on tokens, the rise of drop path, and checks of their arguments."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.attention import to_maps, to_tokens


class Stage(nn.Module):
    """Overlapping patches, LayerNorm, layers, and LayerNorm; (B, C_in, H, W) to (B, width, ceil(H / s), ceil(W / s)).

    Parameters
    ----------
    in_channels, width : int
        Channels before and behind.
    layers : sequence of nn.Module
        Each maps tokens and the size of their grid to tokens.
    first : bool
        Whether patches are 7 x 7 at stride s = 4, as in the first stage, or 3 x 3 at stride 2.
    eps : float, default 1e-5
        Of the LayerNorms.
    final : bool, default False
        Whether a LayerNorm ends the stage.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        layers: Sequence[nn.Module],
        *,
        first: bool,
        eps: float = 1e-5,
        final: bool = False,
    ) -> None:
        super().__init__()
        kernel, stride = (7, 4) if first else (3, 2)
        self.embed = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.layers = nn.ModuleList(layers)
        self.norm2 = nn.LayerNorm(width, eps=eps) if final else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's map."""
        x = self.embed(x)
        size = (x.shape[2], x.shape[3])
        tokens = self.norm1(to_tokens(x))
        for layer in self.layers:
            tokens = layer(tokens, size)
        return to_maps(self.norm2(tokens), size)


def rising(highest: float, count: int) -> list[float]:
    """Return ``count`` rates that rise linearly from 0 to ``highest``."""
    checks.finite(drop_path=highest)
    if not 0 <= highest < 1:
        raise ValueError(f"drop_path must be in [0, 1), got {highest}")
    return [highest * place / max(count - 1, 1) for place in range(count)]


def refuse_stages(**values: Sequence[int]) -> tuple[int, ...]:
    """Return the first of several sequences of counts, and refuse others or unequal lengths."""
    first_name, first = next(iter(values.items()))
    for name, value in values.items():
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError(f"{name} must be a sequence of whole numbers, got {checks.shown(value)}")
        checks.counts(**{f"{name}[{place}]": number for place, number in enumerate(value)})
        if len(value) != len(first):
            raise ValueError(f"{name} must have one number for each of the {len(first)} {first_name}, got {len(value)}")
    return tuple(first)
