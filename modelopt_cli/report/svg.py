"""Plots as inline SVG. Lengths across are percent and heights are pixels: any width fits, and text keeps its size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

ROW_PX = 22
AXIS_PX = 20
MOST_TICKS = 5
HISTOGRAM_PX = 34
SCATTER_PX = 170
LARGEST_DOT = 15.0  # radius
NAME_PX = 14.0
ROOM = 22  # percent of the width that a name takes


@dataclass(frozen=True)
class Scale:
    """From 0 to ``top``, a round number, over the width of a plot; ``step`` lies between two marks of the axis."""

    top: float
    step: float

    def at(self, value: float) -> float:
        """Where a value lies, in percent of the width; held at the edges."""
        return round(100 * min(max(value / self.top, 0.0), 1.0), 3)

    @property
    def ticks(self) -> list[float]:
        """The values that the axis names, 0 first."""
        return [index * self.step for index in range(round(self.top / self.step) + 1)]


def scale_to(largest: float) -> Scale:
    """The scale that holds ``largest``: its step is 1, 2 or 5 times a power of ten (1 where nothing is positive)."""
    largest = largest if largest > 0 and math.isfinite(largest) else 1.0
    power = 10.0 ** math.floor(math.log10(largest / MOST_TICKS))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * MOST_TICKS * (1 + 1e-9) >= largest)
    return Scale(step * math.ceil(largest / step - 1e-6), step)


def range_bar(scale: Scale, low: float, median: float, high: float, end: float, kind: str) -> str:
    """A box from ``low`` to ``high``, a line on to ``end`` and a mark at ``median``."""
    middle = ROW_PX / 2
    return _svg(
        ROW_PX,
        _line(scale.at(low), scale.at(end), middle, "whisker"),
        _upright(scale.at(end), middle - 4, middle + 4, "whisker"),
        _rect(scale.at(low), scale.at(high), 4, ROW_PX - 8, f"box {kind}"),
        _upright(scale.at(median), 1, ROW_PX - 1, "mark"),
    )


def histogram(scale: Scale, low: float, high: float, counts: Sequence[int], kind: str) -> str:
    """Counts over equal parts of ``low`` to ``high``, the most frequent as high as the picture; the rest is cut."""
    width, most = (high - low) / len(counts), max(*counts, 1)
    bars = []
    for at, count in enumerate(counts):
        start = low + at * width
        if count and start < scale.top:
            tall = max(HISTOGRAM_PX * count / most, 1)
            place = scale.at(start), scale.at(start + width)
            bars.append(_rect(*place, round(HISTOGRAM_PX - tall, 2), round(tall, 2), f"bin {kind}"))
    return _svg(HISTOGRAM_PX, *bars)


@dataclass(frozen=True)
class Point:
    """A dot of a scatter plot.

    Attributes:
        name: Beside the dot.
        x: To the right.
        y: Upwards.
        area: Share of the largest dot's.
        kind: Its class.
    """

    name: str
    x: float
    y: float
    area: float
    kind: str


def scatter(
    points: Sequence[Point], label_x: Callable[[float], str], label_y: Callable[[float], str], *, up: bool
) -> str:
    """Dots over an axis from 0; upwards from 0 too (``up``), or over the range of the values, with room around.

    Args:
        points: What is drawn.
        label_x: Text of a value on the lower axis.
        label_y: Text of a value on the left one.
        up: Whether heights begin at 0.
    """
    across = scale_to(max(each.x for each in points) * 1.15)
    low, high = (0.0, scale_to(max(each.y for each in points)).top) if up else _around([each.y for each in points])

    def place(value: float) -> float:
        return round(SCATTER_PX - (value - low) / (high - low) * SCATTER_PX, 2)

    marks = _round_between(low, high)
    lines = [_line(0, 100, place(mark), "grid") for mark in marks]
    above = [place(mark) - 3 if place(mark) > NAME_PX else place(mark) + 11 for mark in marks]  # inside of the picture
    texts = [f'<text x="0" y="{y}">{escape(label_y(mark))}</text>' for mark, y in zip(marks, above, strict=True)]
    furthest, dots, below = max(each.x for each in points), [], -NAME_PX
    for each in sorted(points, key=lambda point: -point.y):
        y = place(each.y)
        below = max(y, below + NAME_PX)  # names of dots side by side stand below each other
        dots.append(_dot(each, across.at(each.x), y, below, each.x == furthest))
    return _svg(SCATTER_PX, *lines, *texts, *dots, kind="scatter") + axis(across, label_x)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """A range with room on both sides, and of a point at least: small differences look small."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.6, 0.01)
    return low - room, high + room if high > 1 else min(high + room, 1.0)  # no share is above 100 %


def _round_between(low: float, high: float) -> list[float]:
    """Round values of a range, some five."""
    step = scale_to(high - low).step
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [at * step for at in range(first, last + 1)]


def _dot(point: Point, left: float, y: float, text_y: float, outermost: bool) -> str:
    """Names stand outside of the dots where there is room, so that two near each other can be read."""
    radius = round(LARGEST_DOT * max(point.area, 0.02) ** 0.5, 2)
    right = left < ROOM if not outermost else left < 100 - ROOM
    anchor, shift = ("start", 1) if right else ("end", -1)
    text = f'<text x="{left}%" y="{text_y + 4}" dx="{shift * (radius + 5)}" text-anchor="{anchor}" class="name">'
    return f'<circle cx="{left}%" cy="{y}" r="{radius}" class="point {point.kind}"/>{text}{escape(point.name)}</text>'


def interval_bar(scale: Scale, value: float, low: float, high: float, reference: float) -> str:
    """A mark at ``value``, a line over its interval, and a dashed upright where nothing would have changed."""
    middle = ROW_PX / 2
    return _svg(
        ROW_PX,
        _upright(scale.at(reference), 0, ROW_PX, "reference"),
        _line(scale.at(low), scale.at(high), middle, "interval"),
        _upright(scale.at(low), middle - 5, middle + 5, "interval"),
        _upright(scale.at(high), middle - 5, middle + 5, "interval"),
        f'<circle cx="{scale.at(value)}%" cy="{middle}" r="4.5" class="dot"/>',
    )


def stacked_bar(scale: Scale, parts: Sequence[tuple[str, float, int]]) -> str:
    """Parts one after the other: name (shown where it is pointed at), length, and number of its shade (of four)."""
    rects, start = [], 0.0
    for name, size, shade in parts:
        end = start + size
        rects.append(_rect(scale.at(start), scale.at(end), 3, ROW_PX - 6, f"part part{shade % 4}", name))
        start = end
    return _svg(ROW_PX, *rects)


def axis(scale: Scale, label: Callable[[float], str]) -> str:
    """The line below bars, with a round value at each mark."""
    texts = []
    for tick in scale.ticks:
        anchor = "start" if tick == 0 else "end" if tick == scale.ticks[-1] else "middle"
        text = escape(label(tick)) if tick else "0"
        texts.append(f'<text x="{scale.at(tick)}%" y="16" text-anchor="{anchor}">{text}</text>')
        texts.append(_upright(scale.at(tick), 0, 4, "axis"))
    return _svg(AXIS_PX, _line(0, 100, 0.5, "axis"), *texts)


def _svg(height: int, *shapes: str, kind: str = "") -> str:
    """Hidden from screen readers: the numbers stand beside each plot as text."""
    name = f' class="{kind}"' if kind else ""
    return f'<svg width="100%" height="{height}" aria-hidden="true"{name}>{"".join(shapes)}</svg>'


def _line(left: float, right: float, y: float, kind: str) -> str:
    return f'<line x1="{left}%" x2="{right}%" y1="{y}" y2="{y}" class="{kind}"/>'


def _upright(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line x1="{x}%" x2="{x}%" y1="{top}" y2="{bottom}" class="{kind}"/>'


def _rect(left: float, right: float, y: float, height: float, kind: str, title: str = "") -> str:
    place = f'x="{left}%" width="{round(right - left, 3)}%" y="{y}" height="{height}" class="{kind}"'
    return f"<rect {place}><title>{escape(title)}</title></rect>" if title else f"<rect {place}/>"
