"""The toy in the plane: balanced points, networks that learn, regions drawn where they are, bad input named."""

import pytest
import torch
from compactvision import toy_plane
from compactvision.toy_plane import points

POINTS = torch.tensor([[-1.0, -1.0], [1.0, 2.0]])


@pytest.mark.parametrize("name", toy_plane.CLASSES)
def test_balanced_seeded_and_finite(name):
    xy, classes = points(name, 40, seed=1)
    assert xy.shape == (40, 2)
    assert xy.dtype == torch.float32
    assert torch.bincount(classes).tolist() == [40 // toy_plane.CLASSES[name]] * toy_plane.CLASSES[name]
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
    [
        ("stars", 4, "name must be"),
        ("spiral", 6, "multiple of 4"),
        ("moons", 0, "multiple of 2"),
        ("moons", 10**6 + 2, "n must be at most 1,000,000, got 1,000,002"),
    ],
)
def test_points_refuse(name, n, message):
    with pytest.raises(ValueError, match=message):
        points(name, n, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_points_refuse_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="seed must be in"):
        points("moons", 4, seed=seed)


def test_moons_are_separated_and_a_seed_gives_the_same_network():
    state = torch.get_rng_state()
    network, xy, targets = toy_plane.network("moons", seed=1, n=400, width=32)
    again, _, _ = toy_plane.network("moons", seed=1, n=400, width=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    assert (network(xy).argmax(1) == targets).float().mean() > 0.95
    torch.testing.assert_close(network.state_dict(), again.state_dict())
    other, _, _ = toy_plane.network("moons", seed=2, n=400, width=32, steps=1)
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
def test_network_refuses(name, options, message):
    with pytest.raises(ValueError, match=message):
        toy_plane.network(name, seed=0, **options)


def test_grid_covers_the_points_with_a_margin():
    grid = toy_plane.grid(POINTS)
    assert grid.shape == (61 * 61, 2)
    torch.testing.assert_close(grid.amin(0), torch.tensor([-1.2, -1.2]))
    torch.testing.assert_close(grid.amax(0), torch.tensor([1.2, 2.2]))


def test_regions_are_drawn_where_they_are():
    right = (toy_plane.grid(POINTS)[:, 0] > 0).long()
    rows = {"two": (POINTS, torch.tensor([0, 1]), [("one", right), ("other", 1 - right)])}
    fig = toy_plane.regions("Where?", rows, marked={"two": POINTS[:1]})
    first, second = fig.axes
    drawn = first.images[0].get_array()  # rows are y, columns are x
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, -1] == 1).all()
    assert (second.images[0].get_array() == 1 - drawn).all()
    assert first.get_title() == "one"
    assert first.get_ylabel() == "two"


def test_regions_refuse():
    classes = torch.zeros(61 * 61, dtype=torch.long)
    targets = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="the same number of networks"):
        toy_plane.regions("?", {"a": (POINTS, targets, [("x", classes)]), "b": (POINTS, targets, [])})
    with pytest.raises(ValueError, match=r"rows\['a'\] must give 3721 classes"):
        toy_plane.regions("?", {"a": (POINTS, targets, [("x", classes[:5])])})
    for name in (0, None, b"a"):
        with pytest.raises(ValueError, match="must be a text, got"):
            toy_plane.regions("?", {name: (POINTS, targets, [("x", classes)])})
