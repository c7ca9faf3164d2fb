"""Tiny objects for valid calls: all of them are made anew, since a call may change what it is given."""

from __future__ import annotations

import torch
from compactvision import claims, data, experiment, models, records, surgery, training
from compactvision.data.scenes import Scenes
from compactvision.data.scenes import scenes as draw_scenes
from compactvision.explanation import heads
from compactvision.pruning import dcff, proximal_network_slimming, rvsm_sparsity
from torch import Tensor, nn

SHAPE = (3, 8, 8)
CHAPTER = "foundations"


def seeded(seed: int = 0) -> torch.Generator:
    """Random numbers."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int) -> Tensor:
    """Numbers of both signs."""
    return torch.randn(*shape, generator=seeded())


def uniform(*shape: int) -> Tensor:
    """Numbers in [0, 1)."""
    return torch.rand(*shape, generator=seeded())


def bits(*shape: int) -> Tensor:
    """True and false."""
    return uniform(*shape) > 0.4


def square() -> Tensor:
    """Distances between four filters."""
    return dcff.formulas.distances(normal(4, 2))


def inputs() -> Tensor:
    """Four images."""
    return normal(4, *SHAPE)


def targets() -> Tensor:
    """A class for each of them."""
    return torch.tensor([0, 1, 2, 3])


def batches() -> list[tuple[Tensor, Tensor]]:
    """Two batches of them."""
    return [(inputs(), targets()), (inputs().flip(0), targets().flip(0))]


def model() -> nn.Module:
    """Two convolutions with BatchNorm and a linear layer."""
    return models.small_cnn(4, widths=(4, 6), generator=seeded()).eval()


def wider() -> nn.Module:
    """The same with more channels."""
    return models.small_cnn(4, widths=(8, 9), generator=seeded()).eval()


def residual() -> nn.Module:
    """Three residual blocks."""
    return models.ResNet(1, 4, width=2, generator=seeded()).eval()


def graph() -> surgery.ChannelGraph:
    """Channels of the small network."""
    return surgery.channel_graph(model(), SHAPE)


def planned() -> dict[str, object]:
    """A network with a plan for it."""
    whole = model()
    return {
        "model": whole,
        "plan": surgery.make_plan(surgery.channel_graph(whole, SHAPE), surgery.criteria.l1(), keep=0.5),
    }


def reconstruction() -> dict[str, object]:
    """A network, a plan, and what surgery made of both."""
    given = planned()
    return {**given, "small": surgery.prune(**given), "batches": batches()}


def graphed() -> dict[str, object]:
    """A network and its graph."""
    whole = model()
    return {"model": whole, "graph": surgery.channel_graph(whole, SHAPE)}


def gates() -> Tensor:
    """One for each unit."""
    return uniform(graph().units)


def image_set() -> data.ImageSet:
    """Eight images of two classes."""
    pixels = (uniform(8, *SHAPE) * 255).to(torch.uint8)
    return data.ImageSet(pixels, torch.arange(8) % 2, ("a", "b"), "tiny", "noise", (0.5,) * 3, (0.25,) * 3)


def scenes() -> Scenes:
    """Three scenes."""
    return draw_scenes(3)


def cache() -> heads.LayerCache:
    """The last activation of the small network."""
    return heads.cache_layer(model(), "features.6", batches())


def run() -> experiment.Run:
    """A run of the first chapter."""
    return experiment.start(CHAPTER)


def record() -> records.Record:
    """Its record."""
    return records.load(CHAPTER, "quick")


def number() -> str:
    """The name of a number in it."""
    return next(name for name in record().names if isinstance(record().values(name)[0], float))


def claim() -> claims.Claim:
    """Its first claim."""
    return claims.load(CHAPTER).claims[0]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """An optimiser."""
    return torch.optim.SGD(network.parameters(), lr=0.1)


def state(network: nn.Module | None = None) -> training.State:
    """A run as a callback sees it, with gradients."""
    network = model() if network is None else network
    network(inputs()).sum().backward()
    return training.State(network, sgd(network), torch.device("cpu"), epochs=3, steps_per_epoch=2)


def started(callback: object, network: nn.Module | None = None) -> dict[str, object]:
    """A callback whose training has begun."""
    now = state(network)
    callback.on_start(now)
    return {"self": callback, "state": now}


def slimming() -> dict[str, object]:
    """Proximal slimming, begun."""
    return started(proximal_network_slimming.ProximalSlimming(0.01))


def splitting() -> dict[str, object]:
    """Relaxed splitting, begun."""
    return started(rvsm_sparsity.RelaxedSplitting("l1", 0.1, 0.5))


def fusion() -> dict[str, object]:
    """Filter fusion, begun."""
    return started(dcff.DynamicFusion(dcff.rules.exact), dcff.fuse(model(), wider()))
