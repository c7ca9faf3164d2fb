"""What a network does out of the recorder's sight is handled or refused by name, and a wrong cut never comes out."""

import dataclasses
import math
from collections import UserDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as masks
from compactvision import surgery
from torch import nn

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """Three convolutions and a classifier; ``function(net, x)`` says what is done with them."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)
        self.fc = nn.Linear(6, 5)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))

    def forward(self, x):
        return self.function(self, x)


def head(net, y):
    return net.fc(F.relu(net.c(y)).mean((2, 3)))


def half(graph, keep=0.5):
    """A plan that keeps the upper half of each group."""
    return surgery.make_plan(graph, {name: torch.arange(float(g.size)) for name, g in graph.groups.items()}, keep=keep)


def cut(model, keep=0.5, shape=SHAPE, residual="grouped"):
    """Cut half of each group; return the graph, and the largest difference of masked and pruned outputs."""
    model, x = model.eval(), torch.randn(2, *shape)
    graph = surgery.channel_graph(model, shape, residual=residual)
    plan = half(graph, keep)
    small = surgery.prune(model, plan)
    with torch.no_grad(), surgery.mask(model, plan):
        masked = model(x)
    with torch.no_grad():
        torch.testing.assert_close(small(x), masked, rtol=1e-4, atol=1e-5)
    return graph


@torch.jit.script
def swish_(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(torch.sigmoid(x))


@torch.jit.script
def turned(x: torch.Tensor) -> torch.Tensor:
    return x.flip(1)


def sliced(net, x):
    y = net.a(x)
    y[:, 2:6] = net.b(y)[:, 2:6]
    return head(net, y)


def zeroed(net, x):
    y = net.a(x)
    y[:, 0] = 0
    return head(net, y)


def collected(net, x):
    y = torch.zeros(len(x), 8, 8, 8)
    y[:, :, ::2] = net.a(x)[:, :, ::2]
    return head(net, y)


def copied(net, x):
    y = torch.empty(len(x), 8, 8, 8)
    y.copy_(net.a(x))
    return head(net, y)


def indexed(net, x):
    y = net.a(x)
    y.index_fill_(1, torch.tensor([0, 3]), 0.0)
    return head(net, y)


def scripted_statement(net, x):
    y = net.a(x)
    swish_(y)
    return head(net, y)


def other_name(net, x):
    y = net.a(x)
    view = y[:, :, :4]
    view += net.b(y)[:, :, :4]
    return head(net, y)


def through_numpy(net, x):
    return head(net, torch.from_numpy(net.a(x).numpy()[:, ::-1].copy()))


def a_number_of_it(net, x):
    y = net.a(x)
    return head(net, y * float(y[:, :, 0, 0].max()))


def a_branch_on_it(net, x):
    y = net.a(x)
    return head(net, y if y.mean() > 0 else -y)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (sliced, "'getitem' on channels|'setitem'"),
        (zeroed, "calls 'setitem'"),
        (collected, "calls 'setitem'"),
        (copied, "calls 'copy'"),
        (indexed, "calls 'index_fill'"),
        (scripted_statement, "reads a tensor that was made or written to where surgery cannot see it"),
        (lambda net, x: head(net, turned(net.a(x))), "'c' reads a tensor that was made"),
        (lambda net, x: head(net, F.relu(turned(net.a(x)))), "calls 'relu' on a tensor that was made"),
        (lambda net, x: turned(head(net, net.a(x))), "the model itself' returns a tensor that was made"),
        (other_name, "'c' reads a tensor that was made or written to"),
        (through_numpy, "calls 'numpy'"),
        (a_number_of_it, "goes on with a number of it|'getitem'|'max'"),
        (a_branch_on_it, "'mean'|goes on with a number of it"),
        (lambda net, x: head(net, net.a(x).tolist() and net.a(x)), "calls 'tolist'"),
    ],
)
def test_what_is_not_seen_is_refused_where_it_is_used(function, message):
    model = Net(function).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        surgery.channel_graph(model, SHAPE)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("small", [lambda y: y.mean((2, 3)), lambda y: y[:, :, 0, 0], lambda y: y.amax((2, 3))])
def test_channels_that_meet_those_of_another_dimension_stay_whole(small):
    graph = cut(Net(lambda net, x: head(net, net.a(x)[:2] * small(net.b(net.a(x)))[:1])))  # as many as pixels in a row
    assert graph.fixed["a"] == graph.fixed["b"] == "'the model itself' calls 'mul' on it"
    assert set(graph.groups) == {"c"}


def in_place_chain(net, x):
    y = net.a((x - net.mean).div_(0.25))
    y += net.b(y)
    F.relu_(y).mul_(2)
    torch.add(y, 1, out=y)
    return head(net, y)


def preprocessed(net, x):
    x = torch.stack([(x[:, i] - 0.4) / 0.2 for i in (2, 1, 0)], 1).clone()
    x[:, 0] = 0.5
    scale = float(x.std()) if x.max() > 0 else 1.0
    return head(net, net.a(swish_(x) / scale))


def joined(net, x):
    y = net.a(x)
    return net.fc(torch.concat([net.c(y).mean((2, 3))], dim=-1))


@pytest.mark.parametrize(
    "function",
    [
        in_place_chain,
        preprocessed,
        joined,
        lambda net, x: head(net, net.b(F.prelu(net.a(x), torch.tensor([0.2])))),
        lambda net, x: head(net, (1 + net.a(x)) * 0.5 - 2 / (1 + net.b(net.a(x)).exp())),
        lambda net, x: head(net, net.a(x) * torch.linspace(1, 2, len(x)).view(-1, 1, 1, 1)),
        lambda net, x: head(net, net.a(x)[..., 1:, ::2]),
        lambda net, x: head(net, F.logsigmoid(net.a(x)).pow(2).rsqrt().nan_to_num()),
        lambda net, x: net.fc(net.c(torch.cat([net.a(x), net.b(net.a(x))], axis=-2)).std((2, 3))),
    ],
)
def test_ordinary_statements_are_followed(function):
    torch.manual_seed(0)
    assert cut(Net(function)).groups


@pytest.mark.parametrize("join", [torch.cat, torch.concat, torch.concatenate])
@pytest.mark.parametrize("options", [{"dim": 1}, {"dim": -3}, {"axis": 1}])
def test_every_way_to_concatenate_channels_is_followed(join, options):
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 6, 1), nn.Conv2d(10, 2, 1)

        def forward(self, x):
            y = join([first := self.a(x), x], **options)
            return self.c(join((self.b(y), first.relu()), **options))

    graph = cut(Dense())
    assert set(graph.groups) == {"a", "b"}


Named = namedtuple("Named", "logits extra")


@dataclasses.dataclass
class Data:
    logits: torch.Tensor
    inner: object = None


class Slots:
    __slots__ = ("logits",)

    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: Data(None, [Data(y)]),
        lambda y: SimpleNamespace(logits=y, name="x"),
        lambda y: UserDict(logits=y),
        lambda y: Named(None, {"a": [y]}),
        lambda y: {"out": y, "count": 3},
    ],
)
def test_outputs_in_any_container_stay_whole(wrap):
    model = Net(lambda net, x: wrap(head(net, net.a(x)))).eval()
    graph = surgery.channel_graph(model, SHAPE)
    assert set(graph.groups) == {"a", "c"}
    assert graph.fixed == {"fc": "it is the network's output"}
    surgery.prune(model, half(graph))


@pytest.mark.parametrize("wrap", [lambda y: iter([y]), Slots, lambda y: lambda: y])
def test_outputs_in_which_one_cannot_look_are_refused(wrap):
    with pytest.raises(ValueError, match=r"model: returns a .*, in which surgery cannot look for tensors"):
        surgery.channel_graph(Net(lambda net, x: wrap(head(net, net.a(x)))), SHAPE)


@pytest.mark.parametrize(
    ("function", "place"),
    [
        (lambda net, x: head(net, net.a(x) / math.sqrt(net.a(x).shape[1])), "from the input of layer 'c' on"),
        (lambda net, x: head(net, net.b(net.a(x)) + net.a(x).size(1)), "from the input of layer 'c' on"),
        (lambda net, x: net.fc(net.c(net.a(x)).sum((2, 3)) / net.c.out_channels), "from the input of layer 'fc' on"),
        (lambda net, x: head(net, net.a(x)) * net.a.weight.shape[0], "behind its last layer"),
    ],
)
def test_a_number_taken_from_a_width_is_found_before_the_cut_network_comes_out(function, place):
    with pytest.raises(ValueError, match=f"plan: the cut network computes something else {place}"):
        cut(Net(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: net.fc(net.c(net.a(x)).mean((2, 3)).view(-1, 6)),
        lambda net, x: net.fc(net.c(net.a(x)).mean((2, 3)).reshape(len(x), 6)),
        lambda net, x: head(net, F.pad(net.a(x), (0, 0, 0, 0, 0, 8 - net.a(x).shape[1]))),
    ],
)
def test_a_width_written_into_the_forward_is_named(function):
    with pytest.raises(ValueError, match=r"plan: the cut network (fails in|computes something else)"):
        cut(Net(function))


def test_a_group_that_a_written_number_stands_for_can_be_left_whole():
    model = Net(lambda net, x: net.fc(net.c(net.a(x)).mean((2, 3)).view(-1, 6))).eval()
    graph = surgery.channel_graph(model, SHAPE).without("c")
    small = surgery.prune(model, half(graph))
    assert small.a.out_channels == 4


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda conv: masks.ln_structured(conv, "weight", 0.5, n=1, dim=0),
        lambda conv: masks.random_unstructured(conv, "bias", 0.5),
        lambda conv: nn.utils.weight_norm(conv),
        lambda conv: nn.utils.spectral_norm(conv),
        lambda conv: nn.utils.parametrizations.orthogonal(conv),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_made_anew_are_refused_and_say_how_to_go_on(rewrite):
    model = Net(lambda net, x: head(net, net.b(net.a(x))))
    rewrite(model.b)
    with pytest.raises(ValueError, match=r"layer 'b': its (weight|bias) is no parameter .*prune\.remove"):
        surgery.channel_graph(model, SHAPE)


def test_permanent_masks_can_be_cut():
    model = Net(lambda net, x: head(net, net.b(net.a(x))))
    masks.l1_unstructured(model.b, "weight", 0.5)
    masks.remove(model.b, "weight")
    assert cut(model).groups


def test_a_hook_that_writes_to_a_weight_is_refused():
    model = Net(lambda net, x: head(net, net.b(net.a(x))))
    model.b.register_forward_pre_hook(lambda module, args: module.weight.data.sub_(module.weight.mean()) and None)
    with pytest.raises(ValueError, match=r"model: parameter 'b\.weight' is written to while the network runs"):
        surgery.channel_graph(model, SHAPE)


def test_a_hook_that_replaces_a_weight_is_refused():
    model = Net(lambda net, x: head(net, net.b(net.a(x))))

    def hook(module, args):
        module.weight.data = module.weight.data.clone()

    model.b.register_forward_pre_hook(hook)
    with pytest.raises(ValueError, match=r"model: parameter 'b\.weight' is replaced while the network runs"):
        surgery.channel_graph(model, SHAPE)


def test_hooks_on_layers_are_looked_into():
    model = Net(lambda net, x: head(net, net.b(net.a(x))))
    model.b.register_forward_hook(lambda module, args, output: output.flip(1))
    assert cut(model).fixed["b"] == "'the model itself' calls 'flip' on it"
    model = Net(lambda net, x: head(net, net.b(net.a(x))))
    model.b.register_forward_pre_hook(lambda module, args: (args[0].roll(1, 1),))
    assert cut(model).fixed["a"] == "'the model itself' calls 'roll' on it"


class Auxiliary(Net):
    """A second classifier that runs in training only, as in GoogLeNet."""

    def __init__(self, reads=8):
        super().__init__(None)
        self.side = nn.Sequential(nn.Conv2d(reads, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 5))

    def forward(self, x):
        y = self.a(x)
        return (head(self, y), self.side(y)) if self.training else head(self, y)


def test_a_branch_that_runs_in_training_only_is_cut_along():
    model = Auxiliary()
    graph = cut(model)
    assert graph.groups["a"].readers == ("c", "side.0")
    assert graph.fixed["side.3"] == "it is the network's output"
    small = surgery.prune(model, half(graph)).train()
    logits, side = small(torch.randn(2, *SHAPE))
    (logits.sum() + side.sum()).backward()
    assert small.side[0].weight.grad.shape == (2, 4, 1, 1)


def test_a_branch_of_training_that_cannot_be_followed_is_refused():
    class Mixed(Auxiliary):
        def forward(self, x):
            y = self.a(x)
            if self.training:
                y[:, 0] = 0
                return self.side(y)
            return head(self, y)

    with pytest.raises(ValueError, match=r"model: 'c?.*' does not run .* evaluation mode, .*calls 'setitem'"):
        surgery.channel_graph(Mixed(), SHAPE)


def test_a_branch_of_training_that_turns_channels_keeps_them_whole():
    class Mixed(Auxiliary):
        def forward(self, x):
            y = self.a(x)
            return (head(self, y), self.side(y.flip(1))) if self.training else head(self, y)

    graph = cut(Mixed())
    assert graph.fixed["a"] == "'the model itself' calls 'flip' on it"
    assert set(graph.groups) == {"c", "side.0"}


def test_a_layer_that_never_runs_stays_as_it_is():
    model = Net(lambda net, x: head(net, net.a(x)))
    graph = cut(model)
    small = surgery.prune(model, surgery.keep_plan(graph, {"a": [0, 3, 5]}))
    assert "b" not in graph.layers
    assert small.b.in_channels == 8


def test_numbers_of_training_mode_are_found_too():
    def function(net, x):
        y = net.a(x)
        return head(net, y.view(-1, 8, 8, 8) if net.training else y)

    model = Net(function)
    with pytest.raises(ValueError, match=r"plan: the cut network (fails in|gives outputs of other shapes)"):
        cut(model)


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_a_layer_with_two_names_is_cut_under_both(residual):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.branch, self.out = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)
            self.blocks = nn.ModuleList([nn.Sequential(self.branch)])
            self.alias = self.out

        def forward(self, x):
            y = self.stem(x)
            return self.alias((y + self.blocks[0](y).relu()).mean((2, 3)))

    cut(Twice(), residual=residual)


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.randn(1, 8, 4, 4))])
def test_scripted_modules_are_refused_by_name(make):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), make(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())), nn.Conv2d(8, 2, 1))
    with pytest.raises(ValueError, match="model: '1' is scripted or traced"):
        surgery.channel_graph(model, (3, 4, 4))


class BatchNormAct(nn.BatchNorm2d):
    """As in timm: a BatchNorm that applies its activation itself."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        if self.training:
            self.num_batches_tracked.add_(1)
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        return self.act(self.drop(x))


class SamePadding(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


@pytest.mark.parametrize("act", [nn.ReLU(inplace=True), nn.SiLU(), nn.Hardsigmoid(), nn.Identity()])
@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_subclasses_that_call_the_function_with_their_own_weight_are_cut(act, residual, shaken):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm0 = SamePadding(3, 8, 2), BatchNormAct(8, act)
            self.conv, self.norm = SamePadding(8, 8, 2), BatchNormAct(8, act)
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            y = self.norm0(self.stem(x))
            return self.out((y + self.norm(self.conv(y))).mean((2, 3)))

    graph = cut(shaken(Block()), residual=residual)
    assert graph.layers["norm"].kind == "norm"


def test_a_subclass_that_changes_its_weight_stays_whole():
    layers = nn.Conv2d(3, 4, 1), Standardised(4, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1)
    graph = cut(nn.Sequential(*layers))
    assert graph.fixed["0"] == "'1' calls 'conv2d' on it"
    assert set(graph.groups) == {"2"}


def test_a_timing_does_not_ask_for_right_outputs_but_a_plan_within_it_does():
    model = Net(lambda net, x: head(net, net.a(x) * net.a(x).shape[1] ** -0.5)).eval()
    graph = surgery.channel_graph(model, SHAPE)
    plan = surgery.keep_plan(graph, {"a": [0, 1]})
    assert surgery.measured_latency(model, SHAPE, warmup=0, repeats=1)(plan) > 0
    with pytest.raises(ValueError, match="computes something else"):
        surgery.prune(model, plan)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4), (3, 2, 2)])
def test_an_example_that_the_network_cannot_run_on_is_named(shape):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    with pytest.raises(ValueError, match=r"example_inputs: '\d' fails on \(1, "):
        surgery.channel_graph(model, shape)


def test_googlenet_with_its_auxiliary_heads_trains_after_the_cut(shaken):
    torchvision = pytest.importorskip("torchvision")
    model = shaken(torchvision.models.googlenet(weights=None, init_weights=False, num_classes=4, transform_input=True))
    graph = surgery.channel_graph(model, (3, 64, 64))
    small = surgery.prune(model, half(graph)).train()
    outputs = small(torch.randn(2, 3, 64, 64))
    sum(output.sum() for output in outputs).backward()
    assert small.aux1.fc2.weight.shape == (4, 512)
    assert small.aux1.conv.conv.weight.grad.shape == (64, 256, 1, 1)


def test_a_layer_that_is_called_by_keyword_is_refused():
    with pytest.raises(ValueError, match=r"layer 'c': surgery needs an input .* got nothing without a keyword"):
        surgery.channel_graph(Net(lambda net, x: net.fc(net.c(input=net.a(x)).mean((2, 3)))), SHAPE)
