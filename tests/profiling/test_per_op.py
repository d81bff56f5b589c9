from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.profiling.per_op import OpTime, by_type, profile_ops
from modelopt_cli.profiling.trace import trace
from modelopt_cli.testing import model_from_text

MODEL = model_from_text(
    "g (float[256,256] x) => (float[256,256] y) { a = MatMul(x, w) b = MatMul(a, w) y = Relu(b) }",
    w=np.eye(256, dtype=np.float32),
)
X = {"x": np.ones((256, 256), np.float32)}


def test_each_node_once_slowest_first() -> None:
    times = profile_ops(MODEL, X, runs=3)
    assert sorted(op.op_type for op in times) == ["MatMul", "MatMul", "Relu"]
    assert [op.ms for op in times] == sorted((op.ms for op in times), reverse=True)
    assert {op.provider for op in times} == {"CPUExecutionProvider"}


def test_types_sum_their_nodes() -> None:
    times = [OpTime("a", "Conv", "p", 2.0), OpTime("b", "Conv", "p", 3.0), OpTime("c", "Relu", "p", 9.0)]
    assert by_type(times) == [OpTime("", "Relu", "p", 9.0, 1), OpTime("", "Conv", "p", 5.0, 2)]


def test_no_runs_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot profile 0 runs"):
        profile_ops(MODEL, X, runs=0)


def test_a_trace_has_shapes_and_the_turn_of_each_run() -> None:
    ran = trace(MODEL, X, runs=2, config={"session.disable_prepacking": "1"})
    assert [node.turn for node in ran] == [0, 0, 0, 1, 1, 1]
    assert ran[0].inputs == ((256, 256), (256, 256))
    assert ran[0].outputs == ((256, 256),)
