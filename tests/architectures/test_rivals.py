"""What U-MixFormer is compared with: who hears of whom, equal costs, and maps of a frozen encoder."""

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure
from compactvision.architectures.u_mixformer import UMixFormerHead, frozen, rivals
from compactvision.models import EfficientNetLite
from compactvision.models.segmentation import SegFormerHead
from torch import nn

WIDTHS, GRIDS = (4, 6, 8), (12, 6, 3)


def maps(count=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(count, c, n, n, generator=draw) for c, n in zip(WIDTHS, GRIDS, strict=True)]


def headed(layer):
    return nn.Sequential(layer, SegFormerHead(layer.out_channels, 3, width=8)).eval()


LAYERS = {
    "maximum": lambda: rivals.GlobalMaximum(WIDTHS, hidden=5, found=7),
    "maximum, level 3": lambda: rivals.GlobalMaximum(WIDTHS, hidden=5, found=7, level=3),
    "pooling": lambda: rivals.PyramidPooling(WIDTHS, bins=(1, 3), found=32),
    "no attention": lambda: rivals.WithoutAttention(WIDTHS),
    "filling": lambda: rivals.Filling(WIDTHS, 9),
    "nothing": lambda: rivals.Filling(WIDTHS, 0),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_pyramid_becomes_a_pyramid(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind]().eval()
    given, found = maps(), layer(maps())
    assert tuple(each.shape[1] for each in found) == layer.out_channels
    assert [each.shape[2:] for each in found] == [each.shape[2:] for each in given]
    assert headed(layer)(maps()).shape == (2, 3, 12, 12)
    with pytest.raises(ValueError, match="maps must"):
        layer(maps()[:2])


def reached(kind):
    """Share of the finest map's places that a logit in the corner depends on."""
    torch.manual_seed(1)
    given = [each.requires_grad_() for each in maps()]
    headed(LAYERS[kind]())(given)[0, :, 0, 0].sum().backward()
    return [float((each.grad[0].abs().sum(0) > 0).double().mean()) for each in given]


def test_who_hears_of_whom():
    assert reached("pooling")[2] == 1  # averages know every place of the coarsest map
    far = reached("maximum")
    assert far[0] > 1 / 144  # more than its own place
    near = [reached(kind) for kind in ("filling", "nothing")]
    assert all(shares[0] == 1 / 144 for shares in near)
    window = reached("no attention")
    assert window[0] == 4 / 144  # a 3 x 3 window in the corner
    assert window[1] < 1


def test_the_maximum_is_what_a_loop_finds():
    torch.manual_seed(0)
    layer, given = rivals.GlobalMaximum(WIDTHS, hidden=5, found=7, level=2), maps()
    together = torch.cat([F.avg_pool2d(given[0], 2), given[1], F.interpolate(given[2], (6, 6), mode="bilinear")], 1)
    for image in range(2):
        places = [layer.look(together[image : image + 1, :, i : i + 1, j : j + 1]) for i in range(6) for j in range(6)]
        best = torch.stack(places).flatten(1).amax(0)
        found = layer(given)[2][image, 8:]
        torch.testing.assert_close(found, best[:, None, None].expand(-1, 3, 3))
    torch.testing.assert_close(layer(given)[2][:, :8], given[2])


def test_a_marker_at_another_place_is_the_same_for_the_maximum():
    torch.manual_seed(0)
    layer, given = rivals.GlobalMaximum(WIDTHS, level=3), maps()
    moved = [each.roll((n // 3, n // 3), (2, 3)) for each, n in zip(given, GRIDS, strict=True)]
    torch.testing.assert_close(layer(moved)[2][:, 8:, 0, 0], layer(given)[2][:, 8:, 0, 0])


def test_pooling_by_hand():
    layer = rivals.PyramidPooling((2, 1), bins=(1,), found=1)
    nn.init.ones_(layer.convs[0].weight)
    coarse = torch.tensor([[[[1.0, 2], [3, 6]]]])
    found = layer([torch.zeros(1, 2, 4, 4), coarse])[1]
    assert found[0, 1].tolist() == [[3, 3], [3, 3]]
    assert torch.equal(found[:, :1], coarse)


def test_filling_costs_what_it_says():
    for hidden in (1, 10):
        layer = rivals.Filling(WIDTHS, hidden)
        assert measure.parameters(layer) == 8 * hidden + 2 * hidden + 8 * hidden + 8
        assert measure.macs(rivals.OnMaps(layer.eval()), tuple(maps(1))) == 9 * 2 * 8 * hidden
    assert measure.parameters(rivals.Filling(WIDTHS, 0)) == 0


def test_equal_size_meets_both():
    def pointwise(width, hidden):
        return nn.Sequential(rivals.Filling(WIDTHS, hidden), SegFormerHead(WIDTHS, 3, width=width))

    aim = rivals.cost(UMixFormerHead(WIDTHS, 3, width=16), maps(1))
    width, hidden = rivals.equal_size(pointwise, maps(1), *aim, widths=range(4, 40))
    found = rivals.cost(pointwise(width, hidden), maps(1))
    assert abs(found[0] / aim[0] - 1) < 0.03
    assert abs(found[1] / aim[1] - 1) < 0.01
    others = [rivals.cost(pointwise(w, hidden), maps(1))[0] for w in (width - 1, width + 1)]
    assert all(abs(found[0] - aim[0]) <= abs(other - aim[0]) + 20 * 9 * 16 for other in others)


def test_equal_size_gives_a_decoder_its_own_size():
    def same(width, hidden):
        return nn.Sequential(rivals.Filling(WIDTHS, hidden), UMixFormerHead(WIDTHS, 3, width=width))

    aim = rivals.cost(same(16, 0), maps(1))
    assert rivals.equal_size(same, maps(1), *aim, widths=[12, 14, 16, 18]) == (16, 0)
    with pytest.raises(ValueError, match="parameters must leave room for one of the widths, got 10"):
        rivals.equal_size(same, maps(1), aim[0], 10, widths=[12])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rivals.GlobalMaximum(WIDTHS, level=4), "level must be at most 3, got 4"),
        (lambda: rivals.GlobalMaximum(WIDTHS, hidden=0), "hidden"),
        (lambda: rivals.PyramidPooling(WIDTHS, bins=()), "channels|bins"),
        (lambda: rivals.PyramidPooling(WIDTHS, found=0), "found"),
        (lambda: rivals.Filling(WIDTHS, -1), "hidden must be at least 0, got -1"),
        (lambda: rivals.WithoutAttention("abc"), "channels"),
        (lambda: rivals.OnMaps(3), "decoder"),
        (lambda: frozen.Reduction.fit(maps(), (1, 2)), "channels must have one width for each of the 3 maps"),
        (lambda: frozen.Reduction.fit(maps(), (5, 6, 8)), r"channels\[0\] must be at most 4, got 5"),
        (lambda: frozen.computed(3, torch.zeros(1, 3, 8, 8)), "encode"),
        (lambda: frozen.patch_maps((4, 4), torch.Generator()), "channels must be four widths"),
        (lambda: frozen.lite0_maps(nn.Identity(), torch.zeros(1, 3, 32, 32)), "network must be"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_maps_of_efficientnet_lite0_are_those_of_its_blocks():
    torch.manual_seed(0)
    network = EfficientNetLite(3).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    seen = {}
    for number in frozen.LITE0_BLOCKS:
        network.blocks[number].register_forward_hook(lambda m, i, o, number=number: seen.update({number: o}))
    with torch.no_grad():
        network((images.float() - 127) / 128)
        found = frozen.lite0_maps(network, images)
    assert [tuple(each.shape[1:]) for each in found] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    for ours, theirs in zip(found, seen.values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_patches_see_nothing_beyond_themselves():
    encode = frozen.patch_maps((4, 5, 6, 7), torch.Generator().manual_seed(0))
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    changed = images.clone()
    changed[:, :, :32, :32] = 255 - changed[:, :, :32, :32]
    for before, after, side in zip(encode(images), encode(changed), (4, 8, 16, 32), strict=True):
        assert before.shape[2:] == (64 // side, 64 // side)
        other = (before != after).any(1)[0]
        assert other[: 32 // side, : 32 // side].any()
        assert not other[32 // side :].any()
        assert not other[:, 32 // side :].any()


def test_a_reduction_has_variance_one_and_keeps_the_largest():
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=draw)
    level = torch.einsum("kc,nchw->nkhw", mixing, torch.randn(40, 6, 5, 5, generator=draw)) + 3
    reduction = frozen.Reduction.fit([level], [3])
    (found,) = reduction([level])
    rows = found.transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows @ rows.T / rows.shape[1], torch.eye(3), atol=1e-3, rtol=0)
    assert rows.mean(1).abs().max() < 1e-4
    centred = level.transpose(0, 1).flatten(1)
    centred = centred - centred.mean(1, keepdim=True)
    basis = torch.linalg.svd(centred, full_matrices=False)[2][:3]  # (3, N): the best three directions
    torch.testing.assert_close((basis @ rows.T).square().sum(), torch.tensor(3.0 * rows.shape[1]), rtol=1e-3, atol=0)


def test_maps_are_computed_in_batches_without_gradients():
    calls = []

    def encode(images):
        calls.append(len(images))
        return [images.float() * torch.ones(1, requires_grad=True)]

    images = torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8)
    (found,) = frozen.computed(encode, images, batch_size=3)
    assert calls == [3, 3, 1]
    assert not found.requires_grad
    assert torch.equal(found, images.float())
