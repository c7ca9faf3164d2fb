"""BatchNorm is folded where nothing else looks, and stays everywhere else; a file is held to the network as it is."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from compactvision import shrinking
from compactvision.shrinking import onnx_file
from compactvision.surgery.outputs import output_tensors
from torch import nn

SHAPE = (3, 8, 8)


class Plain(nn.Module):
    """A convolution and a BatchNorm with statistics and scales that no error can hide behind."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        for tensor, low, high in (
            (self.norm.running_mean, -1.0, 1.0),
            (self.norm.running_var, 0.5, 2.0),
            (self.norm.weight.data, 0.5, 2.0),
            (self.norm.bias.data, -1.0, 1.0),
        ):
            nn.init.uniform_(tensor, low, high)

    def forward(self, x):
        return self.norm(self.conv(x))


class ReadBeside(Plain):
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class AlsoReturned(Plain):
    def forward(self, x):
        y = self.conv(x)
        return y, self.norm(y)


class Rectified(Plain):
    def forward(self, x):
        y = self.conv(x)
        F.relu(y, inplace=True)
        return self.norm(y)


class AddedTo(Plain):  # the pre-activation block of a well-known tutorial repository
    def forward(self, x):
        y = self.conv(x)
        y += x.mean(1, keepdim=True)
        return self.norm(y)


class Pooled(Plain):
    def forward(self, x):
        y = self.conv(x)
        return torch.cat([self.norm(y), F.max_pool2d(y, 3, 1, 1)], 1)


class Keyword(Plain):
    def __init__(self):
        super().__init__()
        self.next = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + self.next(input=y)


class Hooked(Plain):
    def __init__(self):
        super().__init__()
        self.conv.register_forward_hook(lambda module, args, output: output.relu())


class ScaleRead(Plain):
    def forward(self, x):
        return super().forward(x) * self.norm.weight.view(1, -1, 1, 1)


class Spread(Plain):  # a plain number of the layer, which no function is called with
    def forward(self, x):
        return super().forward(x) * self.norm.num_features


class Shaped(Plain):  # shapes and types are the same when it is folded
    def forward(self, x):
        y = self.conv(x)
        assert y.shape[-2:] == x.shape[-2:]
        assert y.size(1) == 8
        assert self.conv.weight.dtype == y.dtype
        return self.norm(y)


class Transposed(Plain):  # a property, but one that reads numbers
    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y.mT


class Twice(Plain):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.norm(self.conv(x.flip(-1)))


class Classes(ReadBeside):  # no rounding could tell a wrong class map from a right one
    def forward(self, x):
        return super().forward(x).argmax(1)


class NormNamedTwice(Plain):
    def __init__(self):
        super().__init__()
        self.again = self.norm

    def forward(self, x):
        return self.again(self.conv(x))


class ConvNamedTwice(Plain):
    def __init__(self):
        super().__init__()
        self.again = self.conv

    def forward(self, x):
        return self.norm(self.again(x))


def gap(first, second, x):
    with torch.no_grad():
        pairs = zip(output_tensors(first(x)), output_tensors(second(x)), strict=True)
        return max(float((one.double() - other.double()).abs().max()) for one, other in pairs)


def norms_of(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    "kind",
    [
        ReadBeside,
        AlsoReturned,
        Rectified,
        AddedTo,
        Pooled,
        Keyword,
        Hooked,
        ScaleRead,
        Spread,
        Transposed,
        Twice,
        Classes,
    ],
)
def test_a_norm_stays_where_something_else_looks(kind):
    torch.manual_seed(0)
    model = kind().eval()
    small = shrinking.folded(model, SHAPE)
    assert norms_of(small)
    assert gap(model, small, torch.randn(4, *SHAPE)) == 0


@pytest.mark.parametrize("kind", [Plain, Shaped, NormNamedTwice, ConvNamedTwice])
def test_a_norm_goes_where_nothing_else_looks_at_all_its_names(kind):
    torch.manual_seed(0)
    model = kind().eval()
    small = shrinking.folded(model, SHAPE)
    assert not norms_of(small)
    assert len(norms_of(model)) == 1
    assert gap(model, small, torch.randn(4, *SHAPE)) < 1e-5


def test_one_that_can_be_folded_is_beside_one_that_cannot():
    torch.manual_seed(0)
    model = nn.Sequential(Plain(), nn.Conv2d(8, 3, 1), ReadBeside()).eval()
    small = shrinking.folded(model, SHAPE)
    assert len(norms_of(small)) == 1
    assert gap(model, small, torch.randn(4, *SHAPE)) < 1e-4


def test_a_file_is_held_to_the_network_before_it_is_folded(tmp_path: Path, monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, pictures = Plain().eval(), torch.randn(4, *SHAPE)
    assert onnx_file.export(model, pictures, tmp_path / "right.onnx") < 1e-5
    monkeypatch.setattr(onnx_file, "folded", lambda model, example: Rectified().eval())
    assert onnx_file.export(model, pictures, tmp_path / "wrong.onnx") > 0.1
