"""What each filter of a Conv, Gemm or MatMul is multiplied with: mean and covariance of its input patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.calibration.probe import probe_in_groups
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import constant
from modelopt_cli.progress import Progress

POSITIONS = 96  # patches per sample and node, spread over the picture: neighbours say the same
PATCHES_AT_ONCE = 768  # with few at a time, reading and writing the K x K moment would take longer than the product
LARGE_PATCH = 256
LARGEST_PATCH = 2304  # 256 channels of 3 x 3; above, the covariance costs more time and memory than it gives


@dataclass(frozen=True)
class PatchStatistics:
    """Moments of the patches, per group of a grouped Conv.

    Attributes:
        mean: [groups, K], K = input channels per group times kernel positions.
        covariance: [groups, K, K], shrunk towards its diagonal the more, the fewer patches there were.
    """

    mean: np.ndarray
    covariance: np.ndarray


class _Accumulator:
    def __init__(self, groups: int, size: int) -> None:
        self._sum = np.zeros((groups, size), np.float64)
        self._outer = np.zeros((groups, size, size), np.float32)
        self._count = 0
        self._pending: list[np.ndarray] = []

    def update(self, patches: np.ndarray) -> None:
        """Take in [groups, K, positions]."""
        self._pending.append(patches)
        # Only a large moment is worth waiting for: what waits takes memory.
        large = self._outer.shape[1] >= LARGE_PATCH
        if not large or sum(part.shape[2] for part in self._pending) >= PATCHES_AT_ONCE:
            self._add()

    def _add(self) -> None:
        if self._pending:
            patches = np.concatenate(self._pending, axis=2)
            self._pending.clear()
            self._sum += patches.sum(axis=2)
            self._outer += patches @ patches.transpose(0, 2, 1)
            self._count += patches.shape[2]

    def statistics(self) -> PatchStatistics:
        self._add()
        count, size = max(self._count, 1), self._sum.shape[1]
        mean = self._sum / count
        covariance = self._outer / np.float32(count) - (mean[:, :, None] * mean[:, None, :]).astype(np.float32)
        trust = count / (count + size)
        diagonal = np.arange(size)
        kept = np.maximum(covariance[:, diagonal, diagonal], 0)
        covariance *= np.float32(trust)
        covariance[:, diagonal, diagonal] = kept
        return PatchStatistics(mean.astype(np.float32), covariance)


def collect_patches(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    dataset: Dataset,
    progress: Progress,
    memory: WorkingMemory | None = None,
) -> Iterator[tuple[ir.Node, PatchStatistics]]:
    """Statistics of each node's input patches, in batches that together stay within the memory.

    Args:
        model: The float model.
        nodes: Conv (two-dimensional), Gemm and MatMul of its main graph with constant weights; others are left out.
        dataset: Samples; gone through once per batch.
        progress: Where to say how far it is.
        memory: What may be held.
    """
    memory = memory or WorkingMemory()
    batch: list[ir.Node] = []
    held = 0.0
    for node in nodes:
        groups, size = patch_size(node)
        if size == 0 or size > LARGEST_PATCH:
            continue
        need = groups * size * size * 4 / 2**20
        if batch and held + need > memory.patches_mb:
            yield from _collect(model, batch, dataset, progress, memory)
            batch, held = [], 0.0
        batch.append(node)
        held += need
    if batch:
        yield from _collect(model, batch, dataset, progress, memory)


def _collect(
    model: ir.Model, nodes: Sequence[ir.Node], dataset: Dataset, progress: Progress, memory: WorkingMemory
) -> Iterator[tuple[ir.Node, PatchStatistics]]:
    found = {node: _Accumulator(*patch_size(node)) for node in nodes}
    readers: dict[str, list[ir.Node]] = {}
    for node in nodes:
        readers.setdefault(source_of(node), []).append(node)
    stream = probe_in_groups(
        model,
        list(readers),
        dataset,
        threads=1,
        max_memory_mb=memory.patches_mb,
        spare_mb=memory.spare_mb,
        progress=progress,
        label="second moments",
    )
    for name, array in stream:
        for node in readers[name]:
            found[node].update(patches_of(node, array))
    for node in nodes:
        yield node, found.pop(node).statistics()


def source_of(node: ir.Node) -> str:
    """Name of the tensor that a node's patches are taken from."""
    source = node.inputs[0]
    assert source is not None
    return str(source.name)


def patch_size(node: ir.Node) -> tuple[int, int]:
    """Groups, and elements of a patch of one group; 0 elements for what is not supported."""
    weight = constant(node.inputs[1])
    if weight is None:
        return 1, 0
    if node.op_type == "Conv":
        if weight.ndim != 4 or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return 1, 0
        return node.attributes.get_int("group", 1), int(np.prod(weight.shape[1:]))
    if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1:
        return 1, weight.shape[1]
    return 1, weight.shape[0] if weight.ndim == 2 else 0


def patches_of(node: ir.Node, array: np.ndarray) -> np.ndarray:
    """[groups, K, positions] of one sample (or batch)."""
    values = np.asarray(array, np.float32)
    if node.op_type != "Conv":
        rows = values.reshape(-1, values.shape[-1])
        return _spread(rows, POSITIONS).T[None]
    weight = constant(node.inputs[1])
    assert weight is not None
    high, wide = weight.shape[2:]
    attributes = node.attributes
    pads = list(attributes.get_ints("pads", (0, 0, 0, 0)))
    strides, dilations = list(attributes.get_ints("strides", (1, 1))), list(attributes.get_ints("dilations", (1, 1)))
    padded = values if not any(pads) else np.pad(values, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    rows = (padded.shape[2] - dilations[0] * (high - 1) - 1) // strides[0] + 1
    columns = (padded.shape[3] - dilations[1] * (wide - 1) - 1) // strides[1] + 1
    spots = _spread(np.arange(len(padded) * rows * columns), POSITIONS)
    sample, y, x = spots // (rows * columns), spots // columns % rows * strides[0], spots % columns * strides[1]
    taps = [
        padded[sample, :, y + row * dilations[0], x + column * dilations[1]]
        for row in range(high)
        for column in range(wide)
    ]
    groups = attributes.get_int("group", 1)
    found = taps[0] if len(taps) == 1 else np.stack(taps, axis=-1)  # [positions, channels, taps]
    return np.ascontiguousarray(found.reshape(len(spots), groups, -1).transpose(1, 2, 0))


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` rows, evenly spread, in a stride that does not run along a column of the picture."""
    return rows if len(rows) <= count else rows[np.arange(count) * len(rows) // count]
