"""A difference of two models as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType

from modelopt_cli.cli.tables import plain_table
from modelopt_cli.format import format_bytes, format_change

if TYPE_CHECKING:
    from modelopt_cli.pipeline.difference import Difference


def difference_lines(found: Difference) -> Iterator[RenderableType]:
    """What ``modelopt diff`` prints: totals, operators whose number differs, outputs."""
    totals = plain_table("", "A", "B", "change", right=[1, 2])
    for label, pair in {"nodes": found.nodes, "initializers": found.initializers}.items():
        totals.add_row(label, *map(str, pair), format_change(*pair))
    for label, pair in {"weights": found.weight_bytes, "file": found.file_bytes}.items():
        totals.add_row(label, *map(format_bytes, pair), format_change(*pair))
    totals.add_row("opset", *map(str, found.opset), "" if len(set(found.opset)) > 1 else "same")
    for op, pair in found.ops.items():
        totals.add_row(f"  {op}", *map(str, pair), f"{pair[1] - pair[0]:+d}")
    yield totals
    yield ""
    outputs = plain_table("output", "largest difference", "of its range", "", right=[1, 2])
    for drift in found.outputs:
        numbers = (drift.absolute, drift.relative)
        cells = ["-" if math.isinf(number) else f"{number:.2g}" for number in numbers]
        outputs.add_row(drift.output, *cells, "same" if drift.within else "DIFFERS")
    yield outputs
