"""The Swin whose attention can be replaced: torchvision's count, shapes, our reconstruction, errors."""

import pytest
import torch
import torchvision
from compactvision import measure
from compactvision.architectures.afidaf import swin
from torch import nn


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(*words, **options):
    options = {"head_width": 8, "window": 4, "patch": 2, "num_classes": 10} | options
    return swin.Swin(words, 16, (2,) * len(words), **options)


def test_with_attention_it_is_swin_t():
    with torch.device("meta"):
        ours, theirs = swin.Swin(("attention",) * 4, 96, (2, 2, 6, 2)), torchvision.models.swin_t()
    assert count(ours) == count(theirs) == 28_288_354
    outside = count(ours) - sum(count(m) for m in ours.modules() if isinstance(m, swin.SwinBlock))
    assert outside == 2_329_096


def test_it_computes_what_torchvision_computes():
    theirs = torchvision.models.swin_transformer.SwinTransformer(
        [2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=10, stochastic_depth_prob=0.0
    ).eval()
    ours = small("attention", "attention").eval()
    state = {}
    for name, value in theirs.state_dict().items():
        name = name.replace("features.0.0", "embed").replace("features.0.2", "norm")
        parts = name.split(".")
        if parts[0] == "features":
            place = {"1": 0, "2": 2, "3": 3}[parts[1]]  # two blocks, a merge, two blocks
            rest = parts[2:] if parts[1] == "2" else parts[3:]
            place += 0 if parts[1] == "2" else int(parts[2])
            name = ".".join(["stages", str(place), *rest]).replace("reduction", "reduce")
        name = name.replace("attn.proj", "mixer.project").replace("mlp.0", "mlp.mixer.expand")
        name = name.replace("mlp.3", "mlp.mixer.shrink")
        name = "last_norm" + name[4:] if name in ("norm.weight", "norm.bias") and "embed" not in name and (
            value.shape[0] == 32) else name  # fmt: skip
        if "index" in name:
            continue
        if "attn.qkv" in name:
            for word, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[name.replace("attn.qkv", f"mixer.{word}")] = part
        elif "bias_table" in name:
            state[name.replace("attn.relative_position_bias_table", "mixer.position")] = value
        elif "mlp.mixer" in name and name.endswith("weight"):
            state[name] = value[..., None, None]
        else:
            state[name] = value
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("word", ["attention", *swin.REPLACEMENTS])
@pytest.mark.parametrize("size", [(32, 32), (22, 36)])
def test_every_word_fits(word, size):
    assert small(word, word)(torch.zeros(2, 3, *size)).shape == (2, 10)


def test_replacing_attention_changes_the_count_by_formula():
    plain, replaced = small("attention", "attention"), small("afidaf", "attention")
    c, heads = 16, 2
    attention = 4 * c * c + 4 * c + 49 * heads
    both = c * c + c * c // 4 + 79 * c + c * c // 2 + 4 * c
    assert count(plain) - count(replaced) == 2 * (attention - both)


def test_groups_halve_an_mlp():
    one, two = (swin.GroupedMLP(8, 4, groups) for groups in (1, 2))
    assert count(one) - count(two) == 8 * 8 * 4
    x = torch.randn(1, 8, 3, 3)
    with torch.no_grad():
        changed = x.clone()
        changed[:, 0] += 1
        assert ((two(changed) - two(x)).abs().amax((0, 2, 3)) > 0).all()  # the shuffle lets the groups meet


def test_our_hybrid_has_its_own_count():
    with torch.device("meta"):
        network = swin.hybrid()
    assert count(network) == 12_251_656  # the paper prints 14.8 million
    assert measure.macs(network, (3, 224, 224)) == 2_007_752_592


def test_merging_pads_an_odd_side():
    merge = swin.Merge(4)
    x = torch.randn(1, 3, 5, 4)
    padded = nn.functional.pad(x, (0, 0, 0, 1, 0, 1))
    torch.testing.assert_close(merge(x), merge(padded))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small("fourier"), r"mixers\[0\] must be one of attention, pool"),
        (lambda: swin.Swin((), 16, ()), "mixers must be a sequence of words"),
        (lambda: swin.Swin(("aff",), 32, (1, 1)), "depths must be 1 counts, one a stage"),
        (lambda: small("aff", groups=(1, 1)), "groups must be 1 counts, one a stage"),
        (lambda: small("aff", head_width=5), "head_width must divide the width 16, got 5"),
        (lambda: small("aff")(torch.zeros(1, 3, 1, 8)), "images must have at least one patch"),
        (lambda: swin.GroupedMLP(8, 4, 3), "groups must divide the width 8, got 3"),
        (lambda: swin.Merge(4)(torch.zeros(1, 4, 4)), r"x must be \(B, H, W, 4\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("word", ["attention", "afidaf"])
def test_its_maps_are_a_pyramid_from_fine_to_coarse(word):
    network = swin.Swin((word,) * 3, 16, (1, 2, 1), head_width=8, window=4, patch=4, num_classes=5).eval()
    images = torch.randn(2, 3, 36, 52)
    maps = network.maps(images)
    assert [tuple(each.shape) for each in maps] == [(2, 16, 9, 13), (2, 32, 5, 7), (2, 64, 3, 4)]
    coarse = network.last_norm(maps[-1].permute(0, 2, 3, 1)).mean((1, 2))
    torch.testing.assert_close(network.head(coarse), network(images))


def test_maps_refuse_what_the_network_refuses():
    network = swin.Swin(("pool",), 8, (1,), head_width=8, window=4, patch=4)
    with pytest.raises(ValueError, match="images must have at least one patch"):
        network.maps(torch.zeros(1, 3, 3, 8))
