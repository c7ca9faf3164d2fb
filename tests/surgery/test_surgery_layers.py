import torch
from compactvision import models, surgery
from torch import nn


def test_activations_behind_layers():
    network = models.ResNet(1, 10, width=8).train()
    found = surgery.activations_behind(network, torch.zeros(1, 3, 32, 32))
    expected = {"bn1": "relu"} | {f"layer{k}.0.bn1": f"layer{k}.0.relu1" for k in (1, 2, 3)}
    assert found == expected  # a sum of the residual stream stands behind no single layer
    assert network.training
    assert network.bn1.num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_activations_in_place_count():
    plain = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    assert surgery.activations_behind(plain, torch.zeros(1, 2)) == {"0": "1", "2": "3"}
