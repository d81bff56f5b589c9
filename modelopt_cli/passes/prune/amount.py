"""How many zeros a budget in parameters or in bytes comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import onnx_ir as ir

from modelopt_cli.errors import UsageError
from modelopt_cli.format import format_bytes
from modelopt_cli.graph.io import weight_bytes
from modelopt_cli.graph.serialize import serialize
from modelopt_cli.passes.prune.distribution import MOST
from modelopt_cli.passes.prune.pack_sparse import DECODER_BYTES, OVERHEAD_BYTES
from modelopt_cli.passes.prune.unpack import BITS
from modelopt_cli.passes.prune.weights import Weight

SHARED_BYTES = 2 * DECODER_BYTES  # of values that are packed, and of scales
ONE_MESSAGE = 1 << 30  # bytes: a larger model is not put into one message only to be counted


def share_for_parameters(weights: Sequence[Weight], parameters: int) -> float:
    """The share of zeros that leaves so many weights.

    Raises:
        UsageError: There are no more than that.
    """
    total = sum(weight.array().size for weight in weights)
    if parameters >= total:
        raise UsageError(f"parameters: {parameters} is not below the {total} prunable weights", where="prune")
    return 1 - parameters / total


def share_for_bytes(model: ir.Model, weights: Sequence[Weight], size: int, values: Literal["keep", "int8"]) -> float:
    """The share of zeros after which `pack-sparse` writes a file of so many bytes.

    Of a packed weight stay one bit for each number, and the numbers that are not zero; everything else stays.

    Args:
        model: The model that the weights belong to.
        weights: What may be pruned.
        size: Bytes of the file.
        values: How values are stored.

    Raises:
        UsageError: The file is no larger anyway, or cannot be made so small.
    """
    arrays = [weight.array() for weight in weights]
    whole = weight_bytes(model)
    whole = serialize(model).size if whole < ONE_MESSAGE else whole
    per_number = [1 if values == "int8" else array.itemsize for array in arrays]
    rest = whole - sum(array.nbytes for array in arrays)
    scales = sum(max(array.shape) for array in arrays) if values == "int8" else 0
    fixed = rest + SHARED_BYTES + scales + sum(array.size // BITS + OVERHEAD_BYTES for array in arrays)
    numbers = sum(array.size * each for array, each in zip(arrays, per_number, strict=True))
    share = 1 - (size - fixed) / max(numbers, 1)
    if size >= whole or share <= 0:
        raise UsageError(f"bytes: {format_bytes(size)} needs no zeros", where="prune", hint="leave the pass out")
    if share > MOST:
        least = format_bytes(fixed + round((1 - MOST) * numbers))
        raise UsageError(
            f"bytes: {format_bytes(size)} is less than zeros can save",
            where="prune",
            hint=f"at least {least}; prune-channels makes the rest smaller, packed: int8 the values",
        )
    return share
