"""Every importance on networks as they are met: activations of all forms, one module used often, no BatchNorm."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from compactvision import measure, surgery
from compactvision.explanation import unit_ablation
from compactvision.pruning import autobot
from compactvision.pruning import proximal_network_slimming as slim
from compactvision.pruning.energy_aware_pruning import energy, rank
from compactvision.pruning.lrp_pruning import lrp, rules
from compactvision.surgery import criteria
from torch import nn

from networks import with_statistics

SIDE = 16


class Plain(nn.Module):
    """Two convolutions, a residual block and a classifier with a hidden layer; its activation is any callable."""

    def __init__(self, activation, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), norm(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 12, 3, padding=1), norm(12)
        self.conv3, self.norm3 = nn.Conv2d(12, 12, 3, padding=1), norm(12)
        self.hidden, self.fc = nn.Linear(12, 10), nn.Linear(10, 5)
        self.activation = activation

    def forward(self, x):
        x = F.max_pool2d(self.activation(self.norm1(self.conv1(x))), 2)
        stream = self.activation(self.norm2(self.conv2(x)))
        stream = self.norm3(self.conv3(stream)) + stream
        return self.fc(self.activation(self.hidden(self.activation(stream).mean((2, 3)))))


class Tutorial(nn.Module):
    """The order of the best-known tutorial: the pooling before the function."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.drop = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 8, 3), nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(32, 10), nn.Linear(10, 5)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2))
        return F.log_softmax(self.fc2(F.dropout(F.relu(self.fc1(x.view(-1, x.shape[1] * 4))), training=False)), 1)


ACTIVATIONS = {
    "one module": nn.ReLU,
    "one module in place": lambda: nn.ReLU(inplace=True),
    "function": lambda: F.relu,
    "method": lambda: torch.Tensor.relu,
    "function in place": lambda: torch.relu_,
    "prelu": nn.PReLU,
    "tanh": nn.Tanh,
    "torch.tanh": lambda: torch.tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "silu by hand": lambda: lambda x: x * torch.sigmoid(x),
    "hardswish": nn.Hardswish,
    "hardswish by hand": lambda: lambda x: x * F.relu6(x + 3) / 6,
    "gelu": nn.GELU,
    "gelu of tanh": lambda: partial(F.gelu, approximate="tanh"),
    "clamp": lambda: lambda x: x.clamp(min=0),
    "elu": nn.ELU,
    "leaky": lambda: partial(F.leaky_relu, negative_slope=0.2, inplace=True),
    "mish": lambda: F.mish,
}
NETWORKS = {
    **{name: lambda name=name: Plain(ACTIVATIONS[name]()) for name in ACTIVATIONS},
    "no norm": lambda: Plain(F.relu, lambda width: nn.Identity()),
    "no norm in place": lambda: Plain(nn.ReLU(inplace=True), lambda width: nn.Identity()),
    "norm without scale": lambda: Plain(nn.ReLU(), partial(nn.BatchNorm2d, affine=False)),
    "tutorial": Tutorial,
}


def batches(side=SIDE, count=2, classes=5):
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(3, 3, side, side, generator=generator), torch.randint(classes, (3,), generator=generator))
        for _ in range(count)
    ]


def importances(data, graph):
    """Every importance of the book by name."""
    few = [(x[:2], y[:2]) for x, y in data[:1]]
    return {
        "l1": criteria.l1(),
        "l2": criteria.l2(),
        "constant": criteria.constant(),
        "random": criteria.random(torch.Generator().manual_seed(0)),
        "reverse": criteria.reverse(criteria.l1()),
        "batch_norm_scale": criteria.batch_norm_scale(),
        "taylor": criteria.taylor(data),
        "gradient": criteria.gradient(data),
        "energy": energy(data),
        "energy of images": energy(data, mode="image"),
        "energy of filters": energy(None, mode="weight"),
        "rank": rank(data),
        "lrp": lrp(few, default=rules.epsilon()),
        "slimming": slim.NetworkSlimming(1e-4).importance,
        "unit ablation": unit_ablation.importance(few),
        "autobot": lambda model: autobot.learn_gates(model, graph, data, steps=1)(model),
    }


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def cut_and_checked(graph, plan, images):
    """The pruned network, which gives what the masked one gives and trains on."""
    model, small = graph.model, surgery.prune(graph.model, plan)
    with torch.no_grad():
        pruned = small(images)
        with surgery.mask(model, plan):
            assert relative(pruned, model(images)) < 1e-4
    assert measure.macs(small, images[:1]) == plan.macs < graph.macs
    return small


def trains(small, images, targets):
    small.train()
    sgd = torch.optim.SGD(small.parameters(), lr=0.01)
    F.cross_entropy(small(images), targets).backward()
    sgd.step()
    assert all(parameter.isfinite().all() for parameter in small.parameters())
    return small.eval()


RECTIFIED = {
    "one module", "one module in place", "function", "method", "leaky", "no norm",
    "no norm in place", "norm without scale"
}  # fmt: skip


def attempt(function, *args, **options):
    """What a function gives and None, or None and the words of its ValueError."""
    try:
        return function(*args, **options), None
    except ValueError as refusal:
        return None, str(refusal)


@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_an_importance_scores_can_be_cut_and_the_rest_is_named(name, shaken):
    model = NETWORKS[name]().eval()
    if name != "norm without scale":
        shaken(model)
    data = batches()
    graph = surgery.channel_graph(model, (3, SIDE, SIDE))
    refused = {}
    for kind, importance in importances(data, graph).items():
        scores, refused[kind] = attempt(importance, model)
        if scores is not None:
            assert scores
            assert all(values.ndim == 1 and values.isfinite().all() for values in scores.values())
            if graph is not None:
                plan, refused[kind] = attempt(surgery.make_plan, graph, scores, keep=0.5)
                if plan is not None:
                    cut_and_checked(graph, plan, data[0][0])
    refused = {kind: words for kind, words in refused.items() if words is not None}
    assert ("lrp" in refused) <= (name not in RECTIFIED)  # no rule is known for the others, which it says
    refused.pop("lrp", None)
    if name.startswith(("no norm", "norm", "tutorial")):
        assert set(refused) == {"batch_norm_scale", "slimming"}
        assert all("no BatchNorm with a scale; criteria.l1()" in words for words in refused.values())
    else:
        assert set(refused) == {"batch_norm_scale", "slimming"}  # the hidden layer has no BatchNorm
        words = "scores: none for group 'hidden'; give them for one of hidden, or leave the group whole"
        assert all(words in given for given in refused.values())


@pytest.mark.parametrize("name", ["one module in place", "function", "no norm", "tutorial"])
def test_cut_networks_train_save_and_load(name, tmp_path):
    torch.manual_seed(0)
    model, data = NETWORKS[name]().eval(), batches()
    graph = surgery.channel_graph(model, (3, SIDE, SIDE))
    small = cut_and_checked(graph, surgery.make_plan(graph, energy(data), keep=0.5), data[0][0])
    trains(small, *data[1])
    surgery.save(small, tmp_path / "small.safetensors")
    same = surgery.load(tmp_path / "small.safetensors", build=NETWORKS[name])
    with torch.no_grad():
        assert torch.equal(same(data[0][0]), small(data[0][0]))


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v2"])
def known(request):
    """A network of torchvision at 224 pixels, and the graph of its inner channels."""
    torch.manual_seed(0)
    model = with_statistics(getattr(torchvision.models, request.param)(weights=None))
    return request.param, model, surgery.channel_graph(model, (3, 224, 224)).only(kinds="inner")


FAST = ("l1", "l2", "constant", "random", "reverse", "batch_norm_scale", "taylor", "gradient", "energy", "rank", "lrp")


@pytest.mark.parametrize("kind", [*FAST, "energy of images", "energy of filters", "slimming", "autobot"])
def test_every_importance_at_224_pixels(kind, known):
    """Scores for all channels inside the blocks; unit ablation, one pass a channel, is for smaller ones."""
    _, model, graph = known
    data = [(torch.randn(1, 3, 224, 224), torch.tensor([7]))]
    scores, refusal = attempt(importances(data, graph)[kind], model)
    assert refusal is None
    assert all(values.isfinite().all() for values in scores.values())
    plan = surgery.make_plan(graph, scores, keep_macs=0.7)
    assert plan.macs <= 0.7 * graph.macs


def test_energy_of_streams_says_what_to_name(known):
    name, model, _ = known
    data = [(torch.randn(1, 3, 64, 64), None)]
    whole = surgery.channel_graph(model, (3, 64, 64))
    if name == "mobilenet_v2":  # its bottlenecks have no activation and are read as they are
        assert surgery.make_plan(whole, energy(data), keep=0.5).macs < whole.macs
        return
    words = "scores: none for group 'layer2.0.conv2'; .*layer2.0.bn2.*, or leave the group whole, graph.without"
    with pytest.raises(ValueError, match=words):
        surgery.make_plan(whole, energy(data), keep=0.5)
    blocks = {f"layer{stage}.{block}.bn2": f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)}
    scores = energy(data)(model) | energy(data, layers=blocks)(model)
    assert surgery.make_plan(whole, scores, keep=0.5).macs < whole.macs
