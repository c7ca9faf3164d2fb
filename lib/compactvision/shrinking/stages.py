"""Cut, least squares, BatchNorm renewed: each kept only where images of the training data say that it helps."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from compactvision import surgery, training
from compactvision.shrinking import sources
from compactvision.shrinking.session import Session
from compactvision.shrinking.words import skipped
from compactvision.surgery import Plan

SHARE_OF_TIME = 0.15  # of what is left, for one reconstruction


@dataclass(frozen=True)
class Stage:
    """A network behind one stage, its loss on the images that judge, and what there is to say."""

    name: str
    network: nn.Module
    loss: float | None
    remark: str


def mended(session: Session, plan: Plan) -> list[Stage]:
    """Return the stages from the cut to the network that goes into tuning, which is that of the last one."""
    began = time.monotonic()
    small = surgery.prune(session.model, plan).eval()
    stages = [Stage("cut", small, session.loss_of(small), "")]
    stages.append(_reconstructed(session, plan, stages[-1]))
    stages.append(_renewed(session, stages[-1]))
    session.seconds["mended"] = time.monotonic() - began
    return stages


def loss_behind(stages: list[Stage]) -> float:
    """Return the loss of the network that goes into tuning."""
    return next(stage.loss for stage in reversed(stages) if stage.loss is not None)


def _reconstructed(session: Session, plan: Plan, before: Stage) -> Stage:
    images = _images_in_time(session, plan)
    if images == 0:
        return _left_out("reconstructed", before, "no time for it")
    try:
        found = surgery.reconstruct(session.model, before.network, plan, sources.first(session.fit, images))
    except ValueError as error:
        return _left_out("reconstructed", before, str(error))
    return _kept_if_better(session, "reconstructed", before, found)


def _renewed(session: Session, before: Stage) -> Stage:
    if session.clock.over():
        return _left_out("renewed", before, "the time was over")
    try:
        found = training.renewed(before.network, session.fit)
    except ValueError as error:
        return _left_out("renewed", before, str(error))
    return _kept_if_better(session, "renewed", before, found)


def _left_out(name: str, before: Stage, reason: str) -> Stage:
    return Stage(name, before.network, None, skipped(reason))


def _kept_if_better(session: Session, name: str, before: Stage, found: nn.Module) -> Stage:
    """Return the new network where its loss is lower, else the one before."""
    old = session.loss_of(before.network)
    new = session.loss_of(found)
    said = f"loss on training images {old:.3g} before, {new:.3g} behind it"
    if new < old:
        return Stage(name, found, new, f"kept ({said})")
    return Stage(name, before.network, old, f"not kept ({said})")


def _images_in_time(session: Session, plan: Plan) -> int:
    """Return how many images least squares may look at; 0 where even a few would take too long."""
    images = sum(len(inputs) for inputs, _ in session.fit)
    if not session.clock.bounded:
        return images
    allowed = SHARE_OF_TIME * session.clock.left()
    while images >= sources.FEWEST_IMAGES // 4:
        if seconds_of_reconstruction(session, plan, images) <= allowed:
            return images
        images //= 2
    return 0


def seconds_of_reconstruction(session: Session, plan: Plan, images: int) -> float:
    """Return about how long least squares takes: two passes for each layer, and its normal equations in float64."""
    layers = [
        layer
        for layer in plan.graph.layers.values()
        if layer.kind in ("conv", "linear") and not plan.kept[layer.reads].all()
    ]
    products = 0.0
    for layer in layers:
        read, written = int(plan.kept[layer.reads].sum()), int(plan.kept[layer.writes].sum())
        width = layer.pair[0] * read
        pixels = layer.pair[1] / max(1, layer.pair[0])
        products += images * pixels * width * (width + written) + width**3
    return 2 * len(layers) * images * session.image_seconds() + products * _product_seconds()


def _product_seconds() -> float:
    """Return the time of one multiply-accumulate in float64."""
    a = torch.ones(256, 256, dtype=torch.float64)
    a @ a
    began = time.perf_counter()
    a @ a
    return (time.perf_counter() - began) / 256**3
