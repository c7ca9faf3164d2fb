"""Points in the plane: shapes, balance, geometry and errors."""

import pytest
import torch
from compactvision.data import points as module
from compactvision.data.points import points


@pytest.mark.parametrize("name", module.CLASSES)
def test_balanced_seeded_and_finite(name):
    xy, classes = points(name, 40, seed=1)
    assert xy.shape == (40, 2)
    assert xy.dtype == torch.float32
    assert torch.bincount(classes).tolist() == [40 // module.CLASSES[name]] * module.CLASSES[name]
    assert torch.equal(xy, points(name, 40, seed=1)[0])
    assert not torch.equal(xy, points(name, 40, seed=2)[0])


def test_arms_turn_by_four_radians():
    xy, classes = points("spiral", 4000, seed=0)
    radius = xy.norm(dim=1)
    assert radius.max().item() == pytest.approx(1, abs=1e-6)
    ends = torch.stack([xy[classes == arm][-200:].mean(0) for arm in range(4)])  # where each arm ends
    for arm, end in enumerate(ends):
        turned = torch.tensor([torch.sin(torch.tensor(4.0 * arm + 3.9)), torch.cos(torch.tensor(4.0 * arm + 3.9))])
        assert torch.nn.functional.cosine_similarity(end, turned, dim=0) > 0.95


@pytest.mark.parametrize(
    ("name", "n", "message"),
    [("stars", 4, "name must be"), ("spiral", 6, "multiple of 4"), ("moons", 0, "multiple of 2")],
)
def test_refuses(name, n, message):
    with pytest.raises(ValueError, match=message):
        points(name, n, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_refuses_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="seed must be in"):
        points("moons", 4, seed=seed)
