"""Runs under onnxruntime's profiler, as one record for each node that ran."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelopt_cli.profiling.session import Model, Optimize, open_session, run

_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class NodeRun:
    """One run of one node of the optimized graph.

    Attributes:
        name: The node's name there; fused nodes carry names that the runtime made up.
        op_type: Operator, without its domain.
        provider: The runtime's name of the provider that ran it.
        ms: Milliseconds.
        inputs: Shapes of the inputs that are tensors and are there; packed weights are not.
        outputs: Shapes of the outputs.
        turn: Which run of the model it belongs to, from 0.
        start_ms: Since the profiler began.
        types: Element types of the outputs, as the runtime calls them (``float``, ``int64``).
        data_bytes: Bytes of activations read and written; weights are left out, because packed ones are not told.
    """

    name: str
    op_type: str
    provider: str
    ms: float
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    turn: int
    start_ms: float = 0.0
    types: tuple[str, ...] = ()
    data_bytes: int = 0


def trace(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    *,
    provider: str = "cpu",
    threads: int = 1,
    runs: int = 1,
    optimize: Optimize = "all",
    config: Mapping[str, str] | None = None,
    optimized_path: Path | None = None,
) -> list[NodeRun]:
    """Every node that ran, in order, over ``runs`` runs of the model.

    Args:
        model: See `open_session`, as for the other arguments but ``runs``.
        feeds: One batch of inputs by name.
        provider: Where to run it.
        threads: Threads inside an operator.
        runs: How often.
        optimize: How much the runtime may rewrite the graph.
        config: Session configuration entries.
        optimized_path: Where the runtime writes the graph that it ran.

    Raises:
        ModelError: The runtime cannot load or run the model.
        ProviderError: The provider is not available.
    """
    with tempfile.TemporaryDirectory(prefix="modelopt-") as folder:
        session = open_session(
            model,
            provider=provider,
            threads=threads,
            optimize=optimize,
            config=config,
            optimized_path=optimized_path,
            profile_prefix=Path(folder) / "trace",
        )
        for _ in range(runs):
            run(session, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _node_runs(events)


def _node_runs(events: list[dict[str, Any]]) -> list[NodeRun]:
    starts = sorted(e["ts"] for e in events if e.get("cat") == "Session" and e.get("name") == "model_run")
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_SUFFIX)]
    nodes.sort(key=lambda event: event["ts"])
    turns = np.searchsorted(starts, [event["ts"] for event in nodes], side="right") - 1
    return [
        NodeRun(
            name=event["name"].removesuffix(_SUFFIX),
            op_type=event["args"]["op_name"],
            provider=event["args"].get("provider", ""),
            ms=event["dur"] / 1e3,
            inputs=_shapes(event["args"].get("input_type_shape", [])),
            outputs=_shapes(event["args"].get("output_type_shape", [])),
            turn=int(turn),
            start_ms=event["ts"] / 1e3,
            types=tuple(kind for entry in event["args"].get("output_type_shape", []) for kind in entry),
            data_bytes=sum(int(event["args"].get(key) or 0) for key in ("activation_size", "output_size")),
        )
        for event, turn in zip(nodes, turns, strict=True)
    ]


def _shapes(entries: list[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(shape) for entry in entries for shape in entry.values())
