"""Valid calls of the spectral layers, and of AFIDAF's filters, networks and pictures."""

from compactvision.architectures import afidaf as af
from compactvision.architectures.afidaf import published, skeleton, swin
from compactvision.models import spectral
from torch import Tensor, nn

from .. import objects as o


def _maps() -> Tensor:
    return o.normal(2, 8, 5, 6)


def _spectrum() -> Tensor:
    return spectral.spectrum(_maps())


def _filter() -> Tensor:
    return spectral.spectrum(o.normal(2, 5, 6))


def _point(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, 1)


def _resized() -> dict[str, object]:
    return {"weight": _filter(), "size": (5, 6), "new": (7, 8)}


def _net() -> af.FilterNet:
    return af.FilterNet(2, (8, 8, 8, 8, 8), _point, num_classes=3, depths=(1, 1, 1)).eval()


def _images() -> Tensor:
    return o.normal(2, 3, 32, 32)


def _last() -> Tensor:
    return o.normal(2, 5, 6, 8)


def _seen(module: nn.Module, **given) -> dict[str, object]:
    return {"self": module, "x": _maps(), **given}


def _swin(**given) -> dict[str, object]:
    return {
        "mixers": ("aff", "attention"), "width": 8, "depths": (1, 1), "head_width": 4, "window": 4, "patch": 2,
        "groups": (2, 1), "num_classes": 3, "generator": o.seeded(), **given,
    }  # fmt: skip


S, Q, A = "models.spectral.", "models.frequencies.", "architectures.afidaf."
F, P, K, W, D = f"{A}filters.", f"{A}published.", f"{A}skeleton.", f"{A}swin.", f"{A}pictures."

CALLS = {
    f"{S}AFNO": lambda: {"channels": 8, "groups": 4, "threshold": 0.1, "generator": o.seeded()},
    f"{S}AFNO.forward": lambda: _seen(spectral.AFNO(8)),
    f"{S}GlobalFilter": lambda: {"channels": 8, "size": (5, 6), "resize": "spectrum", "generator": o.seeded()},
    f"{S}GlobalFilter.forward": lambda: _seen(spectral.GlobalFilter(8, (5, 6))),
    f"{S}GlobalFilter.kernel": lambda: {"self": spectral.GlobalFilter(8, (5, 6)), "size": (7, 8)},
    f"{S}GlobalFilter.spectrum_at": lambda: {"self": spectral.GlobalFilter(8, (5, 6)), "size": (7, 8)},
    f"{S}SpectralMLP": lambda: {"channels": 8, "groups": 4, "activation": nn.ReLU(), "generator": o.seeded()},
    f"{S}SpectralMLP.forward": lambda: {"self": spectral.SpectralMLP(8), "frequencies": _spectrum()},
    f"{Q}circular_convolution": lambda: {"x": _maps(), "kernel": o.normal(8, 3, 3)},
    f"{Q}image": lambda: {"frequencies": _spectrum(), "size": (5, 6)},
    f"{Q}resize_kernel": _resized,
    f"{Q}resize_spectrum": _resized,
    f"{Q}soft_shrink": lambda: {"z": _spectrum(), "threshold": 0.1},
    f"{Q}spectrum": lambda: {"x": _maps()},
    f"{F}AlternatingFilter": lambda: {"channels": 8, "groups": 4, "order": "parallel", "generator": o.seeded()},
    f"{F}AlternatingFilter.forward": lambda: _seen(af.AlternatingFilter(8)),
    f"{F}FourierFilter": lambda: {"channels": 8, "groups": 4, "threshold": 0.1, "generator": o.seeded()},
    f"{F}FourierFilter.forward": lambda: _seen(af.FourierFilter(8)),
    f"{F}FourierFilter.kernel": lambda: _seen(af.FourierFilter(8)),
    f"{F}FourierFilter.mask": lambda: {"self": af.FourierFilter(8), "frequencies": _spectrum()},
    f"{F}ImageFilter": lambda: {"channels": 8, "groups": 4, "grouped": True},
    f"{F}ImageFilter.forward": lambda: _seen(af.ImageFilter(8)),
    f"{F}rescale_": lambda: {"model": af.FourierFilter(8), "scale": 0.5},
    f"{F}shuffle": lambda: {"x": _maps(), "groups": 2},
    f"{P}FilterBlock": lambda: {"channels": 8, "build": _point},
    f"{P}FilterBlock.forward": lambda: _seen(published.FilterBlock(8, _point)),
    f"{P}FilterNet": lambda: {
        "expand": 2,
        "channels": (8, 8, 8, 8, 8),
        "build": _point,
        "num_classes": 3,
        "depths": (1, 1, 1),
    },
    f"{P}FilterNet.forward": lambda: {"self": _net(), "images": _images()},
    f"{P}FilterNet.maps": lambda: {"self": _net(), "images": _images()},
    f"{P}FilterStage": lambda: {"channels": 8, "depth": 2, "build": _point},
    f"{P}FilterStage.forward": lambda: _seen(published.FilterStage(8, 1, _point)),
    f"{P}InvertedResidual": lambda: {"inputs": 8, "outputs": 6, "expand": 2, "stride": 2},
    f"{P}InvertedResidual.forward": lambda: _seen(published.InvertedResidual(8, 8, 2)),
    f"{P}afidaf": lambda: {
        "size": "xx_small",
        "filters": "aff",
        "order": "image_first",
        "num_classes": 3,
        "generator": o.seeded(),
    },
    f"{P}conv_norm": lambda: {
        "inputs": 8,
        "outputs": 6,
        "kernel": 3,
        "stride": 2,
        "groups": 2,
        "activation": True,
    },
    f"{K}AveragePool": dict,
    f"{K}AveragePool.forward": lambda: _seen(skeleton.AveragePool()),
    f"{K}MixerBlock": lambda: {"channels": 8, "hidden": 6, "mixer": skeleton.Zero()},
    f"{K}MixerBlock.forward": lambda: _seen(skeleton.MixerBlock(8, 6, skeleton.Zero())),
    f"{K}Restorer": lambda: {
        "mixer": "global",
        "channels": 8,
        "hidden": 6,
        "depth": 1,
        "size": (5, 6),
        "planes": 1,
    },
    f"{K}Restorer.forward": lambda: {
        "self": skeleton.Restorer("afidaf", 8, 6, depth=1),
        "images": o.normal(2, 1, 5, 6),
    },
    f"{K}SelfAttention": lambda: {"channels": 8, "heads": 2},
    f"{K}SelfAttention.forward": lambda: _seen(skeleton.SelfAttention(8)),
    f"{K}Zero": dict,
    f"{K}Zero.forward": lambda: _seen(skeleton.Zero()),
    f"{K}depthwise": lambda: {"channels": 8, "kernel": 5},
    f"{W}ChannelsLast": lambda: {"mixer": skeleton.Zero()},
    f"{W}ChannelsLast.forward": lambda: {"self": swin.ChannelsLast(skeleton.Zero()), "x": _last()},
    f"{W}GroupedMLP": lambda: {"width": 8, "ratio": 2, "groups": 2},
    f"{W}GroupedMLP.forward": lambda: _seen(swin.GroupedMLP(8, 2, 2)),
    f"{W}Merge": lambda: {"width": 8},
    f"{W}Merge.forward": lambda: {"self": swin.Merge(8), "x": _last()},
    f"{W}Swin": _swin,
    f"{W}Swin.forward": lambda: {"self": swin.Swin(**_swin()), "images": _images()},
    f"{W}Swin.maps": lambda: {"self": swin.Swin(**_swin()), "images": _images()},
    f"{W}SwinBlock": lambda: {"width": 8, "mixer": nn.Identity(), "groups": 2},
    f"{W}SwinBlock.forward": lambda: {"self": swin.SwinBlock(8, nn.Identity()), "x": _last()},
    f"{W}hybrid": lambda: {"num_classes": 3, "generator": o.seeded()},
    f"{D}draw": lambda: {"kind": "both", "n": 4, "size": (8, 9), "noise": (0.5, 1.5), "generator": o.seeded()},
    f"{D}gain": lambda: {"found": o.normal(2, 1, 4, 4), "clean": o.uniform(2, 1, 4, 4), "noisy": o.normal(2, 1, 4, 4)},
    f"{D}shapes": lambda: {"n": 2, "size": (8, 9), "generator": o.seeded()},
    f"{D}threshold": lambda: {"noisy": o.normal(2, 1, 5, 6), "factor": 2.0},
    f"{D}waves": lambda: {"n": 2, "size": (8, 9), "generator": o.seeded()},
}
AFTERWARDS: dict[str, object] = {}
FREE: dict[str, tuple[str, ...]] = {
    "architectures.afidaf.filters.rescale_": ("model:of nan",),  # its weights are not read
    f"{K}MixerBlock": ("mixer:of nan",),  # held, not run
    f"{W}SwinBlock": ("mixer:of nan",),  # the same
    f"{S}SpectralMLP": ("activation:of nan",),  # the same
    f"{W}ChannelsLast": ("mixer:of nan",),  # the same
}
