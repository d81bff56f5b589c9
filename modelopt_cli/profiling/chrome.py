"""Node runs in the trace event format of Chrome: chrome://tracing and https://ui.perfetto.dev open it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from modelopt_cli.profiling.per_op import OpProfile


def chrome_trace(profiles: Mapping[str, OpProfile]) -> str:
    """One process for each model, one row for each provider, nodes under the names of the file.

    Args:
        profiles: By the model's label.
    """
    events: list[dict[str, object]] = []
    for process, (label, profile) in enumerate(profiles.items(), 1):
        events.append(_named("process_name", process, 0, label))
        files = {op.name: op.nodes for op in profile.times}
        rows = list(dict.fromkeys(run.provider for run in profile.runs))
        events += [_named("thread_name", process, row, name) for row, name in enumerate(rows, 1)]
        for run in profile.runs:
            nodes = files.get(run.name, ())
            events.append(
                {
                    "ph": "X",
                    "name": _short(nodes) or run.name,
                    "cat": run.op_type,
                    "pid": process,
                    "tid": 1 + rows.index(run.provider),
                    "ts": run.start_ms * 1e3,
                    "dur": run.ms * 1e3,
                    "args": {"op": run.op_type, "node": run.name, "stands for": list(nodes), "run": run.turn},
                }
            )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n"


def _named(kind: str, process: int, row: int, name: str) -> dict[str, object]:
    return {"ph": "M", "name": kind, "pid": process, "tid": row, "args": {"name": name}}


def _short(nodes: Sequence[str]) -> str:
    return nodes[0] + (f" +{len(nodes) - 1}" if len(nodes) > 1 else "") if nodes else ""
