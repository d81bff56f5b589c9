from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from html_page import Page, find

from modelopt_cli.errors import UsageError
from modelopt_cli.report.sensitivity_page import sensitivity_html, write_sensitivity

GROUPS: dict[str, Any] = {
    "model": "m.onnx",
    "judged_on": "c.npz",
    "samples": 32,
    "all_groups": {"sqnr_db": 33.4, "output": "y", "part": "", "agreement": 1.0},
    "groups": [
        {"group": "<a>", "ops": ["Conv", "Conv"], "way": "static", "alone_db": 12.0, "without_db": 36.0},
        {"group": "b", "ops": ["Add"], "way": "static", "alone_db": 60.0, "without_db": 33.0},
    ],
}
LEVEL = {"sparsity": 0.5, "layer_error": 0.25, "sqnr_db": 16.2, "agreement": 1.0, "accuracy": 0.982}
LAYERS: dict[str, Any] = {
    "model": "m.onnx",
    "judged_on": "c.npz",
    "samples": 64,
    "levels": [0.5, 0.9],
    "metric": "top1",
    "accuracy": 0.9865,
    "layers": [
        {
            "layer": "l",
            "weights": 144,
            "levels": [LEVEL, LEVEL | {"sqnr_db": None, "layer_error": 0.75, "accuracy": None}],
        }
    ],
}


@pytest.mark.parametrize(("found", "count"), [(GROUPS, 2 + 4), (LAYERS, 2 + 1 + 2 + 1)])
def test_each_number_is_that_of_the_json_and_names_stay_text(found: dict[str, Any], count: int) -> None:
    page = Page(sensitivity_html(found))
    assert page.open == []
    assert len(page.facts) == count
    for pointer, value, _ in page.facts:
        assert json.loads(value) == find(found, pointer)
    assert "a" not in {tag for tag, _ in page.tags}


def test_what_hurts_most_is_darkest() -> None:
    page = Page(sensitivity_html(GROUPS))
    heats = [
        float((attrs["style"] or "").partition(":")[2])
        for _, attrs in page.tags
        if "--heat" in (attrs.get("style") or "")
    ]
    assert heats == [0.96, 0.48, 0.0, 0.54]


def test_outputs_that_are_no_floats_show_the_layers_own_error() -> None:
    assert ("/layers/0/levels/1/layer_error", "0.75", "75.0 %") in Page(sensitivity_html(LAYERS)).facts


def test_a_suffix_without_a_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has the suffix '.csv'"):
        write_sensitivity(GROUPS, tmp_path / "a.csv")
    write_sensitivity(GROUPS, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == GROUPS
