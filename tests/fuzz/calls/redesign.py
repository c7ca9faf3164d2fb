"""Valid calls of attention, encoders and decoders, scores of label maps, and the papers on architectures."""

import torch
from compactvision.architectures import u_mixformer as um
from compactvision.architectures.u_mixformer import mixing
from compactvision.models import attention, encoders, segmentation, windows
from torch import Tensor, nn

from .. import objects as o

CHANNELS = (4, 6, 8)


def _maps() -> list[Tensor]:
    return [o.normal(2, width, 8 // 2**place, 8 // 2**place) for place, width in enumerate(CHANNELS)]


def _images() -> Tensor:
    return o.normal(2, 3, 32, 32)


def _labels() -> Tensor:
    return (o.uniform(2, 5, 6) * 3).long()


def _scored(**given) -> dict[str, object]:
    return {"predicted": _labels().flip(0), "targets": _labels(), "num_classes": 3, "ignore": None, **given}


def _cross() -> attention.CrossAttention:
    return attention.CrossAttention(6, 4, 2)


def _asked() -> dict[str, object]:
    return {"self": _cross(), "x": o.normal(2, 9, 6), "memory": o.normal(2, 5, 4)}


def _reduced() -> dict[str, object]:
    return {"self": attention.SpatialReductionAttention(6, 2, 2), "x": o.normal(2, 12, 6), "size": (3, 4)}


def _mit() -> encoders.MiT:
    return encoders.MiT((4, 6), (1, 1), (1, 2), (2, 1))


def _stages(**given) -> dict[str, object]:
    return {"widths": (4, 6), "depths": (1, 1), "generator": o.seeded(), **given}


def _published() -> dict[str, Tensor]:
    state = {}
    for name, tensor in _mit().state_dict().items():
        stage, _, rest = name.removeprefix("stages.").partition(".")
        number = int(stage) + 1
        for ours, theirs in (("embed.", f"patch_embed{number}.proj."), ("norm1.", f"patch_embed{number}.norm."),
                             ("norm2.", f"norm{number}."), ("layers.", f"block{number}.")):  # fmt: skip
            if rest.startswith(ours):
                rest = theirs + rest.removeprefix(ours)
                break
        for ours, theirs in (("attention.attention.query", "attn.q"), ("attention.attention.key_value", "attn.kv"),
                             ("attention.attention.project", "attn.proj"), ("attention.reduce", "attn.sr"),
                             ("attention.norm", "attn.norm"), ("ffn.expand", "mlp.fc1"),
                             ("ffn.mix", "mlp.dwconv.dwconv"), ("ffn.shrink", "mlp.fc2")):  # fmt: skip
            rest = rest.replace(ours, theirs)
        state[rest] = tensor
    return state


def _block() -> segmentation.QueryBlock:
    return segmentation.QueryBlock(4, 6, 2).eval()


def _blocked() -> dict[str, object]:
    return {"self": _block(), "x": o.normal(2, 4, 4, 4), "memory": o.normal(2, 6, 2, 2)}


def _head() -> um.UMixFormerHead:
    return um.UMixFormerHead(CHANNELS, 3, width=8).eval()


def _decoder(**given) -> dict[str, object]:
    return {"channels": CHANNELS, "num_classes": 3, "width": 8, "generator": o.seeded(), **given}


def _sources() -> tuple[mixing.Source, ...]:
    return (mixing.Source(2, "decoder", slice(0, 4)), mixing.Source(1, "encoder", slice(4, 6)))


def _trained() -> nn.Module:
    model = o.model()
    model(o.inputs()).sum().backward()
    return model


def _window() -> windows.WindowAttention:
    return windows.WindowAttention(6, 2, (3, 2), (2, 3), shift=1)


A, E, S, W = "models.attention.", "models.encoders.", "models.segmentation.", "models.windows."
U, M = "architectures.u_mixformer.", "measure.segmentation."

CALLS = {
    f"{A}CrossAttention": lambda: {"width": 6, "memory_width": 4, "heads": 2, "bias": True},
    f"{A}CrossAttention.forward": _asked,
    f"{A}CrossAttention.heads_of": _asked,
    f"{A}CrossAttention.weights": _asked,
    f"{A}MixFFN": lambda: {"width": 6, "ratio": 2},
    f"{A}MixFFN.forward": lambda: {"self": attention.MixFFN(6, 2), "x": o.normal(2, 12, 6), "size": (3, 4)},
    f"{A}SpatialReductionAttention": lambda: {"width": 6, "heads": 2, "reduction": 2},
    f"{A}SpatialReductionAttention.forward": _reduced,
    f"{A}SpatialReductionAttention.memory": _reduced,
    f"{A}attention_weights": lambda: {"query": o.normal(2, 3, 4), "key": o.normal(2, 5, 4)},
    f"{A}drop_path": lambda: {"rate": 0.1},
    f"{A}initialise_attention_": lambda: {"model": o.model(), "generator": o.seeded()},
    f"{A}merge_heads": lambda: {"heads": o.normal(2, 3, 4, 5)},
    f"{A}split_heads": lambda: {"tokens": o.normal(2, 4, 6), "heads": 2},
    f"{A}to_maps": lambda: {"tokens": o.normal(2, 12, 3), "size": (3, 4)},
    f"{A}to_tokens": lambda: {"maps": o.normal(2, 3, 3, 4)},
    f"{W}WindowAttention": lambda: {
        "width": 6, "window": 2, "query_sizes": (3, 2), "value_sizes": (2, 3), "scale": 0.5, "shift": 1,
    },
    f"{W}WindowAttention.forward": lambda: {"self": _window(), "x": o.normal(2, 5, 4, 6)},
    f"{W}pad_heads": lambda: {"columns": o.normal(2, 3, 5), "sizes": (2, 3)},
    f"{W}unpad_heads": lambda: {"heads": o.normal(2, 2, 3, 3), "sizes": (2, 3)},
    f"{E}lvt.LVT": lambda: _stages(heads=(1, 2), ratios=(2, 2), reductions=(2, 1)),
    f"{E}lvt.LVT.forward": lambda: {
        "self": encoders.LVT((4, 6), (1, 1), (1, 2), (2, 2), (2, 1)), "x": _images(),
    },
    f"{E}lvt.lvt": dict,
    f"{E}mit.MiT": lambda: _stages(heads=(1, 2), reductions=(2, 1)),
    f"{E}mit.MiT.forward": lambda: {"self": _mit(), "x": _images()},
    **{f"{E}mit.mit_b{number}": dict for number in range(6)},
    f"{E}mscan.MSCAN": lambda: _stages(ratios=(2, 2)),
    f"{E}mscan.MSCAN.forward": lambda: {"self": encoders.MSCAN((4, 6), (1, 1), (2, 2)), "x": _images()},
    f"{E}mscan.mscan_b": dict,
    f"{E}mscan.mscan_s": dict,
    f"{E}mscan.mscan_t": dict,
    f"{E}published.load_published_": lambda: {"encoder": _mit(), "weights": _published()},
    f"{S}blocks.QueryBlock": lambda: {"width": 4, "memory_width": 6, "heads": 2, "query_pool": 2},
    f"{S}blocks.QueryBlock.asked": lambda: {"self": _block(), "memory": o.normal(2, 6, 2, 2)},
    f"{S}blocks.QueryBlock.asking": lambda: {
        "self": _block(), "x": o.normal(2, 4, 4, 4), "normal": o.normal(2, 16, 4),
    },
    f"{S}blocks.QueryBlock.forward": _blocked,
    f"{S}blocks.QueryBlock.weights": _blocked,
    f"{S}feedformer.FeedFormerHead": lambda: _decoder(heads=(1, 2, 4), ratios=(1, 2, 4)),
    f"{S}feedformer.FeedFormerHead.forward": lambda: {
        "self": segmentation.FeedFormerHead(CHANNELS, 3, width=8), "maps": _maps(),
    },
    f"{S}feedformer.FeedFormerHead.weights": lambda: {
        "self": segmentation.FeedFormerHead(CHANNELS, 3, width=8), "maps": _maps(),
    },
    f"{S}heads.FuseHead": lambda: {"channels": CHANNELS, "num_classes": 3, "width": 8},
    f"{S}heads.FuseHead.forward": lambda: {"self": segmentation.FuseHead(CHANNELS, 3, 8), "maps": _maps()},
    f"{S}heads.SegFormerHead": _decoder,
    f"{S}heads.SegFormerHead.forward": lambda: {
        "self": segmentation.SegFormerHead(CHANNELS, 3, width=8), "maps": _maps(),
    },
    f"{S}heads.dead_parameters": lambda: {"model": _trained()},
    f"{S}heads.enlarge": lambda: {"maps": o.normal(2, 3, 4, 5), "size": (8, 9)},
    f"{S}lightham.LightHamHead": lambda: _decoder(rank=3, groups=2),
    f"{S}lightham.LightHamHead.forward": lambda: {
        "self": segmentation.LightHamHead(CHANNELS, 3, width=8, rank=3, groups=2), "maps": _maps(),
    },
    f"{S}lightham.nmf": lambda: {"matrices": o.uniform(2, 4, 6), "bases": o.uniform(2, 4, 3), "steps": 2},
    f"{S}networks.Segmenter": lambda: {
        "encoder": _mit(), "decoder": segmentation.SegFormerHead((4, 6), 3, width=8),
    },
    f"{S}networks.Segmenter.forward": lambda: {
        "self": segmentation.Segmenter(_mit(), segmentation.SegFormerHead((4, 6), 3, width=8)), "x": _images(),
    },
    f"{S}networks.feedformer": lambda: {"encoder": "mit_b0", "num_classes": 3},
    f"{S}networks.segformer": lambda: {"encoder": "mit_b0", "num_classes": 3},
    f"{S}networks.segnext": lambda: {"encoder": "mscan_t", "num_classes": 3},
    f"{M}boundary_f1": lambda: _scored(tolerance=1),
    f"{M}confusion_of": _scored,
    f"{M}iou": lambda: {"matrix": torch.tensor([[3, 1], [0, 2]])},
    f"{M}iou_by_size": lambda: _scored(edges=[2.0, 5.0]),
    f"{M}mean_iou": lambda: {"matrix": torch.tensor([[3, 1], [0, 2]])},
    f"{U}decoder.UMixFormerHead": lambda: _decoder(heads=(1, 2, 4), ratios=(4, 2, 1), query_pool=None),
    f"{U}decoder.UMixFormerHead.forward": lambda: {"self": _head(), "maps": _maps()},
    f"{U}decoder.UMixFormerHead.look": lambda: {"self": _head(), "maps": _maps()},
    f"{U}decoder.UMixFormerHead.mix": lambda: {
        "self": _head(), "level": 2, "maps": _maps(), "refined": {3: _maps()[2]},
    },
    f"{U}decoder.UMixFormerHead.refine": lambda: {"self": _head(), "maps": _maps()},
    f"{U}decoder.UMixFormerHead.sources": lambda: {"self": _head(), "level": 2},
    f"{U}looking.look_at": lambda: {
        "block": _block(), "x": o.normal(2, 4, 4, 4), "memory": o.normal(2, 6, 2, 2), "level": 1,
        "sources": _sources(),
    },
    f"{U}looking.value_lengths": lambda: {
        "block": _block(), "memory": o.normal(2, 6, 2, 2), "sources": _sources(),
    },
    f"{U}mixing.KeyValueMixer": lambda: {"channels": CHANNELS, "ratios": (4, 2, 1)},
    f"{U}mixing.KeyValueMixer.forward": lambda: {"self": um.KeyValueMixer(CHANNELS, (4, 2, 1)), "maps": _maps()},
    f"{U}mixing.source_levels": lambda: {"level": 2, "levels": 3, "mixing": "near"},
    f"{U}published.u_mixformer": lambda: {"encoder": "mit_b0", "num_classes": 3},
}  # fmt: skip
AFTERWARDS: dict[str, object] = {}
FREE: dict[str, tuple[str, ...]] = {
    f"{A}initialise_attention_": ("model:of nan",),  # drawn anew
    f"{E}published.load_published_": ("encoder:of nan",),  # the same
    f"{S}networks.Segmenter": ("encoder:of nan", "decoder:of nan"),  # held, not run
    f"{M}boundary_f1": ("predicted", "targets"),  # NaN for a class that is in neither, as documented
    f"{M}iou": ("matrix:all zero",),  # the same
    f"{M}iou_by_size": ("predicted", "targets", "objects", "edges", "background", "ignore"),  # the same
}
