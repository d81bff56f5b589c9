"""Plain data with positions, and no value that two YAML readers would read differently."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.recipe.yaml_text import AmbiguousScalarError, read_scalar, read_yaml, write_yaml

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), ("1.5", 1.5), (".5", 0.5), ("-2", -2), ("0", 0), (".inf", float("inf")),
        ("true", True), ("False", False), ("", None), ("~", None), ("null", None),
        ("int8", "int8"), ("a:b", "a:b"), ("1.2.3", "1.2.3"), ("y", "y"), ("-", "-"),
    ],
)  # fmt: skip
def test_a_plain_scalar_means_one_thing(text: str, value: Any) -> None:
    read = read_scalar(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("yes", "true or false"), ("No", "true or false"), ("on", "true or false"), ("OFF", "true or false"),
        ("12:30", "decimal"), ("1:30.5", "decimal"), ("017", "decimal"), ("089", "decimal"), ("1_000", "decimal"),
        ("0x1f", "decimal"), ("0b11", "decimal"), ("9" * 5000, "decimal"), ("2026-01-31", "quotes"), ("=", "quotes"),
    ],
)  # fmt: skip
def test_a_scalar_of_two_meanings_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(AmbiguousScalarError, match=advice):
        read_scalar(text)
    assert read_yaml(f"key: '{text}'").data == {"key": text}, "in quotes it is text"


@given(st.text(alphabet="0123456789+-._:eExXoOyYnNtrufalsinTRUE~", max_size=8))
def test_an_accepted_scalar_is_what_yaml_1_1_reads_but_for_exponents(text: str) -> None:
    try:
        value = read_scalar(text)
    except AmbiguousScalarError:
        return
    try:
        other = yaml.safe_load(f"[{text}]")[0] if text else None
    except (yaml.YAMLError, IndexError, ValueError):
        return
    if isinstance(other, str) and isinstance(value, float):
        assert float(other) == value
    elif isinstance(other, str | int | float | None):
        assert value == other or value != value
    # anything else (a mapping: "a: b") is no scalar in this context


@given(TREES)
def test_what_is_written_is_read_back(tree: Any) -> None:
    document = read_yaml(write_yaml(tree))
    assert document.problems == []
    assert document.data == tree


def test_positions_are_of_the_value_and_of_the_key() -> None:
    document = read_yaml("a: 1\nsteps:\n  - pass: x\n    with: {deep: 2}\n")
    assert document.values[("steps", 0, "with", "deep")] == (4, 18)
    assert document.keys[("steps", 0, "with", "deep")] == (4, 12)
    assert document.values[("a",)] == (1, 4)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\na: 2", 2, 1, "duplicate key, first written on line 1"),
        ("a: {b: 1, 'b': 2}", 1, 11, "duplicate key"),
        ("a: &x 1\nb: *x", 1, 4, "anchors and aliases"),
        ("include: [*head]", 1, 11, "needs quotes"),
        ("a: !!python/object/apply:os.system [ls]", 1, 4, "tags are not read"),
        ("on: 1", 1, 1, "disagree on an unquoted on"),
        ("? [a]\n: 1", 1, 3, "a key must be a word"),
        ("1: 2", 1, 1, "a key must be a word"),
        ("a: [", 2, 1, "is not YAML"),
        ("a: 1\n---\na: 2", 2, 1, "is not YAML"),
        ("a: \x00", 1, 1, "is not YAML"),
        ("\t a: 1", 1, 1, "is not YAML"),
        ("[" * 5000, 1, 21, "nested more than 20 deep"),
    ],
)
def test_mistakes_of_the_text_have_a_place(text: str, line: int, column: int, message: str) -> None:
    problem = read_yaml(text).problems[0]
    assert message in problem.message
    assert (problem.line, problem.column) in {(line, column), (line - 1, column + len(text))}


@given(st.text(alphabet="a:- \n[]{},'\"#|>&*!?%@`\t0", max_size=40))
def test_no_text_makes_it_raise(text: str) -> None:
    document = read_yaml(text)
    assert document.problems or document.data is None or document.values
