"""Each number on the page is that of the JSON: not only beside it for machines, but in the text that a person reads."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from html_page import Page, find
from report_examples import inside

from modelopt_cli.format import IDENTICAL_DB
from modelopt_cli.report.html import to_html
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.serialize import to_json

NUMBER = re.compile(r"^([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)\s*(us|ms|s|B|kB|MB|GB|k|M|G|%|dB|x|points)?(?!\w)")
UNITS = {"us": 1e-3, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01, "points": 0.01}
WORDS = {"identical": "Infinity", "none": None, "yes": True, "no": False, "not measured": None}
# What is computed from two numbers of the JSON and stands beside them; and words that hold a digit.
DERIVED = r"[-+]?[\d.]+ ?(?:%|x|points)( smaller| LARGER)?( \(.+\))?$"
PROSE = ("8-bit", "95 %", "90th", "95th", "apart from 1", "holds 1", "sha256", "int8", "modelopt.report/1")


def assert_all_numbers_are_of_the_json(page: Page, content: Any) -> None:
    assert len(page.facts) > 80
    for pointer, raw, text in page.facts:
        value = find(content, pointer)
        assert json.loads(raw) == value, pointer
        assert reads_as(text, value, pointer), (pointer, text, value)
    for text in page.loose:
        rest = text
        for word in PROSE:
            rest = rest.replace(word, "")
        rest = re.sub(r"inputs .* [\d x]+", "", rest)  # shapes
        assert not re.search(r"(?<![\w.])\d", rest) or re.search(DERIVED, rest.strip()), text


def reads_as(text: str, value: Any, pointer: str) -> bool:
    """Whether a person who reads ``text`` has read ``value``, to the digits that are shown."""
    if text in ("identical", "all noise") and "_db" in pointer:
        return value == "Infinity" or (
            float(value) >= IDENTICAL_DB if text == "identical" else float(value) <= -IDENTICAL_DB
        )
    if text in WORDS:
        return bool(WORDS[text] == value or (text == "none" and value == ""))
    if isinstance(value, str) or value is None:
        return text == str(value)
    minutes = re.match(r"(\d+) min (\d+) s", text)
    if minutes:
        return abs(int(minutes[1]) * 60 + int(minutes[2]) - value) <= 0.5
    found = NUMBER.match(text)
    assert found is not None, (pointer, text)
    number, unit = float(found[1].replace(",", "")), found[2] or ""
    scale = 1e3 if unit == "s" and "ms" in pointer else UNITS.get(unit, 1)
    if re.search("faster|SLOWER", text):  # the result's time as a share, in words
        gain = 1 + number / 100 if unit == "%" else number
        number, scale = (1 / gain if "faster" in text else gain), 1
    if "speedup" in pointer:
        scale = 1
    digits = re.sub(r"[^\d.]", "", found[1].partition("e")[0])
    step = 10.0 ** -len(digits.partition(".")[2]) * scale
    if unit == "%" and 0 < value < 1:  # never shown as 0 or 100 when it is neither: an idle machine's stolen time
        value = min(max(value, step), 1 - step)
    return abs(number * scale - value) <= max(step * 0.51, 0.006 * abs(value))


def test_each_number_a_person_reads_is_of_the_json(report: RunReport) -> None:
    told = inside(report)
    assert_all_numbers_are_of_the_json(Page(to_html(told)), json.loads(to_json(told)))


@pytest.mark.parametrize("value", [0.00002, 0.0007, 0.0012])
def test_a_tiny_share_is_not_read_as_none(value: float) -> None:
    assert reads_as("0.1 %", value, "/stolen")
    assert not reads_as("0 %", value, "/stolen")
    assert not reads_as("0.1 %", 0.0, "/stolen")


@pytest.mark.parametrize("text", ["98.4 us", "98.4 s", "97.4 ms", "9.84"])
def test_a_number_that_is_not_the_value_is_found(text: str) -> None:
    assert reads_as("98.4 ms", 98.41, "/a_ms")
    assert not reads_as(text, 98.41, "/a_ms")
