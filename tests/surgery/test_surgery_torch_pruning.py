"""Torch-Pruning as the oracle of the grouped form, and its silent error on zero-padding shortcuts."""

import copy
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from compactvision import surgery
from torch import nn

from oracles.residual_masks import masked_resnet


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet20_b", "densenet40", "googlenet", "mobilenet_v2", "resnet50"])
def test_both_find_the_same_coupled_channels(name, network, graph, random_scores):
    """Cut the same channels with both, group by group, and compare all weights that are left."""
    channels = graph(name, "grouped")
    plan = surgery.make_plan(channels, random_scores(channels), keep=0.7)
    ours = surgery.prune(network(name), plan)
    theirs = copy.deepcopy(network(name))
    found = torch_pruning.DependencyGraph().build_dependency(theirs, torch.randn(1, 3, 32, 32))
    for group_name, kept in plan.keep.items():
        removed = sorted(set(range(channels.groups[group_name].size)) - set(kept))
        module = theirs.get_submodule(group_name)
        found.get_pruning_group(module, torch_pruning.prune_conv_out_channels, idxs=removed).prune()
    expected = theirs.state_dict()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


class _Pad(nn.Module):
    """The option-A shortcut as it is usually written."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


def _usual_form(model):
    """The same network with zero-padding shortcuts, and the classifier as a convolution on the pooled map."""
    model = copy.deepcopy(model)
    model.layer2[0].shortcut, model.layer3[0].shortcut = _Pad(8), _Pad(16)
    head = nn.Conv2d(64, 10, 1)
    head.load_state_dict({"weight": model.fc.weight[:, :, None, None], "bias": model.fc.bias})
    stages = {name: getattr(model, name) for name in ("conv1", "bn1", "relu", "layer1", "layer2", "layer3", "avgpool")}
    return nn.Sequential(OrderedDict(stages, head=head, flatten=nn.Flatten())).eval()


def test_torch_pruning_is_silently_wrong_on_option_a(network, graph):
    """It takes the padding for an elementwise operation: channel i of one stage for channel i of the next.

    The shortcut copies channel i to 8 + i. Once channels 2 and 9 are gone from both stages, what it copies to place
    8 + i belongs elsewhere; the shapes still fit, so the network runs without a word and computes something else.
    """
    dense, x, removed = network("resnet20_a"), torch.randn(4, 3, 32, 32), [2, 9]
    usual = _usual_form(dense)
    with torch.no_grad():
        torch.testing.assert_close(usual(x), dense(x))

    streams = {stage: torch.ones(width) for stage, width in enumerate((16, 32, 64))}
    for mask in streams.values():
        mask[removed] = 0
    keep = {name: mask.bool() for name, mask in zip(("conv1", "layer2.0.conv2", "layer3.0.conv2"), streams.values())}
    ours = surgery.prune(dense, surgery.keep_plan(graph("resnet20_a", "grouped"), keep))
    found = torch_pruning.DependencyGraph().build_dependency(usual, x[:1])
    found.get_pruning_group(usual.layer3[0].conv2, torch_pruning.prune_conv_out_channels, idxs=removed).prune()
    for stage, width in ((usual.layer1, 14), (usual.layer2, 30), (usual.layer3, 62)):
        assert stage[1].conv2.out_channels == width  # the same numbers of channels, and the same channels, are gone
    with torch.no_grad():
        expected = masked_resnet(dense, x, streams=streams)
        assert (ours(x) - expected).abs().max() < 1e-5 * expected.abs().max()
        assert (usual(x) - expected).abs().max() > 0.05 * expected.abs().max()


def test_the_usual_option_a_shortcut_keeps_its_streams_whole(network):
    usual = copy.deepcopy(network("resnet20_a"))
    usual.layer2[0].shortcut = _Pad(8)
    graph = surgery.channel_graph(usual, (3, 32, 32))
    assert graph.fixed["conv1"] == "'layer2.0.shortcut' calls 'pad' on it"
    assert graph.fixed["layer2.0.conv2"].startswith("it meets what is kept whole: 'layer2.0.shortcut' calls 'pad'")
    assert "layer2.0.conv1" in graph.groups
