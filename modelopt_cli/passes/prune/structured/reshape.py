"""Channels through Reshape: which axes of the input make which of the output, and how channels split and merge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Flow
from modelopt_cli.passes.prune.structured.heads import head_axis

Chunk = tuple[range, range]


def follow_reshape(
    flow: Flow, node: ir.Node, data: list[Axis], sizes: Sequence[int | None], target: np.ndarray | None
) -> list[Axis]:
    """Axes of the result; channels that cannot be followed are held.

    Args:
        flow: The walk.
        node: Reshape or Flatten.
        data: Axes of the input.
        sizes: What is known of the result's shape.
        target: The constant target, where a 0 copies the input's size.
    """
    out = [Axis(size) for size in sizes]
    for before, after in chunks([axis.size for axis in data], sizes, target):
        part = [data[place] for place in before]
        whole = [sizes[place] for place in after]
        for place, axis in zip(after, _follow_chunk(flow, node, part, whole, after), strict=True):
            out[place] = axis
    return out


def chunks(before: Sequence[int | None], after: Sequence[int | None], target: np.ndarray | None) -> Iterator[Chunk]:
    """Pairs of runs of axes that hold the same elements, as small as can be told; together they are all axes."""
    first = 0
    copied = target is not None
    while copied and first < min(len(before), len(after)):
        assert target is not None
        copied = target.reshape(-1)[first] == 0 or (before[first] is not None and before[first] == after[first])
        if copied:
            yield range(first, first + 1), range(first, first + 1)
            first += 1
    tail: list[Chunk] = []
    i, j = len(before), len(after)
    while i > first or j > first:
        start_i, start_j, left, right = i, j, 1, 1
        while left != right or (start_i == i and start_j == j):
            if start_i > first and (left <= right and not (left == right and start_j < j)):
                size, start_i = before[start_i - 1], start_i - 1
                left = left * size if size is not None else -1
            elif start_j > first:
                size, start_j = after[start_j - 1], start_j - 1
                right = right * size if size is not None else -1
            else:
                left = -1
            if left < 0 or right < 0:
                break
        if left < 0 or right < 0:
            tail.append((range(first, i), range(first, j)))
            break
        while start_j > first and after[start_j - 1] == 1 and start_i == first:
            start_j -= 1
        tail.append((range(start_i, i), range(start_j, j)))
        i, j = start_i, start_j
    yield from reversed(tail)


def _follow_chunk(flow: Flow, node: ir.Node, part: list[Axis], sizes: list[int | None], after: range) -> list[Axis]:
    why = next((axis.why for axis in part if axis.why), "")
    still = [Axis(size, None, why) for size in sizes]
    tracked = [axis for axis in part if axis.ids is not None]
    if not tracked:
        return still
    if len(part) == 1 and len(sizes) == 1:
        return part
    known = [axis.size for axis in part if axis.size is not None]
    if len(known) < len(part) or any(size is None for size in sizes) or not sizes:
        return flow.hold(part, f"Reshape '{node.name}' mixes it with axes of unknown size") and still
    flow.hold(tracked[1:], f"Reshape '{node.name}' merges it with other channels")
    place = part.index(tracked[0])
    ids = tracked[0].ids
    assert ids is not None
    merged = np.tile(np.repeat(ids, math.prod(known[place + 1 :])), math.prod(known[:place]))
    whole = [size for size in sizes if size is not None]
    wide = [index for index, size in enumerate(whole) if size > 1]
    if len(wide) <= 1:
        return [Axis(size, merged) if index in wide else Axis(size) for index, size in enumerate(whole)]
    return _split(flow, node, merged, whole, wide, after)


def _split(
    flow: Flow, node: ir.Node, merged: np.ndarray, sizes: list[int], wide: list[int], after: range
) -> list[Axis]:
    """One axis of several gets the channels: that of attention heads where there is one, else the innermost."""
    head = head_axis(node.outputs[0], {after[index] for index in wide}, flow.shapes)
    chosen = wide[-1] if head is None else head - after.start
    axis = flow.channels.fresh(sizes[chosen])
    assert axis.ids is not None
    if head is not None:
        flow.heads.append(axis)
    inner, outer = math.prod(sizes[chosen + 1 :]), math.prod(sizes[:chosen])
    spread = np.tile(np.repeat(axis.ids, inner), outer)
    flow.channels.join(Axis(len(merged), merged), Axis(len(spread), spread))
    return [axis if index == chosen else Axis(size) for index, size in enumerate(sizes)]
