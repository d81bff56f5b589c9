from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.report.lanes import MOST_LANES, lanes_of, lanes_svg


def test_a_chain_is_one_lane_and_a_branch_another() -> None:
    assert lanes_of([[], [0], [1]]).lane == (0, 0, 0)
    diamond = lanes_of([[], [0], [0], [1, 2], [3]])
    assert diamond.lane == (0, 1, 0, 0, 0)
    assert diamond.edges == ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4))


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 14))
    return [draw(st.lists(st.integers(0, row - 1), max_size=3, unique=True)) if row else [] for row in range(size)]


@given(graphs())
def test_a_line_never_runs_through_another_row(reads: list[list[int]]) -> None:
    lanes = lanes_of(reads)
    if len(set(lanes.lane)) == MOST_LANES:
        return
    for source, row in lanes.edges:
        between = lanes.lane[source + 1 : row]
        assert lanes.lane[source] not in between


def test_the_picture_has_a_dot_for_each_row_and_a_line_for_each_edge() -> None:
    width, text = lanes_svg(lanes_of([[], [0], [0], [1, 2]]), ["float", "integer", "float", "float"])
    root = ET.fromstring(text)
    assert [dot.get("class") for dot in root.findall("circle")] == ["float", "integer", "float", "float"]
    assert len(root.findall("path")) == 4
    assert max(float(dot.get("cx", 0)) for dot in root.findall("circle")) < width
