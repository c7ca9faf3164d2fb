"""Capturing and replacing what layers return."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from compactvision.hooks import capture, replace_output
from compactvision.models import imagenet, resnet20
from torch import nn


class Pair(NamedTuple):
    """A named tuple of tensors."""

    left: torch.Tensor
    right: torch.Tensor


class Net(nn.Module):
    """Two layers with an in-place ReLU between them and an in-place addition behind."""

    def __init__(self, inplace=True):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.act = nn.ReLU(inplace=inplace)
        self.second = nn.Linear(4, 4)
        self.alias = nn.Identity()

    def forward(self, x):
        h = self.act(self.first(x))
        out = self.second(h)
        kept = self.alias(out)
        out += 1
        return kept * 2


def no_hooks_left(model):
    return not any(m._forward_hooks or m._forward_pre_hooks or m._forward_hooks_always_called for m in model.modules())


def test_outputs_are_what_the_layers_gave():
    net, x = Net(), torch.randn(5, 3)
    expected = net(x)
    first = F.linear(x, net.first.weight, net.first.bias)
    second = F.linear(F.relu(first), net.second.weight, net.second.bias)
    with capture(net, ["first", "act", "second", "alias"]) as captured:
        out = net(x)
    torch.testing.assert_close(captured["first"], first)
    torch.testing.assert_close(captured["act"], F.relu(first))
    torch.testing.assert_close(captured["second"], second)
    torch.testing.assert_close(captured["alias"], second)
    assert (captured["first"] < 0).any()  # the in-place ReLU behind did not reach it
    assert sorted(captured) == ["act", "alias", "first", "second"]
    assert len(captured) == 4
    # "alias" returned the tensor that "out += 1" writes to; captured, it is a copy, so the sum no longer reaches it.
    torch.testing.assert_close(out, expected - 2)
    assert no_hooks_left(net)


def test_capture_does_not_change_the_output_of_a_residual_network():
    for model in (resnet20().eval(), imagenet("resnet18", num_classes=4).eval()):
        x = torch.randn(2, 3, 32, 32)
        names = [name for name, module in model.named_modules() if isinstance(module, (nn.BatchNorm2d, nn.Conv2d))]
        with torch.no_grad():
            expected = model(x)
            with capture(model, names) as captured:
                out = model(x)
        assert torch.equal(out, expected)
        assert set(captured) == set(names)


def test_captured_tensors_keep_the_graph():
    net, x = Net(), torch.randn(5, 3)
    with capture(net, "act") as captured:
        score = net(x).sum()
    (gradient,) = torch.autograd.grad(score, captured["act"])
    torch.testing.assert_close(gradient, (2 * net.second.weight.sum(0)).expand(5, 4))


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients(frozen):
    net, x = Net().requires_grad_(not frozen), torch.randn(5, 3)
    with torch.no_grad(), capture(net, ["first", "act"], gradients=True) as captured:
        net(x).sum().backward()
    slope = (2 * net.second.weight.sum(0)).expand(5, 4)
    torch.testing.assert_close(captured.gradients["act"], slope)
    torch.testing.assert_close(captured.gradients["first"], slope * (captured["first"] > 0))
    assert all(p.requires_grad is not frozen for p in net.parameters())
    assert not x.requires_grad
    assert torch.is_grad_enabled()


def test_gradient_is_none_before_a_backward_pass():
    net = Net()
    with capture(net, "first", gradients=True) as captured:
        net(torch.randn(2, 3))
        assert captured.gradients == {"first": None}


def test_gradients_must_have_been_asked_for():
    with capture(Net(), "first") as captured, pytest.raises(ValueError, match="gradients were not kept"):
        _ = captured.gradients
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match="gradients=True cannot work under"),
    ):
        capture(Net(), "first", gradients=True).__enter__()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_capture_without_autograd(mode):
    net, x = Net(), torch.randn(5, 3)
    with mode(), capture(net, "first") as captured:
        net(x)
        torch.testing.assert_close(captured["first"], F.linear(x, net.first.weight, net.first.bias))
    assert not captured["first"].requires_grad


def test_without_a_copy_nothing_is_copied_and_overwriting_is_noticed():
    net = Net(inplace=False)
    with capture(net, ["first", "act", "second"], copy=False) as captured:
        net.act.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
        seen = []
        net(torch.randn(5, 3))
    assert captured["first"] is seen[0]
    with pytest.raises(ValueError, match="output of layer 'second' has been overwritten in place"):
        _ = captured["second"]
    with pytest.raises(ValueError, match="overwritten"):
        list(captured.values())


def test_each_forward_pass_replaces_the_one_before():
    net, x = Net(), torch.randn(2, 3)
    with capture(net, "first") as captured:
        net(x)
        net(2 * x)
        torch.testing.assert_close(captured["first"], F.linear(2 * x, net.first.weight, net.first.bias))
        net.first(3 * x)  # a part of the model on its own
        torch.testing.assert_close(captured["first"], F.linear(3 * x, net.first.weight, net.first.bias))
    net(x)
    torch.testing.assert_close(captured["first"], F.linear(3 * x, net.first.weight, net.first.bias))


def test_layer_that_runs_twice_is_refused_or_listed():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(self.layer(x))

    model, x = Twice(), torch.randn(3, 2)
    with capture(model, "layer") as captured:
        for _ in range(2):  # the error does not stay behind
            with pytest.raises(ValueError, match="'layer' runs more than once in a forward pass"):
                model(x)
    with capture(model, "layer", repeated=True) as captured:
        out = model(x)
        out = model(x)
    assert len(captured["layer"]) == 2
    torch.testing.assert_close(captured["layer"], [model.layer(x), out])
    assert no_hooks_left(model)


def test_outputs_in_tuples_lists_and_dicts():
    class Many(nn.Module):
        def forward(self, x):
            return {"a": (x + 1, None), "b": [x + 2], "c": torch.max(x, dim=0), "d": Pair(x + 3, x + 4)}

    model = nn.Sequential(Many())
    x = torch.randn(3, 2)
    with capture(model, ["0", ""], gradients=True) as captured:
        out = model(x)
    assert torch.equal(captured["0"]["a"][0], x + 1)
    assert captured["0"]["a"][1] is None
    assert torch.equal(captured["0"]["d"].right, x + 4)
    assert torch.equal(out["b"][0], x + 2)
    assert torch.equal(captured[""]["c"].values, x.max(dim=0).values)
    assert captured.gradients["0"]["c"].indices is None


def test_attention_weights():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(1, 5, 8)
    with torch.no_grad(), capture(attention, "") as captured:
        attention(x, x, x)
    torch.testing.assert_close(captured[""][1].sum(-1), torch.ones(1, 5))


def test_hooks_go_after_an_exception():
    net = Net()
    with pytest.raises(RuntimeError), capture(net, ["first", "second"]), replace_output(net, "act", lambda out: out):
        net(torch.randn(2, 99))
    assert no_hooks_left(net)


@pytest.mark.parametrize("call", [capture, lambda net, name: replace_output(net, name, lambda out: out)])
def test_unknown_layers_are_named_with_close_matches(call):
    net = Net()
    with pytest.raises(ValueError, match="no layer 'frist'; close matches: first"):
        call(net, "frist").__enter__()
    with pytest.raises(ValueError, match="no layer 'zzz'; the model has 4 named layers"):
        call(net, "zzz").__enter__()
    assert no_hooks_left(net)


def test_shared_layer_is_found_under_each_of_its_names():
    net = nn.ModuleDict({"a": nn.ReLU()})
    net["b"] = net["a"]
    with capture(net, "b") as captured:
        net["a"](torch.tensor([-1.0, 2.0]))
    assert captured["b"].tolist() == [0.0, 2.0]


def test_layer_without_tensors_and_layer_that_has_not_run():
    class Text(nn.Module):
        def forward(self, x):
            return "text"

    model = nn.Sequential(Text())
    with capture(model, "0") as captured:
        with pytest.raises(ValueError, match="layer '0' returns str without tensors"):
            model(torch.zeros(1))
        with pytest.raises(KeyError, match="layer '0' has not run"):
            _ = captured["0"]
        assert captured.get("0") is None
        assert "0" not in captured


def test_replace_output_feeds_the_rest_of_the_network():
    net, x = Net(), torch.randn(5, 3)
    activation = torch.rand(5, 4)
    with replace_output(net, "act", lambda _: activation):
        out = net(x)
        with capture(net, "act") as captured:
            net(x)
    torch.testing.assert_close(out, 2 * (F.linear(activation, net.second.weight, net.second.bias) + 1))
    assert torch.equal(captured["act"], activation)
    assert no_hooks_left(net)


def test_replace_output_can_switch_a_channel_off_and_refuses_none():
    net, x = Net(), torch.randn(5, 3)
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])
    with replace_output(net, "act", lambda out: out * mask):
        masked = net(x)
    with torch.no_grad():
        net.second.weight[:, 1] = 0
    torch.testing.assert_close(masked, net(x))
    with (
        replace_output(net, "act", lambda out: None),
        pytest.raises(ValueError, match="fn returned None for layer 'act'"),
    ):
        net(x)


def test_arguments_of_another_kind_are_named():
    for model in (None, Net, lambda x: x):
        with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module"), capture(model, "first"):
            pass
    for names in (None, 3, b"first", ["first", 3], [None], int):
        with pytest.raises(ValueError, match="names must be"), capture(Net(), names):
            pass
    for option in ("gradients", "repeated", "copy"):
        with (
            pytest.raises(ValueError, match=f"{option} must be True or False"),
            capture(Net(), "first", **{option: "no"}),
        ):
            pass
    for name in (None, 1, ["act"], {"act": 1}):
        with pytest.raises(ValueError, match="name must be a text"), replace_output(Net(), name, lambda out: out):
            pass
    for fn in (None, 3, "relu", torch.ones(2), nn.ReLU):
        with pytest.raises(ValueError, match="fn must be a function"), replace_output(Net(), "act", fn):
            pass
