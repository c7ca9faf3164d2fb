"""The group of a parameter, also after a checkpoint was loaded."""

import copy

import torch
from compactvision.training import group_of
from torch import nn


def test_group_of_finds_the_group_as_it_is_now():
    first, second, other = (nn.Parameter(torch.zeros(2)) for _ in range(3))  # equal values, not the same tensor
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.5}, {"params": [second], "lr": 0.25}], lr=1.0)
    assert group_of(optimizer, first)["lr"] == 0.5
    assert group_of(optimizer, second)["lr"] == 0.25
    assert group_of(optimizer, other) is None
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][1]["lr"] = 0.125
    before = group_of(optimizer, second)
    optimizer.load_state_dict(state)
    assert (before["lr"], group_of(optimizer, second)["lr"]) == (0.25, 0.125)
