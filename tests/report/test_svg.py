from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.report.svg import Point, axis, histogram, interval_bar, range_bar, scale_to, scatter, stacked_bar


@given(st.floats(1e-9, 1e12))
def test_a_scale_holds_its_largest_value_with_few_round_marks(largest: float) -> None:
    scale = scale_to(largest)
    assert largest <= scale.top * (1 + 1e-6)
    assert largest >= scale.top - scale.step * (1 + 1e-9)
    assert 2 <= len(scale.ticks) <= 6
    assert re.fullmatch(r"[125]\.?0*e[+-]\d+", f"{scale.step:.6e}")


@pytest.mark.parametrize("largest", [0.0, -3.0, float("inf"), float("nan")])
def test_nothing_to_draw_has_a_scale_all_the_same(largest: float) -> None:
    assert scale_to(largest).top == 1.0


def test_values_lie_where_they_belong() -> None:
    scale = scale_to(10)
    assert scale.top == 10
    assert [scale.at(value) for value in (0, 2.5, 10, 99, -1)] == [0, 25, 100, 100, 0]


def test_a_range_is_drawn_at_its_quantiles() -> None:
    root = ET.fromstring(range_bar(scale_to(10), low=2, median=3, high=5, end=8, kind="result"))
    box = root.find("rect")
    assert box is not None
    assert (box.get("x"), box.get("width")) == ("20.0%", "30.0%")
    assert {line.get("class"): line.get("x2") for line in root.findall("line")} == {"whisker": "80.0%", "mark": "30.0%"}


def test_a_histogram_is_as_high_as_its_most_frequent_part() -> None:
    root = ET.fromstring(histogram(scale_to(10), 2, 6, [1, 4, 0, 2], "result"))
    rects = root.findall("rect")
    assert [rect.get("x") for rect in rects] == ["20.0%", "30.0%", "50.0%"]
    assert [float(rect.get("height", 0)) for rect in rects] == [8.5, 34.0, 17.0]


def test_dots_lie_at_their_values_and_have_their_areas() -> None:
    points = [Point("old", 8.0, 0.9, 1.0, "original"), Point("new", 4.0, 0.8, 0.25, "result")]
    root = ET.fromstring("<g>" + scatter(points, str, str, up=False) + "</g>")
    old, new = root.findall(".//circle")
    assert float(str(old.get("cx")).rstrip("%")) == 2 * float(str(new.get("cx")).rstrip("%"))
    assert float(old.get("cy", 0)) < float(new.get("cy", 0))
    assert float(old.get("r", 0)) == 2 * float(new.get("r", 0))
    assert [text.text for text in root.iter("text") if text.get("class") == "name"] == ["old", "new"]


def test_no_share_is_above_100_percent() -> None:
    points = [Point("old", 8.0, 1.0, 1.0, "original"), Point("new", 4.0, 0.9, 0.25, "result")]
    root = ET.fromstring("<g>" + scatter(points, str, lambda v: f"{v:.3f}", up=False) + "</g>")
    assert next(float(dot.get("cy", -1)) for dot in root.iter("circle")) == 0


def test_an_interval_is_drawn_with_its_reference() -> None:
    root = ET.fromstring(interval_bar(scale_to(1), 0.5, 0.4, 0.7, reference=1.0))
    dot = root.find("circle")
    assert dot is not None
    assert dot.get("cx") == "50.0%"
    assert [line.get("x1") for line in root.findall("line") if line.get("class") == "reference"] == ["100.0%"]


def test_parts_follow_each_other_and_keep_their_names_as_text() -> None:
    root = ET.fromstring(stacked_bar(scale_to(10), [("<int8>", 2.0, 0), ("float32", 6.0, 5)]))
    rects = root.findall("rect")
    assert [rect.get("x") for rect in rects] == ["0.0%", "20.0%"]
    assert [rect.get("class") for rect in rects] == ["part part0", "part part1"]
    assert rects[0].findtext("title") == "<int8>"


def test_an_axis_names_its_marks() -> None:
    root = ET.fromstring(axis(scale_to(1), lambda value: f"{value:g} s"))
    assert [text.text for text in root.findall("text")] == ["0", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1 s"]
    assert [text.get("text-anchor") for text in root.findall("text")][::5] == ["start", "end"]
