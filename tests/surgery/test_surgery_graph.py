import copy
import re

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure, models, surgery
from torch import nn


def test_a_vgg_is_a_chain_of_thirteen_groups(graph):
    channels = graph("vgg16_bn", "grouped")
    sizes = [group.size for group in channels.groups.values()]
    assert sizes == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    first = channels.groups["features.0"]
    assert (first.kind, first.writers, first.followers, first.readers) == (
        "inner",
        ("features.0",),
        ("features.1",),
        ("features.3",),
    )
    assert channels.groups["features.40"].readers == ("classifier",)
    assert channels.fixed == {"classifier": "it is the network's output"}


def test_the_streams_of_an_option_a_resnet_are_three_groups(graph):
    channels = graph("resnet20_a", "grouped")
    streams = {name: group for name, group in channels.groups.items() if group.kind == "stream"}
    assert {name: group.size for name, group in streams.items()} == {
        "conv1": 16,
        "layer2.0.conv2": 32,
        "layer3.0.conv2": 64,
    }
    assert streams["conv1"].writers == ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2")
    assert "layer2.0.shortcut" in streams["conv1"].readers
    assert "layer2.0.shortcut" in streams["layer2.0.conv2"].writers
    assert streams["layer3.0.conv2"].readers == ("layer3.1.conv1", "layer3.2.conv1", "fc")
    inner = [group.size for group in channels.groups.values() if group.kind == "inner"]
    assert inner == [16] * 3 + [32] * 3 + [64] * 3


def test_scatter_form_frees_each_branch_and_fixes_the_stream(graph):
    channels = graph("resnet20_a", "scatter")
    assert [name for name, group in channels.groups.items() if group.kind == "scatter"] == [
        f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1, 2)
    ]
    assert channels.layers["layer1.0.bn2"].insert == "scatter"
    assert channels.fixed["conv1"] == channels.fixed["layer2.0.shortcut"] == "it writes into a stream that stays whole"
    with pytest.raises(ValueError, match="'conv1' cannot be cut: it writes into a stream that stays whole"):
        channels.group_of("conv1")


def test_gather_form_gives_each_reader_a_set_of_its_own(graph):
    channels = graph("preresnet164", "gather")
    gathered = [name for name, group in channels.groups.items() if group.kind == "gather"]
    assert len(gathered) == 54 + 2  # the first BatchNorm of each block, the last one, one shortcut behind a stream
    assert gathered[-1] == "bn:in"
    assert channels.groups["layer2.1.bn1:in"].followers == ("layer2.1.bn1",)
    assert channels.groups["layer2.1.bn1:in"].readers == ("layer2.1.conv1",)
    assert channels.groups["layer2.1.conv1"].kind == "inner"
    # the first block of the first stage reads the stem alone, which is in no sum
    assert sorted(set(channels.groups) & {"conv1", "layer2.0.shortcut:in", "layer3.0.shortcut:in"}) == [
        "conv1",
        "layer2.0.shortcut:in",
        "layer3.0.shortcut:in",
    ]


def test_dense_layers_are_read_at_an_offset(graph):
    channels = graph("densenet40", "grouped")
    second = channels.groups["dense1.1.conv1"]
    assert second.size == 12
    reader = channels.layers["dense1.3.conv1"]
    position = torch.isin(reader.reads, second.units).nonzero().flatten()
    assert position.tolist() == list(range(36, 48))  # behind 24 of the stem and 12 of the first layer
    assert "trans1.conv1" in second.readers
    assert "dense2.0.conv1" not in second.readers


def test_depthwise_convolutions_follow_their_producer(graph):
    channels = graph("mobilenet_v2", "grouped")
    expanded = channels.groups["features.2.conv.0.0"]
    assert expanded.followers == ("features.2.conv.0.1", "features.2.conv.1.0", "features.2.conv.1.1")
    assert expanded.readers == ("features.2.conv.2",)
    assert channels.layers["features.2.conv.1.0"].kind == "depthwise"


def test_resnet50_has_37_groups(graph):
    """One for the stem, two for each of the 16 bottlenecks, one stream a stage."""
    channels = graph("resnet50", "grouped")
    kinds = [group.kind for group in channels.groups.values()]
    assert (kinds.count("inner"), kinds.count("stream")) == (33, 4)
    assert channels.groups["layer2.0.conv3"].writers[:2] == ("layer2.0.conv3", "layer2.0.downsample.0")


@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_counts_of_the_whole_network_are_the_measured_ones(residual, graph):
    channels = graph("resnet56", residual)
    assert (channels.parameters, channels.macs) == (853_018, 125_485_696)
    assert channels.cost(torch.ones(channels.units, dtype=torch.bool)) == (853_018, 125_485_696)


def test_tracing_leaves_the_model_as_it_was(shaken):
    model = shaken(models.small_cnn(3)).train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    surgery.channel_graph(model, (3, 16, 16))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_only_and_without_leave_the_others_whole(graph):
    channels = graph("resnet20_a", "grouped")
    inner = channels.only(kinds="inner")
    assert set(inner.groups) == {name for name, group in channels.groups.items() if group.kind == "inner"}
    assert inner.fixed["conv1"] == inner.fixed["layer1.0.conv2"] == "left whole by choice"
    assert channels.without(kinds=["stream"]).groups == inner.groups
    assert set(channels.only("layer1.1.conv2").groups) == {"conv1"}  # a member stands for its group
    assert set(channels.groups) - set(channels.without(["conv1", "layer1.0.conv1"]).groups) == {
        "conv1",
        "layer1.0.conv1",
    }
    with pytest.raises(ValueError, match=r"kinds: no group is of kind \['scatter'\]"):
        channels.only(kinds="scatter")
    with pytest.raises(ValueError, match="group: 'conv9' is no group and writes none"):
        channels.without("conv9")
    with pytest.raises(ValueError, match="'fc' cannot be cut: it is the network's output"):
        channels.only("fc")


class _Net(nn.Module):
    """Two convolutions and a function between or around them."""

    def __init__(self, function, groups=1):
        super().__init__()
        self.function = function
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.c = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.function(self, x).mean((2, 3))


class _Unpooled(_Net):
    """The same without a mean at the end."""

    def forward(self, x):
        return self.function(self, x)


def _trace(function, **options):
    return surgery.channel_graph(_Net(function, **options), (3, 8, 8))


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda n, x: n.c(F.pad(n.a(x), (0, 0, 0, 0, 2, 2))[:, 2:6]), "'pad'"),
        (lambda n, x: n.c(n.a(x)[:, [3, 2, 1, 0]]), "'getitem'"),
        (lambda n, x: n.c(n.a(x).flip(1)), "'flip'"),
        (lambda n, x: n.c(torch.cat(n.a(x).chunk(2, 1), 1)), "'chunk'"),
        (lambda n, x: n.c(n.a(x).view(-1, 2, 2, 8, 8).transpose(1, 2).reshape(-1, 4, 8, 8)), "'view'|'transpose'"),
        (lambda n, x: n.c(F.group_norm(n.a(x), 2)), "'group_norm'"),
        (lambda n, x: F.conv2d(n.a(x), n.c.weight), "'conv2d'"),
        (lambda n, x: n.c(n.a(x).sum(1, keepdim=True).expand(-1, 4, -1, -1)), "'sum'"),
        (lambda n, x: n.c(torch.cat([n.a(x), torch.zeros(len(x), 1, 8, 8)], 1)[:, :4]), "'getitem'"),
        (lambda n, x: n.c(torch.cat([n.a(x)[:, :2], n.a(x)[:, 2:]], 1)), "'getitem'"),
        (lambda n, x: n.c(n.a(x).clamp(max=torch.ones(4, 1, 1))), "'clamp'"),
        (lambda n, x: n.c(torch.stack(n.a(x).unbind(1), 1)), "'unbind'"),
        (lambda n, x: n.c(torch.where(n.a(x) > 0, n.a(x), 0.0)), "'gt'|'where'"),
        (lambda n, x: n.c(F.pixel_shuffle(n.a(x), 2).expand(-1, 4, -1, -1)), "'pixel_shuffle'"),
        (lambda n, x: n.c(n.a(x).roll(1, 1)), "'roll'"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_channels_that_surgery_cannot_follow_stay_whole_and_what_reads_them_is_named(function, named, behind):
    """What lies behind them is cut."""
    model = _Net(function).eval()
    if behind:
        model = nn.Sequential(_Unpooled(function), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1)).eval()
    channels = _equal(model, (3, 8, 8)) if behind else surgery.channel_graph(model, (3, 8, 8))
    assert set(channels.groups) - {"0.c"} == ({"1"} if behind else set())
    reason = channels.fixed["0.a" if behind else "a"]
    assert re.fullmatch(f"'{'0' if behind else 'the model itself'}' calls ({named}) on it", reason)


def test_the_module_that_calls_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1))
    channels = _equal(model, (3, 4, 4))
    assert channels.fixed["0"] == "'1' calls 'group_norm' on it"
    assert set(channels.groups) == {"2"}


def test_a_layer_with_weights_made_anew_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 1)))
    with pytest.raises(ValueError, match="layer '1': its weight is no parameter but is made from others"):
        surgery.channel_graph(model, (3, 4, 4))


@pytest.mark.parametrize(("read", "written", "groups"), [(4, 4, 2), (4, 8, 4), (12, 6, 3), (6, 12, 2)])
@pytest.mark.parametrize("residual", ["grouped", "scatter", "gather"])
def test_whole_groups_of_a_convolution_go(read, written, groups, residual):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm = nn.Conv2d(3, read, 1), nn.BatchNorm2d(read)
            self.b = nn.Conv2d(read, written, 3, padding=1, groups=groups)
            self.c, self.d = nn.Conv2d(written, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = self.c(F.relu(self.b(F.relu(self.norm(self.a(x))))))
            return (y + self.d(y)).mean((2, 3))

    model = Block().eval()
    channels = _equal(model, (3, 8, 8), residual=residual)
    group = channels.groups["a"]
    assert (group.size, group.writers, group.readers) == (groups, ("a", "b"), ("b", "c"))
    assert channels.layers["b"].kind == "grouped"
    plan = surgery.keep_plan(channels, {"a": [groups - 1]})
    small = surgery.prune(model, plan)
    assert (small.b.in_channels, small.b.out_channels, small.b.groups) == (read // groups, written // groups, 1)
    assert (plan.macs, plan.parameters) == (measure.macs(small, (3, 8, 8)), measure.parameters(small))
    assert _equal(small, (3, 8, 8), residual=residual).groups


def test_a_group_that_meets_a_constant_keeps_all_groups_whole():
    channels = _trace(lambda n, x: n.c(n.b(n.a(x) + torch.ones(4, 1, 1))), groups=2)
    assert channels.groups == {}
    assert set(channels.fixed) == {"a", "b", "c"}


def test_shared_parameters_are_refused_by_name():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match=r"model: '0\.weight' and '1\.weight' are one parameter"):
        surgery.channel_graph(model, (3, 4, 4))


def test_channels_that_a_linear_layer_does_not_read_stay_whole():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    channels = _equal(model, (3, 8, 8))
    assert channels.fixed["0"] == "'1' reads another dimension of it"
    assert set(channels.groups) == {"1"}


def test_linear_layers_on_the_last_dimension_are_cut_where_they_read_channels():
    class Tokens(nn.Module):
        """As in ConvNeXt and MLP-Mixer: channels move to the end and back, tokens are mixed."""

        def __init__(self):
            super().__init__()
            self.stem, self.back = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
            self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 8)
            self.tokens1, self.tokens2 = nn.Linear(64, 10), nn.Linear(10, 64)

        def forward(self, x):
            y = self.stem(x)
            y = self.fc2(F.gelu(self.fc1(y.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
            y = self.back(y).flatten(2).transpose(1, 2)
            y = y + self.tokens2(F.gelu(self.tokens1(y.mT))).mT
            return y.mean(1)

    channels = _equal(Tokens(), (3, 8, 8))
    assert set(channels.groups) == {"stem", "fc1", "fc2", "tokens1"}
    assert channels.groups["stem"].readers == ("fc1",)
    assert channels.fixed["back"].startswith("'tokens1' reads another dimension of it")
    for residual in ("scatter", "gather"):
        assert set(_equal(Tokens(), (3, 8, 8), residual=residual).groups) == set(channels.groups)


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: n.c(n.a(x)[:, :4]),
        lambda n, x: n.c(n.a(x)[:, :, 1:, None, 2]),
        lambda n, x: n.c(n.a(x) * n.b(n.a(x)).mean((0, 2, 3), keepdim=True)),
        lambda n, x: n.c((h := n.a(x)) * n.b(h).mean((2, 3), keepdim=True).expand_as(h)),
        lambda n, x: n.c(n.a(x).flip(2, 3).roll(1, -1).repeat(1, 1, 2, 1)),
        lambda n, x: n.c(torch.cat(n.b(n.a(x)).chunk(2, 3), 3)),
        lambda n, x: n.c(n.a(x).movedim(1, -1).softmax(1).permute(0, 3, 1, 2)),
        lambda n, x: n.c(n.a(x).flatten(2).unflatten(2, (8, 8)).swapaxes(2, 3)),
        lambda n, x: n.c(n.a(x)[:, ...] + n.b(n.a(x))[..., :]),
        lambda n, x: n.c(F.pad(n.a(x), (1, 1, 2, 0), mode="circular")),
        lambda n, x: n.c(F.pad(n.a(x), (1, 1, 1, 1), mode="reflect")),
    ],
)
def test_movements_along_other_dimensions_are_followed(function):
    assert "a" in _agree(function).groups


def test_an_unknown_residual_form_is_refused():
    with pytest.raises(ValueError, match=r"residual must be one of .* got 'free'"):
        surgery.channel_graph(models.small_cnn(), (3, 8, 8), residual="free")


def _agree(function, groups=1, keep=0.5):
    """Trace, cut and compare with the mask; return the graph."""
    return _equal(_Net(function, groups), (3, 8, 8), keep=keep)


def _equal(model, shape, keep=0.5, residual="grouped"):
    model, x = model.eval(), torch.randn(2, *shape)
    channels = surgery.channel_graph(model, shape, residual=residual)
    assert channels.groups
    sizes = {name: channels.layers[name].writes.numel() for name in channels.groups if name in channels.layers}
    scores = {name: torch.arange(sizes.get(name, group.size)).float() for name, group in channels.groups.items()}
    plan = surgery.make_plan(channels, scores, keep=keep)
    with torch.no_grad(), surgery.mask(model, plan):
        masked = model(x)
    with torch.no_grad():
        torch.testing.assert_close(surgery.prune(model, plan)(x), masked)
    return channels


def test_functional_sums_and_activations_are_followed():
    channels = _agree(lambda n, x: n.c(F.relu(n.a(x) + 2 * n.b(F.relu(n.a(x))))))
    assert channels.groups["a"].writers == ("a", "b")
    assert channels.groups["a"].readers == ("b", "c")


def test_a_layer_that_is_used_twice_is_one_group_with_itself():
    channels = _agree(lambda n, x: n.c(n.b(torch.sigmoid(n.b(n.a(x))))))
    assert channels.groups["a"].writers == ("a", "b")


def test_products_couple_channels():
    channels = _agree(lambda n, x: n.c((h := n.a(x)) * torch.sigmoid(n.b(h.mean((2, 3), keepdim=True)))))
    assert channels.groups["a"].writers == ("a", "b")


@pytest.mark.parametrize(
    "function",
    [
        lambda n, x: n.c(n.a(x) * torch.ones(4, 1, 1)),
        lambda n, x: n.c(torch.arange(4.0).view(1, 4, 1, 1) + n.a(x)),
        lambda n, x: n.c(n.a(x) + torch.cat([x, x[:, :1]], 1)),
        lambda n, x: n.c((h := n.a(x)) + torch.ones_like(h)),
        lambda n, x: n.c(torch.cat([n.a(x)[:, :, :4], torch.zeros(len(x), 4, 4, 8)], 2)),
    ],
)
def test_channels_that_meet_a_constant_of_their_own_stay_whole(function):
    channels = _trace(function)
    assert channels.groups == {}
    assert channels.fixed["a"] == "it meets the images or another tensor that no layer made"


def test_one_channel_that_all_others_meet_stays_and_they_can_be_cut():
    class SpatialAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            h = self.a(x)
            return self.c(h * torch.sigmoid(self.b(h)) + self.b(h))

    channels = surgery.channel_graph(SpatialAttention(), (3, 4, 4))
    assert set(channels.groups) == {"a"}
    assert channels.fixed["b"] == "it is one channel that all others meet"
    _equal(SpatialAttention(), (3, 4, 4))


def test_a_layer_on_a_constant_reads_what_cannot_be_cut():
    channels = _agree(lambda n, x: n.c(n.a(x) + n.b(torch.ones(1, 4, 8, 8))))
    assert channels.groups["a"].writers == ("a", "b")
    assert channels.layers["b"].reads.tolist() != channels.layers["c"].reads.tolist()


def test_in_place_functions_slices_of_pixels_and_scalars_are_followed():
    def function(n, x):
        h = n.a(x)
        h += n.b(h) * torch.tensor(0.5)
        h.relu_()
        return n.c(F.avg_pool2d(F.pad(h[:, :, 1:-1, ::2], (1, 1)), 2))

    assert _agree(function).groups["a"].size == 4


def test_a_sum_of_a_concatenation_and_a_wide_branch_joins_three_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.wide = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 1)
            self.out = nn.Conv2d(5, 2, 1)

        def forward(self, x):
            return self.out(torch.cat([self.left(x), self.right(x)], 1) + self.wide(x))

    model, x = Net(), torch.randn(2, 3, 4, 4)
    channels = surgery.channel_graph(model, (3, 4, 4))
    assert {name: (group.size, group.writers) for name, group in channels.groups.items()} == {
        "left": (5, ("left", "right", "wide"))
    }
    with pytest.raises(ValueError, match="keep: layer 'left' would be left without an output channel"):
        surgery.keep_plan(channels, {"left": [3, 4]})
    plan = surgery.make_plan(channels, {"wide": torch.arange(5.0)}, keep_count={"left": 2})
    assert plan.keep == {"left": (1, 4)}  # the best of each writer stays, so no layer is emptied
    with torch.no_grad(), surgery.mask(model, plan):
        masked = model(x)
    torch.testing.assert_close(surgery.prune(model, plan)(x), masked)


def test_a_softmax_needs_all_channels():
    channels = surgery.channel_graph(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.LogSoftmax(1)),
        (3, 4, 4),
    )
    assert set(channels.groups) == {"0"}
    assert channels.fixed == {"3": "it is the network's output"}


def test_what_the_network_returns_stays_whole():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            first = self.a(x)
            return {"first": first, "second": [self.b(first)]}

    channels = surgery.channel_graph(Pyramid(), (3, 4, 4))
    assert channels.groups == {}
    assert set(channels.fixed) == {"a", "b"}


def test_a_reused_layer_cannot_gather():
    function = lambda n, x: n.b(h := n.a(x)) + n.b(n.c(h) + h)  # noqa: E731
    with pytest.raises(ValueError, match="layer 'b' runs 2 times and reads a stream"):
        surgery.channel_graph(_Net(function), (3, 8, 8), residual="gather")


def test_names_see_through_wrappers(network, graph):
    plan = surgery.keep_plan(graph("resnet20_a", "scatter"), {"layer1.0.conv2": [0]})
    names = {path: name for name, path, _ in surgery.named_layers(surgery.prune(network("resnet20_a"), plan))}
    assert names["layer1.0.bn2.0"] == "layer1.0.bn2"
    assert names["layer1.0.bn2.1"] == "layer1.0.bn2:out"
    assert "layer1.0.bn2" not in names
    assert names["layer1.1.bn2"] == "layer1.1.bn2"


def test_channels_under_a_softmax_inside_stay_whole():
    channels = _trace(lambda n, x: n.c(n.b(n.a(x)).softmax(1)))
    assert set(channels.groups) == {"a"}
    assert channels.fixed["b"] == "it is the network's output"
