"""Measuring leaves a model, the random state and autograd as they were."""

import pytest
import torch
import torch.nn.functional as F
from compactvision import measure
from compactvision.models import resnet20
from torch import nn


class Restless(nn.Module):
    """Writes, rebinds and draws random numbers even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.fc = nn.Linear(3, 2)
        self.register_buffer("written", torch.zeros(1))
        self.register_buffer("rebound", torch.zeros(1))
        self.register_buffer("absent", None)

    def forward(self, x):
        self.written += 1
        self.rebound = self.rebound + 1
        self.absent = torch.ones(1)
        return self.fc(self.norm(x)) + torch.rand(1)


MEASUREMENTS = {
    "macs": lambda model: measure.macs(model, (3,)),
    "macs_by_module": lambda model: measure.macs_by_module(model, (3,)),
    "latency": lambda model: measure.latency(model, (3,), warmup=1, repeats=2),
    "accuracy": lambda model: measure.accuracy(model, [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))]),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize("fails", [False, True])
def test_model_is_left_as_it_was(name, fails):
    model = Restless()
    model.norm.eval()  # partly frozen
    model.fc.weight.grad = torch.ones(2, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    objects = dict(model.named_buffers())
    if fails:
        model.fc.forward = lambda _: (_ for _ in ()).throw(RuntimeError("broken"))
        with pytest.raises(RuntimeError, match="broken"):
            MEASUREMENTS[name](model)
    else:
        MEASUREMENTS[name](model)
    assert (model.training, model.norm.training, model.fc.training) == (True, False, True)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(objects[key] is value for key, value in model.named_buffers())
    assert model.absent is None
    assert torch.equal(model.fc.weight.grad, torch.ones(2, 3))
    assert model.norm.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_counting_keeps_the_random_state_and_the_fast_path():
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        measure.macs(Restless(), (3,))
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    measure.macs(Restless(), (3,))
    assert torch.backends.mha.get_fastpath_enabled()
    model = Restless()  # draws a random number in its forward pass
    state = torch.get_rng_state()
    measure.macs(model, (3,))
    assert torch.equal(torch.get_rng_state(), state)


def test_measuring_between_forward_and_backward():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    loss = model(torch.randn(4, 3)).sum()
    measure.macs(model, (3,))
    measure.accuracy(model, [(torch.randn(2, 3), torch.tensor([0, 1]))])
    loss.backward()
    assert model[0].weight.grad is not None


def test_works_under_inference_mode_and_on_a_model_made_there():
    outside = measure.macs(resnet20(width=4), torch.randn(2, 3, 32, 32))
    with torch.inference_mode():
        model = Restless()
        assert measure.macs(model, (3,)) == 6
        assert model.written.item() == 0
        assert measure.macs(resnet20(width=4), torch.randn(2, 3, 32, 32)) == outside


def test_an_error_in_the_middle_of_an_iterable_restores_at_once():
    model = nn.Linear(3, 2)
    batches = [(torch.randn(2, 3), torch.tensor([0, 1])), (torch.randn(2, 3), torch.tensor([0, 2]))]
    with pytest.raises(ValueError, match="targets must lie in") as caught:
        measure.accuracy(model, batches)
    assert caught.value is not None  # the traceback, and with it every frame, is still alive here
    assert model.training
    assert torch.is_grad_enabled()


def test_fused_encoder_layer_is_opened_for_counting():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens = torch.randn(1, 5, 8)
    projections, mlp, products = 4 * 5 * 64, 2 * 5 * 8 * 16, 2 * 5 * 5 * 8
    assert measure.macs(layer, tokens) == projections + mlp + products
    assert F.softmax(layer(tokens), -1).shape == (1, 5, 8)
