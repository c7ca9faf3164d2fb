"""Networks in the plane: they learn, a seed decides everything, bad input is named."""

import pytest
import torch
from compactvision import training


def test_moons_are_separated_and_a_seed_gives_the_same_network():
    state = torch.get_rng_state()
    network, xy, targets = training.plane_network("moons", seed=1, n=400, width=32)
    again, _, _ = training.plane_network("moons", seed=1, n=400, width=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    assert (network(xy).argmax(1) == targets).float().mean() > 0.95
    torch.testing.assert_close(network.state_dict(), again.state_dict())
    other, _, _ = training.plane_network("moons", seed=2, n=400, width=32, steps=1)
    assert not torch.equal(other[0].weight, network[0].weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("stars", {}, "name must be one of"),
        ("spiral", {"n": 7}, "n must be a positive multiple of 4"),
        ("moons", {"width": 0}, "width must be at least 1"),
        ("moons", {"steps": 0}, "steps must be at least 1"),
    ],
)
def test_refuses(name, options, message):
    with pytest.raises(ValueError, match=message):
        training.plane_network(name, seed=0, **options)
