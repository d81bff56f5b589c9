"""Which products saturate on x64 without VNNI, where ``vpmaddubsw`` adds pairs of U8 x S8 products in 16 bits.

A sum beyond 32,767 is cut off there, silently. Weights of 7 bits never reach it, at the price of twice the rounding
error, in every layer; most layers never come near it with 8 bits either, which samples tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.calibration.probe import probe_in_groups
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.quantize.kinds import weight_axis
from modelopt_cli.passes.quantize.params import QuantParams
from modelopt_cli.passes.quantize.patches import patch_size, patches_of, source_of
from modelopt_cli.passes.quantize.second_order import as_rows
from modelopt_cli.passes.quantize.weights import quantize_weight
from modelopt_cli.progress import Progress

LARGEST_SUM = 2**15 - 1
MARGIN = 0.75  # of the largest sum: inputs that were not seen may go a little further
LARGEST_U8 = 255
SAMPLES = 8
PAIRS_AT_ONCE = 1 << 22  # sums held at a time


def find_saturating(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    grids: Mapping[str, QuantParams],
    dataset: Dataset,
    progress: Progress,
    memory: WorkingMemory | None = None,
) -> set[str]:
    """Names of the outputs of nodes whose 16-bit pair sums saturate, or nearly, with 8-bit weights.

    Args:
        model: The float model.
        nodes: Conv, Gemm and MatMul with constant weights.
        grids: Grid of each node's input, by tensor name.
        dataset: Samples; a few are looked at.
        progress: Where to say how far it is.
        memory: What may be held.
    """
    memory = memory or WorkingMemory()
    found = {str(node.outputs[0].name) for node in nodes if patch_size(node)[1] == 0}  # nobody can look: be safe
    seen = [node for node in nodes if str(node.outputs[0].name) not in found]
    weights = {node: rows for node in seen if (rows := _risky_rows(node)) is not None}
    readers: dict[str, list[ir.Node]] = {}
    for node in weights:
        readers.setdefault(source_of(node), []).append(node)
    stream = probe_in_groups(
        model,
        list(readers),
        dataset.take(SAMPLES),
        threads=1,
        max_memory_mb=memory.inputs_mb,
        spare_mb=memory.spare_mb,
        progress=progress,
        label="16-bit sums",
    )
    for name, array in stream:
        for node in readers[name]:
            output = str(node.outputs[0].name)
            if output not in found and largest_pair_sum(_steps(node, array, grids[name]), weights[node]) > _LIMIT:
                found.add(output)
    return found


def largest_pair_sum(inputs: np.ndarray, weights: np.ndarray) -> int:
    """The largest magnitude of a sum of two neighbouring products.

    Args:
        inputs: U8 steps, [positions, groups, K].
        weights: S8 steps, [groups, outputs, K], in the same order.
    """
    size = inputs.shape[2] // 2 * 2
    if size == 0:
        return 0
    even, odd = inputs[:, :, 0:size:2].astype(np.float32), inputs[:, :, 1:size:2].astype(np.float32)
    first, second = weights[:, :, 0:size:2].astype(np.float32), weights[:, :, 1:size:2].astype(np.float32)
    count = max(PAIRS_AT_ONCE // max(inputs.shape[0] * weights.shape[0] * weights.shape[1], 1), 1)
    largest = 0.0
    for start in range(0, size // 2, count):
        part = slice(start, start + count)
        sums = np.einsum("pgk,gok->pgok", even[:, :, part], first[:, :, part])
        sums += np.einsum("pgk,gok->pgok", odd[:, :, part], second[:, :, part])
        largest = max(largest, float(np.abs(sums).max()))
    return int(largest)


_LIMIT = int(MARGIN * LARGEST_SUM)


def _risky_rows(node: ir.Node) -> np.ndarray | None:
    """The weight in 8 bits as [groups, outputs, K], unless no input at all could saturate it.

    Depthwise Conv has a kernel of its own that adds in 32 bits.
    """
    array = constant(node.inputs[1])
    assert array is not None
    if node.op_type == "Conv" and array.shape[1] == 1:
        return None
    rows = as_rows(node, quantize_weight(array, axis=weight_axis(node)).values)
    rows = _channels_inside(rows.reshape(patch_size(node)[0], -1, rows.shape[1]), node)
    size = rows.shape[2] // 2 * 2
    wide = rows[:, :, :size].astype(np.int32)
    sums = [np.maximum(sign * wide, 0) for sign in (1, -1)]
    worst = max(int((each[:, :, 0::2] + each[:, :, 1::2]).max(initial=0)) for each in sums)
    return rows if worst * LARGEST_U8 > _LIMIT else None


def _steps(node: ir.Node, array: np.ndarray, grid: QuantParams) -> np.ndarray:
    """Patches of a sample as the kernel reads them, [positions, groups, K]."""
    found = _channels_inside(patches_of(node, array).transpose(2, 0, 1), node)
    return np.asarray(np.clip(np.rint(found / np.float32(grid.scale)) + grid.zero_point, grid.least, grid.most))


def _channels_inside(rows: np.ndarray, node: ir.Node) -> np.ndarray:
    """The last axis from channel by channel to position by position of the kernel: the runtime's order of patches."""
    weight = constant(node.inputs[1])
    if node.op_type != "Conv" or weight is None:
        return rows
    apart = rows.reshape(*rows.shape[:2], weight.shape[1], -1)
    return apart.transpose(0, 1, 3, 2).reshape(rows.shape)
