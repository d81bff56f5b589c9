"""Models that other people's exporters wrote, and small ones of every odd kind that the format allows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.odd_graphs import ODD_GRAPHS
from benchmarks.odd_types import ODD_TYPES

WHEELS = Path(__file__).resolve().parent.parent / ".venv-foreign"  # `make foreign` fills it


@dataclass(frozen=True)
class Foreign:
    """One model.

    Attributes:
        name: What the table calls it.
        group: Where it comes from.
        content: Its file.
        feeds: Inputs it is known to run on, or empty.
        must_succeed: Whether a refusal is a failure.
    """

    name: str
    group: str
    content: bytes
    feeds: dict[str, np.ndarray] = field(default_factory=dict)
    must_succeed: bool = False


def wheel_models() -> Iterator[Foreign]:
    """What the wheels of silero-vad and magika ship; nothing when they are not there."""
    for path in sorted(WHEELS.glob("*/**/*.onnx")):
        yield Foreign(f"{path.relative_to(WHEELS).parts[0]}: {path.stem}", "wheels", path.read_bytes(), {}, True)


def backend_models(kind: str) -> Iterator[Foreign]:
    """The ONNX project's own tests: ``simple``, ``pytorch-converted``, ``pytorch-operator``, ``light`` or ``node``."""
    if kind == "node":
        yield from _node_cases()
        return
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / kind
    for path in sorted(folder.rglob("*.onnx")):
        model = onnx.load(path)
        name = path.stem if kind == "light" else path.parent.name
        yield Foreign(name, kind, path.read_bytes(), _stored_feeds(model, path.parent / "test_data_set_0"))


def odd_models() -> Iterator[Foreign]:
    """One small model for each odd thing that the format allows."""
    for build in (*ODD_TYPES, *ODD_GRAPHS):
        model = build()
        name = build.__name__.replace("_", " ").strip()
        yield Foreign(name, "odd", model.SerializeToString(), {})


def _node_cases() -> Iterator[Foreign]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        arrays = case.data_sets[0][0]
        names = [value.name for value in case.model.graph.input]
        feeds = dict(zip(names, arrays, strict=False))
        plain = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray | np.generic)}
        whole = len(plain) == len(names) and all(np.asarray(v).dtype.kind in "fiub" for v in plain.values())
        yield Foreign(
            case.name,
            "node",
            case.model.SerializeToString(),
            {name: np.asarray(value) for name, value in plain.items()} if whole else {},
        )


def _stored_feeds(model: onnx.ModelProto, folder: Path) -> dict[str, np.ndarray]:
    given = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]
    feeds = {}
    for index, value in enumerate(inputs):
        path = folder / f"input_{index}.pb"
        if not path.is_file() or not value.type.HasField("tensor_type"):
            return {}
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind not in "fiub":
            return {}
        feeds[value.name] = array
    return feeds
