"""Bars and distributions of characters, where looking beats reading; plain ones where the terminal has no Unicode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment

from modelopt_cli.profiling.statistics import Histogram

BLOCKS = " ▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"
PLAIN = " ..::++##"


@dataclass(frozen=True)
class Bar:
    """A bar in a cell of a table.

    Attributes:
        share: 0 to 1, of the whole width.
        width: In characters.
    """

    share: float
    width: int = 12

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(bar_text(self.share, self.width, plain=options.ascii_only))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


@dataclass(frozen=True)
class Distribution:
    """How often what time was measured, on a line from 0 on.

    Attributes:
        label: Before it.
        histogram: What was measured.
        top_ms: The end of the line.
        width: Of the line, in characters.
    """

    label: str
    histogram: Histogram
    top_ms: float
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heights = densities(self.histogram, self.top_ms, self.width)
        ramp = PLAIN if options.ascii_only else BLOCKS
        yield Segment(f"{self.label} {spark_text(heights, ramp)}".rstrip())
        yield Segment.line()


def bar_text(share: float, width: int, *, plain: bool = False) -> str:
    """A share of 0 to 1 as a bar, to an eighth of a character; something of it is seen of any share above 0."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    if plain:
        return "#" * ((eighths + 7) // 8)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def densities(histogram: Histogram, top_ms: float, width: int) -> list[float]:
    """Runs in each of ``width`` equal parts of 0 to ``top_ms``, the fullest being 1; what lies beyond is left out."""
    found = [0.0] * width
    step = (histogram.high_ms - histogram.low_ms) / len(histogram.counts)
    for index, count in enumerate(histogram.counts):
        middle = histogram.low_ms + (index + 0.5) * step
        place = int(middle / top_ms * width)
        if place < width:
            found[place] += count
    most = max(found) or 1.0
    return [each / most for each in found]


def spark_text(heights: Sequence[float], ramp: str = BLOCKS) -> str:
    """Heights of 0 to 1 as characters; what is not 0 is seen."""
    last = len(ramp) - 1
    return "".join(ramp[0 if height <= 0 else max(round(height * last), 1)] for height in heights)
