"""Decision regions: each class lands where the network gives it; what does not fit is refused."""

import pytest
import torch
from compactvision import plots

POINTS = torch.tensor([[-1.0, -1.0], [1.0, 2.0]])


def test_grid_covers_the_points_with_a_margin():
    grid = plots.plane_grid(POINTS)
    assert grid.shape == (61 * 61, 2)
    torch.testing.assert_close(grid.amin(0), torch.tensor([-1.2, -1.2]))
    torch.testing.assert_close(grid.amax(0), torch.tensor([1.2, 2.2]))


def test_regions_are_drawn_where_they_are():
    right = (plots.plane_grid(POINTS)[:, 0] > 0).long()
    rows = {"two": (POINTS, torch.tensor([0, 1]), [("one", right), ("other", 1 - right)])}
    fig = plots.regions("Where?", rows, marked={"two": POINTS[:1]})
    first, second = fig.axes
    drawn = first.images[0].get_array()  # rows are y, columns are x
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, -1] == 1).all()
    assert (second.images[0].get_array() == 1 - drawn).all()
    assert first.get_title() == "one"
    assert first.get_ylabel() == "two"


def test_refuses():
    classes = torch.zeros(61 * 61, dtype=torch.long)
    targets = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="the same number of networks"):
        plots.regions("?", {"a": (POINTS, targets, [("x", classes)]), "b": (POINTS, targets, [])})
    with pytest.raises(ValueError, match=r"rows\['a'\] must give 3721 classes"):
        plots.regions("?", {"a": (POINTS, targets, [("x", classes[:5])])})
