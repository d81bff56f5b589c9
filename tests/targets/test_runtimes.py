from __future__ import annotations

import pytest

from modelopt_cli.targets.runtimes import lowest_onnxruntime


@pytest.mark.parametrize(
    ("opset", "ir_version", "lowest"),
    [(7, 3, "0.2"), (13, 7, "1.6"), (13, 8, "1.11"), (17, 8, "1.12"), (17, 10, "1.18"), (21, 10, "1.18")],
)
def test_the_newer_of_both_decides(opset: int, ir_version: int, lowest: str) -> None:
    assert lowest_onnxruntime(opset, ir_version, "9.9") == lowest


def test_what_the_table_does_not_know_needs_what_loaded_it() -> None:
    assert lowest_onnxruntime(99, 8, "1.32.0") == "1.32.0"
    assert lowest_onnxruntime(17, 99, "1.32.0") == "1.32.0"
