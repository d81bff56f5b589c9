from typing import Any

from modelopt_cli.cli.render_explain import _blocks


def _row(group: str, block: str, way: str = "static", db: float | None = 30.0) -> dict[str, Any]:
    return {"group": group, "block": block, "way": way, "float_ms": 1.0, "result_ms": 0.5, "alone_db": db}


def test_repeated_blocks_are_one_row_with_sums_and_the_worst_error() -> None:
    (row,) = _blocks([_row("a", "s", db=30.0), _row("b", "s", db=20.0), _row("c", "s", db=None)])
    assert (row["group"], row["float_ms"], row["result_ms"], row["alone_db"]) == ("a (x3)", 3.0, 1.5, 20.0)


def test_other_decisions_and_other_blocks_stay_apart() -> None:
    rows = [_row("a", "s"), _row("b", "s", way="dynamic"), _row("c", "t"), _row("d", ""), _row("e", "")]
    assert _blocks(rows) == rows
