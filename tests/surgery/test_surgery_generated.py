"""Networks drawn by lot from operations that are in use: what can be cut is cut rightly, or the network is refused."""

import random

import pytest
import torch
from compactvision import surgery
from torch import nn
from torch.nn import functional

SEEDS = (*range(30), 157, 205, 363, 494, 587)


class _Apply(nn.Module):
    """A function on maps (N, C, H, W), with the layers that it uses."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


class _Scaled(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x):
        return x * self.scale


def _conv(lot, inputs, outputs=None, kernel=3):
    outputs = outputs or lot.choice([8, 12, 16])
    groups = lot.choice([g for g in (1, 1, 2, 4) if inputs % g == outputs % g == 0])
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=lot.random() < 0.5), outputs


def _inner(lot, channels):
    """A branch from so many channels to as many."""
    first, width = _conv(lot, channels)
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), _conv(lot, width, channels, 1)[0])


def _shuffle(x):
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _viewed(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _last(x, layer):
    return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


PLAIN = (
    lambda x: x.relu(),
    lambda x: functional.gelu(x),
    lambda x: functional.max_pool2d(x, 2, 1),
    lambda x: functional.interpolate(x, scale_factor=2),
    lambda x: x.transpose(2, 3),
    lambda x: x.flip(3),
    lambda x: functional.pad(x, (1, 1, 1, 1)),
    lambda x: functional.dropout(x, 0.5, training=False),
)
MIXING = (
    lambda x: x.flip(1),
    lambda x: x.roll(1, 1),
    lambda x: x.softmax(1),
    lambda x: x * x.mean(1, keepdim=True),
    lambda x: x - x.amax(1, keepdim=True),
    lambda x: sum(x.chunk(2, 1)).repeat(1, 2, 1, 1),
    lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1),
    lambda x: functional.normalize(x, dim=1),
    lambda x: torch.einsum("nchw,ndhw->ncd", x, x).mean(2)[..., None, None] + x,
    _shuffle,
    _viewed,
)
JOINING = (
    lambda x, one: x + one(x),
    lambda x, one: x * one(x.mean((2, 3), keepdim=True)).sigmoid(),
    lambda x, one: torch.maximum(x, one(x)),
    lambda x, one: torch.where(x > 0, x, one(x)),
    lambda x, one: torch.stack([x, one(x)]).mean(0),
    lambda x, one: one(one(x)),
)


KINDS = ("conv", "conv", "norm", "plain", "join", "mix", "grow", "last", "scale")


def _steps(lot, length):
    """Yield modules, and the channels behind each."""
    channels = 3
    for place in range(length):
        kind = (
            lot.choice(["conv", "conv", "norm", "plain", "join", "mix", "grow", "last", "scale"]) if place else "conv"
        )
        if kind == "conv":
            module, channels = _conv(lot, channels)
        elif kind == "norm":
            module = lot.choice([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), nn.GroupNorm(2, channels)])
        elif kind == "plain":
            module = _Apply(lot.choice(PLAIN))
        elif kind == "mix":
            module = _Apply(lot.choice(MIXING))
        elif kind == "join":
            module = _Apply(lot.choice(JOINING), _inner(lot, channels))
        elif kind == "scale":
            module = lot.choice([_Scaled(channels), nn.PReLU(channels)])
        elif kind == "last":
            layer = lot.choice([nn.LayerNorm(channels), nn.Linear(channels, channels)])
            module = _Apply(_last, layer)
        else:
            one, more = _conv(lot, channels, 8)
            module, channels = _Apply(lambda x, one: torch.cat([x, one(x)], 1), one), channels + more
        yield module
    yield nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


def _network(seed):
    lot = random.Random(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(*_steps(lot, lot.randint(4, 12)))
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.double().eval()


def _scores(graph):
    """A number drawn by lot for each channel of all layers that write a group, and for each that is selected."""
    sizes = {name: group.size for name, group in graph.groups.items() if name not in graph.layers}
    writers = {name for group in graph.groups.values() for name in group.writers if name in graph.layers}
    sizes |= {name: graph.layers[name].writes.numel() for name in sorted(writers)}
    return {name: torch.rand(size) for name, size in sizes.items()}


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
@pytest.mark.parametrize("seed", SEEDS)
def test_cut_and_masked_networks_agree(seed, residual):
    model = _network(seed)
    try:
        graph = surgery.channel_graph(model, (3, 12, 12), residual=residual)
    except ValueError as refused:  # the layer and the reason are named
        if residual == "gather" and "runs 2 times and reads a stream" in str(refused):
            return
        raise
    assert set(graph.fixed) | {name for group in graph.groups.values() for name in group.writers}
    if not graph.groups:
        assert graph.fixed
        return
    plan = surgery.make_plan(graph, _scores(graph), keep=0.5)
    small = surgery.prune(model, plan)
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad(), surgery.mask(model, plan):
        wanted = model(x)
    assert torch.allclose(small(x), wanted, rtol=1e-9, atol=1e-12)
    small.train()(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
