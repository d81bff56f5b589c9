"""What each fusion rule did, and what kept it from doing more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from modelopt_cli.report.model import RunReport, SkipReport

FAMILY = ("simplify", "fuse")


def explain_lines(report: RunReport) -> Iterator[RenderableType]:
    """A line per rule that was applied or nearly was, the reasons against it below, with some of the nodes."""
    applied, refused = _by_rule(report)
    names = sorted({*applied, *refused}, key=lambda name: (-applied[name], name))
    yield ""
    if not names:
        yield "no rule found anything"
    width = max(map(len, names), default=0)
    for name in names:
        yield f"{name.ljust(width)}  {applied[name]:>4} applied"
        for reason, skip in refused.get(name, ()):
            examples = ", ".join(skip.examples) + (", ..." if skip.count > len(skip.examples) else "")
            yield Padding(Text(f"{skip.count} not: {reason} ({examples})", style="dim"), (0, 0, 0, 2))


def _by_rule(report: RunReport) -> tuple[Counter[str], dict[str, list[tuple[str, SkipReport]]]]:
    """How often each rule was applied, and its refusals; of a pass that ran twice, the last word."""
    applied: Counter[str] = Counter()
    refused: dict[str, dict[str, SkipReport]] = defaultdict(dict)
    for step in report.steps:
        if step.name in FAMILY:
            applied.update(step.details.get("rules", {}))
            for skip in step.skipped:
                rule, _, reason = skip.reason.partition(": ")
                refused[rule][reason] = skip
    return applied, {rule: list(reasons.items()) for rule, reasons in refused.items()}
