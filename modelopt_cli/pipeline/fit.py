"""The file of a result: no larger than its source for what no runtime needs, the stamp and types of inner tensors."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from modelopt_cli.graph.serialize import Serialized, serialize
from modelopt_cli.pipeline.provenance import FIELDS

GROWN_SHARE = 100  # a file that is larger anyway keeps its stamp where that is no more than a hundredth of the source


def fitted(model: ir.Model, largest: int) -> tuple[Serialized, tuple[str, ...]]:
    """The serialized model, without what would make it larger than its source as far as that is to be had.

    Types of inner tensors go first, which every runtime infers, and then the stamp from its end on.

    Args:
        model: With the stamp, of which it loses what is left out.
        largest: Bytes of the source's file.

    Returns:
        The file, and the fields of the stamp left out, without ``modelopt.``.
    """
    whole = serialize(model)
    if whole.size <= largest:
        return whole, ()
    bare = whole.size - sum(_stamp_sizes(model))
    types = whole.size - serialize(model, types=False).size if bare > largest else 0
    if bare - types > largest:
        types = 0  # they would be missed, and not help
    left_out = _shorten_stamp(model, bare - types, largest)
    return serialize(model, types=not types), left_out


def _shorten_stamp(model: ir.Model, bare: int, largest: int) -> tuple[str, ...]:
    sizes = _stamp_sizes(model)
    room = largest - bare if bare <= largest else largest // GROWN_SHARE
    kept = max(count for count in range(len(FIELDS) + 1) if sum(sizes[:count]) <= room)
    for name in FIELDS[kept:]:
        del model.metadata_props[f"modelopt.{name}"]
    return FIELDS[kept:]


def _stamp_sizes(model: ir.Model) -> list[int]:
    return [_entry_bytes(f"modelopt.{name}", model.metadata_props[f"modelopt.{name}"]) for name in FIELDS]


def _entry_bytes(key: str, value: str) -> int:
    """What a line of metadata takes in a file."""
    holder = onnx.ModelProto()
    holder.metadata_props.add(key=key, value=value)
    return int(holder.ByteSize())
