"""The shared checks of arguments: what they refuse, and by which name."""

import math

import numpy as np
import pytest
import torch
from compactvision import _checks as checks
from compactvision import models
from torch import nn


def _function(**values):
    checks.functions(1, **values)


def _layer(**values):
    checks.functions(1, optional=True, networks=True, **values)


GOOD = {
    checks.whole: (0, -3, np.int64(2), torch.tensor(4)),
    checks.counts: (1, 10**12, np.int32(7)),
    checks.numbers: (0, 1.5, math.inf, math.nan, np.float32(2), torch.tensor([0.5])),
    checks.finite: (-1.0, 3, np.float64(2)),
    checks.flags: (True, False, np.bool_(True)),
    checks.texts: ("", "a"),
    checks.tensors: (torch.ones(2), torch.ones(0), torch.arange(3)),
    checks.floating: (torch.ones(2), torch.ones(2, dtype=torch.float16)),
    checks.networks: (nn.Identity(),),
    checks.generators: (None, torch.Generator()),
    checks.materialised: (nn.Linear(2, 2), nn.Identity()),
    _function: (len, lambda x: x, lambda *x: x, lambda x, y=2: x),
    _layer: (None, len, nn.Identity()),
    checks.batches: ([], iter(()), {1, 2}, torch.utils.data.TensorDataset(torch.ones(2))),
}
BAD = {
    checks.whole: (True, 1.0, math.nan, "1", None, [1], np.float64(1), torch.ones(2), torch.tensor(1.0), nn.Identity()),
    checks.counts: (0, -1, None, False, 2.5, "3", math.inf, torch.ones(2)),
    checks.numbers: (True, "1", None, [1.0], 1j, torch.ones(2), torch.ones(1, device="meta"), nn.Identity()),
    checks.finite: (math.nan, math.inf, -math.inf, "1", None),
    checks.flags: (0, 1, "no", None, torch.ones(2)),
    checks.texts: (None, 3, b"a", ["a"]),
    checks.tensors: (
        None,
        [1.0],
        np.ones(2),
        torch.ones(2, device="meta"),
        1j * torch.ones(2),
        torch.eye(2).to_sparse(),
    ),
    checks.floating: (torch.arange(3), torch.ones(2).bool(), [1.0], torch.ones(2, device="meta")),
    checks.networks: (nn.Identity, None, torch.ones(2)),
    checks.generators: (0, "seed", np.random.default_rng(0)),
    checks.materialised: (nn.Linear(2, 2, device="meta"), nn.BatchNorm1d(2).to("meta"), None),
    _function: (None, int, "len", nn.Identity(), lambda: 1, lambda x, y: 1),
    _layer: (int, nn.Bilinear(1, 1, 1), lambda: 1),
    checks.batches: (None, 3, "ab", b"ab", {"a": 1}, torch.ones(2, 2), list, len),
}


def _cases(table):
    return [
        pytest.param(check, value, id=f"{check.__name__}-{n}")
        for check in table
        for n, value in enumerate(table[check])
    ]


@pytest.mark.parametrize(("check", "value"), _cases(GOOD))
def test_accepts(check, value):
    check(first=GOOD[check][0], second=value)


def test_a_pair_is_inputs_and_targets():
    x, y = torch.ones(2), torch.zeros(2)
    assert checks.pair([x, y]) == (x, y)
    assert checks.pair((x, None), targets=False) == (x, None)


@pytest.mark.parametrize(
    "batch", [None, torch.ones(2, 3), (torch.ones(2),) * 3, ("a", torch.ones(2)), [torch.ones(2), 1]]
)
def test_refuses_what_is_no_pair(batch):
    with pytest.raises(ValueError, match=r"^batches( \((inputs|targets)\))? must be "):
        checks.pair(batch)


@pytest.mark.parametrize(("check", "value"), _cases(BAD))
def test_refuses_by_name(check, value):
    with pytest.raises(ValueError, match=r"^second must be .*"):
        check(first=GOOD[check][0], second=value)


def test_words_out_of_a_list():
    checks.one_of(("a", "b"), kind="b")
    for value in ("c", "", ["a"], None, 1):
        with pytest.raises(ValueError, match=r"^kind must be one of a, b, got "):
            checks.one_of(("a", "b"), kind=value)


def test_a_value_is_shown_in_one_short_line():
    assert checks.shown(torch.ones(2, 3)) == "a tensor of torch.float32 (2, 3) on cpu"
    assert checks.shown(nn.Sequential(nn.ReLU(), nn.ReLU())) == "a Sequential"
    assert checks.shown("x" * 500) == "a str"


NETWORKS = {
    "small": lambda: models.small_cnn(4, widths=(4, 6)),
    "resnet": lambda: models.ResNet(1, 4, width=2),
    "block": lambda: models.BasicBlock(3, 4, 2),
    "preresnet": lambda: models.PreResNet(1, 4, width=2),
    "densenet": lambda: models.DenseNet(1, 2, 4),
    "efficientnet": lambda: models.EfficientNetLite(4),
    "vgg": lambda: models.vgg11_bn(4),
}
IMAGES = torch.ones(2, 3, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "x",
    [
        None,
        [1.0],
        IMAGES[0],
        IMAGES[None],
        IMAGES[:, :2],
        IMAGES[..., :0],
        IMAGES.double(),
        IMAGES.byte(),
        IMAGES.to("meta"),
    ],
    ids=["None", "list", "3-D", "5-D", "two channels", "no columns", "doubles", "bytes", "meta"],
)
def test_networks_refuse_what_is_no_image(name, x):
    with pytest.raises(ValueError, match=r"^x must be "):
        NETWORKS[name]()(x)


def test_networks_take_another_type_under_autocast_and_another_first_layer():
    model = NETWORKS["resnet"]()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(IMAGES.bfloat16()).shape == (2, 4)
    model.conv1 = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    assert model(IMAGES[:, :1]).shape == (2, 4)
