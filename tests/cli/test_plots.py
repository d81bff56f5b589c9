from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from modelopt_cli.cli.plots import Bar, Distribution, bar_text, densities, spark_text
from modelopt_cli.cli.tables import plain_table
from modelopt_cli.profiling.statistics import Histogram


@pytest.mark.parametrize(
    ("share", "text"), [(0, ""), (0.001, "▏"), (0.5, "██"), (0.6, "██▍"), (1, "████"), (7, "████")]
)
def test_a_bar_is_as_long_as_its_share(share: float, text: str) -> None:
    assert bar_text(share, 4) == text


def test_a_bar_without_unicode() -> None:
    assert [bar_text(share, 4, plain=True) for share in (0, 0.01, 0.5, 1)] == ["", "#", "##", "####"]


def test_heights_lie_where_the_times_do() -> None:
    found = densities(Histogram(2.0, 4.0, (8, 4)), top_ms=8.0, width=8)
    assert found == [0, 0, 1.0, 0.5, 0, 0, 0, 0]
    assert densities(Histogram(2.0, 4.0, (8, 4)), top_ms=3.0, width=3) == [0, 0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=80))
def test_a_line_has_a_character_for_each_height(heights: list[float]) -> None:
    text = spark_text(heights)
    assert len(text) == len(heights)
    assert [mark == " " for mark in text] == [height == 0 for height in heights]


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "█"), ("ascii", "#"), ("latin-1", "#")])
def test_a_stream_gets_what_it_can_write(encoding: str, marks: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    console = Console(file=stream, width=80)
    table = plain_table("a", "")
    table.add_row("x", Bar(1.0))
    console.print(table)
    console.print(Distribution("name", Histogram(1.0, 2.0, (1, 9)), 2.0, 60))
    stream.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert marks * 12 in lines[2]
    assert lines[3].startswith("name ")
    assert lines[3].endswith(marks)
    assert max(map(len, lines)) <= 80
