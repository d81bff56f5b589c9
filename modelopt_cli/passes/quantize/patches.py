"""What each filter of a Conv, Gemm or MatMul is multiplied with: mean and covariance of its input patches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.memory import COPIES, WorkingMemory
from modelopt_cli.calibration.probe import BYTES_PER_VALUE, probe_in_groups, tensor_sizes
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import constant
from modelopt_cli.progress import Progress

POSITIONS = 96  # patches per sample and node, spread over the picture: neighbours say the same
PATCHES_AT_ONCE = 4 * POSITIONS  # one sample's alone: reading and writing the K x K moment would take its time too
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
    """Statistics of each node's input patches, in batches whose moments and inputs stay within the memory together.

    The first layers of a network have large inputs and small moments, the last ones the reverse: one bound for both
    takes half of the passes that a bound for each took.

    Args:
        model: The float model.
        nodes: Conv (two-dimensional), Gemm and MatMul of its main graph with constant weights; others are left out.
        dataset: Samples; gone through once per batch.
        progress: Where to say how far it is.
        memory: What may be held.
    """
    memory = memory or WorkingMemory()
    nodes = [node for node in nodes if not _is_left_out(node)]
    if nodes:
        sizes = tensor_sizes(model, list(dict.fromkeys(map(source_of, nodes))), dataset)
        for batch in _batches(nodes, sizes, memory.patches_mb * 2**20):
            yield from _collect(model, batch, dataset, progress, memory, sizes)


def _batches(nodes: Sequence[ir.Node], sizes: Mapping[str, float], limit: float) -> Iterator[list[ir.Node]]:
    """Nodes in order, as many at a time as ``limit`` bytes hold; one at least."""
    batch: list[ir.Node] = []
    sources: dict[str, float] = {}
    moments = 0.0
    for node in nodes:
        source, moment = source_of(node), _moment_bytes(node)
        inputs = COPIES * sum((sources | {source: sizes[source]}).values())
        if batch and moments + moment + inputs > limit:
            yield batch
            batch, sources, moments = [], {}, 0.0
        batch.append(node)
        sources[source] = sizes[source]
        moments += moment
    if batch:
        yield batch


def rounding_bytes(nodes: Iterable[ir.Node], memory: WorkingMemory) -> tuple[int, int]:
    """Bytes that second-order rounding takes, about: for moments, and for the matrices of the largest patch.

    Those are six, or three in twice the width: the covariance, its factor, and the copy that LAPACK works on.

    Args:
        nodes: Of a float model.
        memory: What moments may take.
    """
    found = _products(nodes)
    held = min(sum(map(_moment_bytes, found)), round(memory.patches_mb * 2**20))
    return held, 6 * largest_moment_bytes(found)


def largest_moment_bytes(nodes: Iterable[ir.Node]) -> int:
    """Bytes of the largest second moment of a product's patches, in float32."""
    return max((groups * size**2 * BYTES_PER_VALUE for groups, size in map(patch_size, _products(nodes))), default=0)


def _products(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    return [node for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul") and not _is_left_out(node)]


def _is_left_out(node: ir.Node) -> bool:
    return not 0 < patch_size(node)[1] <= LARGEST_PATCH


def _moment_bytes(node: ir.Node) -> int:
    """What an accumulator holds: the moment, and the patches that wait for it."""
    groups, size = patch_size(node)
    return groups * size * (size + (PATCHES_AT_ONCE if size >= LARGE_PATCH else 0)) * BYTES_PER_VALUE


def _collect(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    dataset: Dataset,
    progress: Progress,
    memory: WorkingMemory,
    sizes: Mapping[str, float],
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
        max_memory_mb=math.inf,
        spare_mb=memory.spare_mb,
        progress=progress,
        label="second moments",
        sizes=sizes,
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
