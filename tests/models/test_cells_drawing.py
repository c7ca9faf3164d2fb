"""The drawing of a cell: one group for each edge, a text for all of it, nothing outside the picture."""

import re
import xml.etree.ElementTree as ET

import pytest
from compactvision.models.cells import CONSISTENT, OPERATIONS, PUBLISHED, cell_svg, dense_edges, short_name


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


@pytest.mark.parametrize("name", [*PUBLISHED, *CONSISTENT])
def test_edges_nodes_and_text(name):
    genotype = (PUBLISHED | CONSISTENT)[name]
    tree = ET.fromstring(cell_svg(genotype.normal, outputs=genotype.outputs, title=name))
    space = "{http://www.w3.org/2000/svg}"
    groups = tree.findall(f"{space}g")
    assert [group.get("data-edge") for group in groups] == [str(index) for index in range(len(genotype.normal))]
    for group, edge in zip(groups, genotype.normal, strict=True):
        assert group.find(f"{space}text").text == short_name(edge.operation)
        assert f"{short_name(edge.operation)} from {edge.source} to {edge.target}" in tree.get("aria-label")
        ends = numbers(group.find(f"{space}path").get("d"))
        assert (ends[1] - 26) / 64 == edge.source
        assert (ends[-1] - 26) / 64 == edge.target
    circles = tree.findall(f"{space}circle")
    assert len(circles) == genotype.nodes + len(genotype.outputs)


def test_everything_is_inside_and_no_two_names_overlap():
    for count in (2, 4, 5):
        cell = [(OPERATIONS[i % len(OPERATIONS)], *place) for i, place in enumerate(dense_edges(count))]
        tree = ET.fromstring(cell_svg(cell))
        _, _, width, height = numbers(tree.get("viewBox"))
        boxes = [
            [float(r.get(side)) for side in ("x", "y", "width", "height")]
            for r in tree.iter("{http://www.w3.org/2000/svg}rect")
        ]
        for x, y, wide, tall in boxes:
            assert x >= 0
            assert x + wide <= width
            assert y >= 0
            assert y + tall <= height
        for i, (x, y, wide, tall) in enumerate(boxes):
            for other_x, other_y, _, _ in boxes[:i]:
                assert abs(x - other_x) >= wide or abs(y - other_y) >= tall


def test_two_edges_between_the_same_nodes_go_on_both_sides():
    tree = ET.fromstring(cell_svg([("conv_3x3", 0, 2), ("skip_connect", 0, 2)]))
    left, right = (float(r.get("x")) for r in tree.iter("{http://www.w3.org/2000/svg}rect"))
    assert left < right - 62


def test_a_title_is_only_text():
    drawn = cell_svg([("none", 0, 2)], title='<b>"x"</b>')
    assert "<b>" not in drawn
    assert ET.fromstring(drawn).get("aria-label").startswith('<b>"x"</b>: none from 0 to 2')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": [("none", 3, 2)]}, r"edges\[0\] must lead from a node to a later one"),
        ({"edges": 5}, "edges must be edges"),
        ({"outputs": (4,)}, r"outputs must be nodes from 2 to 2, got \(4,\)"),
        ({"title": None}, "title must be a text, got None"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        cell_svg(**{"edges": [("none", 0, 2)], **arguments})
