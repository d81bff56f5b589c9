"""How long a model takes with one group smaller: a table that is measured, group by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.passes.prune.structured.analysis import Dependencies, find_dependencies
from modelopt_cli.passes.prune.structured.blocks import Block, remove_blocks
from modelopt_cli.passes.prune.structured.removal import kept_without, remove_channels
from modelopt_cli.passes.prune.structured.survey import Surveyed, SurveyedBlock
from modelopt_cli.profiling.timing import compare_many
from modelopt_cli.progress import Progress

Timer = Callable[[ir.Model, Sequence[ir.Model]], list[float]]
"""Run times of models as shares of the first one's."""

TABLE_S = 20.0  # about so long for all rows together; building sessions comes on top
ROW_S = 1.0  # of one row, at most
MEASURED = 3  # levels of each group; those in between are interpolated
REBUILDS = 2
Times = tuple[tuple[float, ...], ...]


def clock(sample: Sample, seconds: float, rebuilds: int = REBUILDS) -> Timer:
    """The timer that measures: interleaved, one thread, on the inputs of a sample.

    Args:
        sample: Inputs.
        seconds: For each call.
        rebuilds: Of sessions, at least.
    """

    def timed(model: ir.Model, smaller: Sequence[ir.Model]) -> list[float]:
        found = compare_many(model, smaller, dict(sample), budget_s=seconds, rebuilds=rebuilds)
        return [each.ratio for each in found]

    return timed


def cut(model: ir.Model, gone: Sequence[int], blocks: Sequence[Block], found: Dependencies | None = None) -> ir.Model:
    """A clone without these components and branches, not fitted: as fast as a result, and good for nothing else.

    Args:
        model: The network.
        gone: Labels of components.
        blocks: Branches.
        found: Of the network, whose shapes are then not inferred anew.
    """
    smaller = model.clone()
    again = find_dependencies(smaller, found.flow.shapes if found is not None else None)  # the same numbers
    remove_channels(smaller, again, kept_without(again, gone))
    remove_blocks(smaller, blocks)
    return smaller


def measure_table(
    model: ir.Model,
    found: Dependencies,
    surveyed: Sequence[Surveyed],
    blocks: Sequence[SurveyedBlock],
    timer: Timer,
    progress: Progress,
) -> Times:
    """Run time of the whole model with each group alone at each of its levels, as a share of the source's.

    The whole model is run, not the nodes that change: what surrounds them (changes of layout, what is fused) changes
    with them. A level that was not measured lies on the line between its neighbours; one that was measured slower than
    a larger level is said to be as slow.

    Args:
        model: Not edited.
        found: Its channels.
        surveyed: Groups that may shrink.
        blocks: Branches that may leave.
        timer: What measures.
        progress: Where to say how far it is.

    Returns:
        A row for each group of ``found``, (1.0,) for those that may not shrink, and then one for each branch.
    """
    by_group = {each.candidate.group.labels: each for each in surveyed}
    rows: list[tuple[float, ...]] = []
    with progress.task("timing", len(surveyed) + len(blocks)) as advance:
        for group in found.groups:
            if (each := by_group.get(group.labels)) is None:
                rows.append((1.0,))
                continue
            levels = measured_levels(len(each.levels))
            gone = [[group.labels[part] for part in each.levels[level].gone] for level in levels]
            shares = timer(model, [cut(model, labels, (), found) for labels in gone])
            rows.append(_filled(each.candidate.keeps, levels, shares))
            advance(1)
        for branch in blocks:
            share = timer(model, [cut(model, (), [branch.block], found)])[0]
            rows.append((1.0, round(min(share, 1.0), 4)))
            advance(1)
    return tuple(rows)


def measured_levels(count: int) -> list[int]:
    """Which levels of so many, the first being all, are measured: evenly spread, the last among them."""
    return sorted({round(level) for level in np.linspace(1, count - 1, min(MEASURED, count - 1))})


def _filled(keeps: Sequence[int], levels: Sequence[int], shares: Sequence[float]) -> tuple[float, ...]:
    """The row of all levels, never rising."""
    known = np.minimum.accumulate([1.0, *shares])
    places = [keeps[level] for level in (0, *levels)]
    row = np.interp(keeps, places[::-1], known[::-1])
    return tuple(round(float(share), 4) for share in row)
