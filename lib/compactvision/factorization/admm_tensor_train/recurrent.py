"""An image read column by column by an LSTM, whose input weights are where the parameters are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compactvision import _checks as checks


class ColumnLSTM(nn.Module):
    """Reads the columns of an image from left to right with one LSTM cell, then classifies its last state.

    The input weights of all four gates are one linear layer ``input`` (4 hidden, C H), those of the state ``hidden``
    (4 hidden, hidden): the first is what the paper writes as a tensor train for videos, whose frames are long vectors.
    Both are ordinary layers, so :func:`~compactvision.factorization.admm_tensor_train.decompose` and ADMM take them.

    Parameters
    ----------
    num_classes : int, default 10
        Outputs of the last layer.
    hidden : int, default 64
        Numbers in the state.
    column : int, default 96
        Numbers in a column: channels times height.
    generator : torch.Generator, optional
        Source of the first weights, uniform in ``+- 1 / sqrt(hidden)`` as PyTorch's LSTM; its global one by default.

    Raises
    ------
    ValueError
        If a number is below 1.

    Examples
    --------
    >>> import torch
    >>> from compactvision import measure
    >>> from compactvision.factorization.admm_tensor_train import TensorTrain, decompose
    >>> from compactvision.factorization.admm_tensor_train.recurrent import ColumnLSTM
    >>> model = ColumnLSTM()
    >>> small = decompose(model, {"input": TensorTrain((8, 12, 8), (16, 16), (8, 12))})
    >>> measure.parameters(model.input), measure.parameters(small.input), tuple(small(torch.randn(2, 3, 32, 32)).shape)
    (24832, 2784, (2, 10))
    """

    def __init__(
        self, num_classes: int = 10, hidden: int = 64, column: int = 96, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        checks.counts(num_classes=num_classes, hidden=hidden, column=column)
        checks.generators(generator=generator)
        self.column = column
        self.input = nn.Linear(column, 4 * hidden)
        self.hidden = nn.Linear(hidden, 4 * hidden, bias=False)
        self.classifier = nn.Linear(hidden, num_classes)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) with ``C H`` numbers in a column to logits (B, num_classes)."""
        checks.floating(x=x)
        if x.dim() != 4 or x.shape[1] * x.shape[2] != self.column:
            raise ValueError(f"x must have shape (B, C, H, W) with C H = {self.column}, got {tuple(x.shape)}")
        own = self.classifier.weight
        if x.dtype != own.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"x must be {own.dtype}, as the network is, got {x.dtype}")
        driven = self.input(x.flatten(1, 2).transpose(1, 2))  # (B, W, 4 hidden): all columns at once
        state = memory = driven.new_zeros(len(x), self.hidden.in_features)
        for column in driven.unbind(1):
            gates = column + self.hidden(state)
            let_in, keep, candidate, let_out = gates.chunk(4, 1)
            memory = keep.sigmoid() * memory + let_in.sigmoid() * candidate.tanh()
            state = let_out.sigmoid() * memory.tanh()
        return self.classifier(state)
