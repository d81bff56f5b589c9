"""Timing.

Whether latency figures can be trusted: a model against itself, a model against a copy that does about 5 % more work
(its true ratio is measured by a run of its own, ten times as long), and medians against a bare timing loop. Goals:
"no significant difference" in at least 95 of 100, significant in at least 9 of 10, within 2 %; `modelopt profile` of a
sample model at its default budget under 5 s.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from benchmarks.table import SAMPLES, modelopt, table
from modelopt_cli.cli.profile import SECONDS
from modelopt_cli.profiling.session import open_session
from modelopt_cli.profiling.timing import Budget, measure

SAME = int(os.environ.get("MODELOPT_BENCH_SAME", "100"))
SLOWER = int(os.environ.get("MODELOPT_BENCH_SLOWER", "10"))
SLOWDOWN = 0.05
LAYERS, WIDTH = 40, 192
BARE_ROUNDS, BARE_SECONDS = 60, 0.15
MODEL = SAMPLES / "digits_resnet" / "model.onnx"
FEEDS = {"image": np.random.default_rng(0).random((1, 1, 28, 28), np.float32)}


def run() -> str:
    started = os.getloadavg()[0]
    rows = [_same(), *_slower(), _bare(), *_command()]
    load = f"Load average {started:.1f} before and {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} CPUs."
    return table(("check", "result:", "goal:"), rows) + f"\n\n{load}"


def _same() -> tuple[str, str, str]:
    even = 0
    for _ in range(SAME):
        compared = measure([MODEL, MODEL], FEEDS, budget=Budget(SECONDS)).comparisons[0]
        even += not compared.significant
    return f"digits_resnet against itself: no difference, of {SAME}", str(even), f"{round(0.95 * SAME)}"


def _slower() -> Iterator[tuple[str, str, str]]:
    """A chain of equal products against one with 5 % more of them."""
    extra = round(LAYERS * SLOWDOWN)
    models = [_chain(LAYERS), _chain(LAYERS + extra)]
    feeds = {"x": np.ones((32, WIDTH), np.float32)}
    truth = measure(models, feeds, budget=Budget(10 * SECONDS)).comparisons[0]
    yield "slower copy, by the long run", f"{truth.ratio:.3f}", f"{1 + SLOWDOWN:.2f}"
    found = [measure(models, feeds, budget=Budget(SECONDS)).comparisons[0] for _ in range(SLOWER)]
    hits = sum(each.ratio_low > 1 for each in found)
    yield f"found slower, of {SLOWER}", str(hits), f"{round(0.9 * SLOWER)}"
    holds = sum(each.ratio_low <= truth.ratio <= each.ratio_high for each in found)
    yield f"intervals that hold the long run's ratio, of {SLOWER}", str(holds), ""


def _bare() -> tuple[str, str, str]:
    """Short measurements between short loops: the machine's moods last for seconds."""
    ratios = []
    for _ in range(BARE_ROUNDS):
        before = _loop()
        measured = measure([MODEL], FEEDS, budget=Budget(2 * BARE_SECONDS, rebuilds=2)).latencies[0].median_ms
        ratios.append(measured / ((before + _loop()) / 2))
    return f"median against a bare loop, median of {BARE_ROUNDS}", f"{statistics.median(ratios):.3f}", "0.98-1.02"


def _loop() -> float:
    session = open_session(MODEL)
    times = []
    end = time.perf_counter() + BARE_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, FEEDS)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def _command() -> Iterator[tuple[str, str, str]]:
    """Wall time of the command, and the processor time of all in it but the timing: what an idle machine adds."""
    seconds = statistics.median(_profile() for _ in range(3))
    yield "`modelopt profile` of digits_resnet, s", f"{seconds:.1f}", "5"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _profile("--duration", "0.05")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield f"the same: {SECONDS:g} s of timing, and processor time of the rest, s", f"{SECONDS + spent:.1f}", "5"


def _profile(*more: str) -> float:
    done = modelopt("profile", MODEL, "--quiet", *more)
    if done.code != 0:
        raise RuntimeError(f"modelopt profile ended with {done.code}")
    return done.seconds


def _chain(length: int) -> ir.Model:
    weight = ir.tensor(np.eye(WIDTH, dtype=np.float32), name="w")
    w = ir.Value(name="w", type=ir.TensorType(weight.dtype), shape=weight.shape, const_value=weight)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", WIDTH]))
    nodes, value = [], x
    for index in range(length):
        node = ir.node("MatMul", [value, w], name=f"product_{index}")
        value = node.outputs[0]
        value.name = f"y_{index}"
        nodes.append(node)
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", WIDTH])
    graph = ir.Graph([x], [value], nodes=nodes, initializers=[w], opset_imports={"": 17}, name="chain")
    return ir.Model(graph, ir_version=8)
