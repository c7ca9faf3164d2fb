"""Valid calls of surgery on transformer blocks."""

import torch
from compactvision import surgery
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock


def _model() -> nn.Module:
    return nn.Sequential(EncoderBlock(2, 4, 6, 0.0, 0.0)).eval()


def _keep() -> dict[str, dict[str, Tensor]]:
    return {"0": {"qk": torch.ones(2, 2).bool().tril(), "hidden": torch.arange(6) % 3 > 0}}


CALLS = {
    "surgery.attention.block_scores": lambda: {"model": surgery.insert_scores(_model())},
    "surgery.attention.cut_dimensions": lambda: {"model": _model(), "keep": _keep(), "fold": False},
    "surgery.attention.insert_scores": lambda: {"model": _model(), "kinds": ["qk", "mlp_input"], "shared": True},
    "surgery.attention.mask_dimensions": lambda: {"model": _model(), "keep": _keep()},
    "surgery.blocks.find_blocks": lambda: {"model": _model()},
}
AFTERWARDS = {}
FREE = dict.fromkeys(CALLS, ("model:of nan", "model:meta"))  # structure and indices alone; weights as they are
