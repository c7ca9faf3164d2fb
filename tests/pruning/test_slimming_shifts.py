"""What a scale at zero leaves behind: groups in which it amounts to removal, and folding the shifts that remain."""

import pytest
import torch
from compactvision import measure, models, surgery
from compactvision.pruning import proximal_network_slimming as slim
from torch import nn


def shaken(model, seed=0):
    """The model with random scales, shifts and statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.2 + torch.rand(module.weight.shape, generator=generator))
                module.bias.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
                module.running_mean.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
    return model.eval()


def third(model, seed=0):
    """Scores of which about a third is below 0."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(gamma.shape, generator=generator) - 1 / 3 for name, gamma in slim.steps.scales(model)}


def images(size=32):
    """Four images of noise."""
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))


NETWORKS = {
    "vgg16": (models.vgg16_bn, "grouped", 4224),
    "densenet40": (models.densenet40, "gather", 9360),
    "preresnet110": (models.preresnet110, "gather", 8080 - 16),
    "resnet20": (models.resnet20, "grouped", 16 + 336),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_behind_scales_scale_and_shift_zero_amount_to_removal(name):
    """The cut network is the whole one with scale and shift of the removed channels set to zero, as published."""
    build, residual, channels = NETWORKS[name]
    model = shaken(build(generator=torch.Generator().manual_seed(0)))
    graph = surgery.channel_graph(model, (3, 32, 32), residual=residual)
    allowed = slim.behind_scales(graph)
    assert sum(group.size for group in allowed.groups.values()) == channels
    plan = surgery.make_plan(allowed, third(model), keep_above=0.0)
    small = surgery.prune(model, plan)
    with torch.no_grad():
        for layer, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                kept = plan.kept[plan.graph.layers[layer].writes]
                module.weight *= kept
                module.bias *= kept
        expected = model(images())
        torch.testing.assert_close(small(images()), expected, rtol=1e-4, atol=1e-5)


def test_a_shortcut_beside_the_scale_keeps_its_channels():
    model = models.preresnet110()
    graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    left_out = graph.groups.keys() - slim.behind_scales(graph).groups.keys()
    assert left_out == {"conv1", "layer2.0.shortcut:in", "layer3.0.shortcut:in"}


def pointwise():
    """A network without padding: 1 x 1 convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 9, 1, bias=False), nn.BatchNorm2d(9), nn.ReLU(),
        nn.Conv2d(9, 7, 3), nn.BatchNorm2d(7), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 5),
    )  # fmt: skip


def folded(model, size=8):
    """Dense logits with scales at zero, and those of the cut and of the folded network."""
    x = images(size)
    graph = slim.behind_scales(surgery.channel_graph(model, (3, size, size)))
    plan = surgery.make_plan(graph, third(model), keep_above=0.0)
    assert not plan.kept.all()
    fold = slim.fold_shifts(model, plan)
    with torch.no_grad():
        with slim.scales_at_zero(model, plan):
            dense = model(x)
        return dense, surgery.prune(model, plan)(x), fold(x), fold, plan


def test_folding_is_exact_without_padding():
    dense, cut, fold, _, _ = folded(shaken(pointwise()))
    torch.testing.assert_close(fold, dense, rtol=1e-5, atol=1e-5)
    assert (cut - dense).abs().max() > 0.01


def test_folding_is_exact_inside_a_padded_map():
    """Only the border differs, and by what the filter would have read outside."""
    model = shaken(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)))
    model[1].bias.data.abs_()
    dense, cut, fold, _, _ = folded(model)
    torch.testing.assert_close(fold[..., 1:-1, 1:-1], dense[..., 1:-1, 1:-1], rtol=1e-5, atol=1e-5)
    assert (fold - dense).abs().max() > 0.01
    assert (fold - dense).square().mean() < (cut - dense).square().mean()


def test_the_model_is_left_as_it_was():
    model = shaken(models.small_cnn(5, widths=(6, 8))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = slim.behind_scales(surgery.channel_graph(model, (3, 32, 32)))
    slim.fold_shifts(model, surgery.make_plan(graph, third(model), keep_above=0.0))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_folded_network_is_saved(tmp_path):
    model = shaken(models.small_cnn(5, widths=(6, 8)))
    _, _, expected, fold, plan = folded(model, 32)
    assert measure.parameters(fold) == plan.parameters + 8 - int(
        (~plan.kept[plan.graph.layers["features.4"].writes]).sum()
    )
    surgery.save(
        fold, tmp_path / "net.safetensors", builder="small_cnn", arguments={"num_classes": 5, "widths": [6, 8]}
    )
    with torch.no_grad():
        torch.testing.assert_close(surgery.load(tmp_path / "net.safetensors")(images()), expected)


@pytest.mark.parametrize("example_inputs", [(3, 8, 8), torch.randn(4, 3, 8, 8), (3, 1, 1), torch.randn(1, 3, 1, 1)])
def test_refuses_what_is_no_constant(example_inputs):
    """Without a scale between, a removed channel is different for each image; one image of one pixel shows it."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    model[0].bias.data.fill_(0.1)
    graph = surgery.channel_graph(model, example_inputs)
    assert list(slim.behind_scales(graph).groups) == ["2"]
    plan = surgery.make_plan(graph, surgery.criteria.l1(), keep=0.5)
    with pytest.raises(ValueError, match="removed channels are no constants where layer '2' reads them"):
        slim.fold_shifts(model, plan)


def test_a_copy_is_folded_by_the_plan_of_its_original():
    model = shaken(pointwise())
    graph = slim.behind_scales(surgery.channel_graph(model, (3, 8, 8)))
    plan = surgery.make_plan(graph, third(model), keep_above=0.0)
    other = shaken(pointwise(), seed=1)
    fold = slim.fold_shifts(other, plan)
    with torch.no_grad(), slim.scales_at_zero(other, plan):
        torch.testing.assert_close(fold(images(8)), other(images(8)), rtol=1e-5, atol=1e-5)


def test_refuses_a_channel_map():
    model = shaken(models.resnet20())
    graph = slim.behind_scales(surgery.channel_graph(model, (3, 32, 32)))
    plan = surgery.make_plan(graph, third(model), keep_above=0.0)
    with pytest.raises(ValueError, match=r"'layer2.0.shortcut' only copies channels"):
        slim.fold_shifts(model, plan)


def test_refuses_a_graph_without_scales():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    graph = surgery.channel_graph(model, (3, 8, 8))
    with pytest.raises(ValueError, match="no group of a graph with residual='grouped' is read through scales only"):
        slim.behind_scales(graph)


def test_what_is_written_later_is_not_what_was_read():
    """A sum in place on the map that a layer has read before."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
            self.conv2, self.bn2 = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            stream = self.bn1(self.conv1(x)).relu_()
            stream += self.bn2(self.conv2(stream))
            return self.fc(stream.mean((2, 3)))

    model = shaken(InPlace())
    with torch.no_grad():
        model.bn1.bias.add_(1)
        model.bn2.bias.add_(2)
    graph = slim.behind_scales(surgery.channel_graph(model, (3, 8, 8)))
    plan = surgery.keep_plan(graph, {"conv1": [1, 2, 5]})
    small = slim.fold_shifts(model, plan)
    with torch.no_grad(), slim.scales_at_zero(model, plan):
        torch.testing.assert_close(small(images(8)), model(images(8)), rtol=1e-4, atol=1e-5)


def test_a_norm_that_bends_gives_its_bent_shift():
    class NormThenReLU(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    model = shaken(nn.Sequential(nn.Conv2d(3, 6, 1), NormThenReLU(6), nn.Conv2d(6, 2, 1)))
    plain = surgery.channel_graph(nn.Sequential(model[0], nn.BatchNorm2d(6), model[2]), (3, 8, 8))
    plan = surgery.keep_plan(plain, {"0": [0, 1]})
    with torch.no_grad(), slim.scales_at_zero(model, plan):
        given = model[1](model[0](images(8)))
    assert (model[1].bias < 0).any()
    torch.testing.assert_close(
        given[:, 2:], model[1].bias.detach().relu()[2:].view(1, -1, 1, 1).expand_as(given[:, 2:])
    )
