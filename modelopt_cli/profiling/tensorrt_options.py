"""What TensorRT needs to be told: shape profiles, caches of engines, and that a model is quantized.

Option names are those of onnxruntime's TensorRT provider (docs, execution-providers/TensorRT-ExecutionProvider).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from modelopt_cli.cache import open_cache
from modelopt_cli.data.signature import Dim, signature
from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import all_nodes

PROFILES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
_HINT = "profile=NAME:1x16/1x64/1x256, smallest, usual and largest shape; several inputs with ; between them"
_QUANTIZES = b"QuantizeLinear"


def parse_profiles(text: str) -> dict[str, str]:
    """``ids:1x16/1x64/1x256;mask:...`` -> the three options of the provider.

    Raises:
        UsageError: Not of that form, other ranks, or a smallest size above the usual or the largest.
    """
    shapes: list[list[str]] = [[], [], []]
    for part in text.split(";"):
        name, _, sizes = part.rpartition(":")
        parsed = [_shape(size) for size in sizes.split("/")]
        if not name or len(parsed) != 3 or not all(parsed) or len({len(shape) for shape in parsed}) != 1:
            raise UsageError(f"'{part}' is no shape profile", where="--provider tensorrt", hint=_HINT)
        if any(not low <= usual <= high for low, usual, high in zip(*parsed, strict=True)):
            message = f"'{part}': a size is not between the smallest and the largest"
            raise UsageError(message, where="--provider tensorrt", hint=_HINT)
        for which, size in zip(shapes, sizes.split("/"), strict=True):
            which.append(f"{name}:{size}")
    return {option: ",".join(each) for option, each in zip(PROFILES, shapes, strict=True)}


def check_profiles(options: Mapping[str, str], model: ir.Model) -> None:
    """Hold shape profiles against the inputs of a model: TensorRT wants all of its dynamic ones, or none.

    Args:
        options: Of the provider.
        model: Its inputs are only looked at when there are profiles: texts, say, have none.

    Raises:
        UsageError: A dynamic input has no profile, or a profile is of no input or of another shape.
    """
    given = {name: _shape(size) for name, size in map(_named, filter(None, options.get(PROFILES[1], "").split(",")))}
    if not given:
        return
    dims = {spec.name: _sizes(spec.shape) for spec in signature(model)}
    dynamic = [name for name, sizes in dims.items() if sizes is None or None in sizes]
    for name in (*given, *dynamic):
        if name not in dims:
            raise UsageError(f"the model has no input '{name}'", where="profile", hint=f"it has {', '.join(dims)}")
        if name not in given:
            message = f"the dynamic input '{name}' has no shape profile, and TensorRT wants one for each"
            raise UsageError(message, where="profile", hint=_HINT)
        sizes = dims[name]
        if sizes is not None and not _fits(given[name], sizes):
            raise UsageError(f"input '{name}' takes {_text(sizes)}, not {_text(given[name])}", where="profile")


def tensorrt_defaults(options: Mapping[str, str], model: Path | bytes | ir.Model) -> dict[str, str]:
    """What is set where the user did not say: engines and timings are kept, and Q/DQ run as int8.

    Building an engine takes minutes, and sessions are built many times over to measure; Q/DQ nodes need the switch.
    """
    found = {"trt_int8_enable": "1"} if _is_quantized(model) else {}
    cache = open_cache()
    if cache.max_bytes:
        folder = str(cache.subfolder("tensorrt"))
        for kind in ("engine", "timing"):
            found |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": folder}
    return found | dict(options)


def _is_quantized(model: Path | bytes | ir.Model) -> bool:
    if isinstance(model, ir.Model):
        return any(node.op_type == _QUANTIZES.decode() for node in all_nodes(model))
    return _QUANTIZES in (model if isinstance(model, bytes) else model.read_bytes())  # a name that protobuf spells out


def _sizes(shape: Sequence[Dim] | None) -> list[int | None] | None:
    return None if shape is None else [dim if isinstance(dim, int) else None for dim in shape]


def _named(text: str) -> tuple[str, str]:
    name, _, sizes = text.rpartition(":")
    return name, sizes


def _shape(text: str) -> list[int]:
    parts = text.split("x")
    return [int(part) for part in parts] if all(part.isascii() and part.isdigit() for part in parts) else []


def _fits(shape: Sequence[int], sizes: Sequence[int | None]) -> bool:
    return len(shape) == len(sizes) and all(size in (None, own) for own, size in zip(shape, sizes, strict=True))


def _text(sizes: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)
