r"""A graph as rows and lanes, as version control draws its history: it needs no layout, and fits any width::

o      a      row 0, lane 0
|\\
    o |    b      lane 0 goes on in the first reader
| o    c      another reader has a lane of its own
|/
o      d
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROW_PX = 26
LANE_PX = 14
MOST_LANES = 10  # more lie on top of each other in the last one


@dataclass(frozen=True)
class Lanes:
    """Where everything is drawn.

    Attributes:
        lane: Of each row.
        edges: From row, to row; the line runs in the lane of the row it comes from.
    """

    lane: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]


def lanes_of(reads: Sequence[Sequence[int]]) -> Lanes:
    """Give each row a lane that is free until its last reader.

    Args:
        reads: For each row, the rows before it that it reads.
    """
    last = list(range(len(reads)))
    for row, sources in enumerate(reads):
        for source in sources:
            last[source] = row
    busy: list[int] = []  # lane -> the row until which it is taken
    lane: list[int] = []
    for row, sources in enumerate(reads):
        ending = [lane[source] for source in sources if last[source] == row]
        free = [at for at, until in enumerate(busy) if until < row]
        own = min(ending or free, default=len(busy))
        if own == len(busy):
            busy.append(row)
        busy[own] = last[row]
        lane.append(own)
    edges = tuple((source, row) for row, sources in enumerate(reads) for source in sources)
    return Lanes(tuple(min(each, MOST_LANES - 1) for each in lane), edges)


def lanes_svg(lanes: Lanes, kinds: Sequence[str]) -> tuple[int, str]:
    """The picture beside the rows, and its width in pixels.

    Args:
        lanes: Where everything lies.
        kinds: The class of each row's dot.
    """
    width = (max(lanes.lane, default=0) + 1) * LANE_PX + 4
    height = len(lanes.lane) * ROW_PX
    paths = "".join(_edge(lanes, source, row) for source, row in lanes.edges)
    dots = "".join(
        f'<circle cx="{_x(lane)}" cy="{_y(row)}" r="5" class="{kind}"/>'
        for row, (lane, kind) in enumerate(zip(lanes.lane, kinds, strict=True))
    )
    return width, f'<svg width="{width}" height="{height}" aria-hidden="true">{paths}{dots}</svg>'


def _edge(lanes: Lanes, source: int, row: int) -> str:
    """Down in the lane of the source, and across just before the reader."""
    x0, x1, y0, y1 = _x(lanes.lane[source]), _x(lanes.lane[row]), _y(source), _y(row)
    turn = y1 - ROW_PX
    down = f"V{turn}" if turn > y0 else ""
    across = f"V{y1}" if x0 == x1 else f"C{x0} {y1 - ROW_PX / 2:g} {x1} {y1 - ROW_PX / 2:g} {x1} {y1}"
    return f'<path d="M{x0} {y0}{down}{across}"/>'


def _x(lane: int) -> int:
    return lane * LANE_PX + LANE_PX // 2 + 2


def _y(row: int) -> int:
    return row * ROW_PX + ROW_PX // 2
