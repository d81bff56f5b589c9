"""Conditions, throughput, peaks and placement: what is said of given counters; never how fast this machine is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.profiling.conditions import Conditions, Snapshot, between, findings, snapshot
from modelopt_cli.profiling.placement import _fallbacks, _shares
from modelopt_cli.profiling.roofline import Peak, measure_peak, node_operations
from modelopt_cli.profiling.session import AssignedNode
from modelopt_cli.profiling.statistics import Latency
from modelopt_cli.profiling.throughput import measure_throughput
from modelopt_cli.profiling.timing import Budget, Setting, measure
from modelopt_cli.profiling.trace import NodeRun
from modelopt_cli.testing import model_from_text

QUIET = Conditions((0, 1), 0.0, 0.0, 0.0, 0, 1.0, None)
EVEN = Latency(1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 100)
MODEL = model_from_text("g (float[b,8] x) => (float[b,8] y) { y = MatMul(x, w) }", w=np.eye(8, dtype=np.float32))
X = {"x": np.ones((2, 8), np.float32)}


def codes(conditions: Conditions, latency: Latency = EVEN, slowdown: float = 0.0) -> list[str]:
    return [finding.code for finding in findings(conditions, [latency], slowdown)]


def test_a_quiet_machine_has_no_findings() -> None:
    assert codes(QUIET) == []
    assert codes(replace(QUIET, others=None, steal=None, throttled=None, thermal=None)) == []


def test_each_disturbance_has_its_finding() -> None:
    assert codes(replace(QUIET, steal=0.05)) == ["steal"]
    assert codes(replace(QUIET, others=0.3)) == ["busy-machine"]
    assert codes(replace(QUIET, throttled=0.2)) == ["quota"]
    assert codes(replace(QUIET, thermal=3), slowdown=0.1) == ["thermal"]
    assert codes(QUIET, slowdown=0.1) == ["slowdown"]
    assert codes(replace(QUIET, others=0.3), slowdown=0.1) == ["busy-machine"]
    assert codes(QUIET, replace(EVEN, outliers=0.1)) == ["outliers"]
    assert codes(replace(QUIET, governor="powersave")) == ["governor"]


def test_shares_between_two_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    before = Snapshot(10.0, 1.0, (100, 10, 1000), 0.5, 3, {"p": (90.0, 100.0)})
    after = Snapshot(12.0, 3.0, (400, 50, 1400), 0.9, 5, {"p": (20.0, 100.0)})
    found = between(before, after)
    assert found.steal == pytest.approx(40 / 400)
    assert found.others == pytest.approx(300 / 400 - 2 / 4)
    assert found.throttled == pytest.approx(0.2)
    assert (found.thermal, found.cpu_use) == (2, 1.0)
    assert found.joules == pytest.approx(30.0)  # the counter went round
    nothing = replace(before, ticks=None, throttled_s=None, thermal=None, joules={})
    unknown = between(nothing, after)
    assert (unknown.steal, unknown.throttled, unknown.thermal, unknown.joules) == (None, None, None, None)


def test_this_machine_can_be_asked() -> None:
    first = snapshot()
    sum(range(10_000))
    found = between(first, snapshot())
    assert found.cpus
    assert found.cpu_use >= 0


def test_streams_share_one_session() -> None:
    found = measure_throughput(MODEL, X, streams=3, seconds=0.05)
    assert (found.streams, found.runs_per_s > 0) == (3, True)
    with pytest.raises(UsageError, match="cannot measure 0 streams"):
        measure_throughput(MODEL, X, streams=0)


def test_a_number_of_runs_and_a_width_are_kept() -> None:
    counted = measure([MODEL], X, Setting(threads=2), Budget(runs=500, rebuilds=2))  # no run is left out
    assert counted.latencies[0].runs >= 500
    latency = counted.latencies[0]
    assert latency.low_ms is not None
    assert latency.high_ms is not None
    assert latency.low_ms < latency.median_ms < latency.high_ms
    limited = measure([MODEL, MODEL], X, budget=Budget(0.02, rebuilds=2, until=1e-6, limit_s=0.6))
    assert limited.rebuilds > 2  # it went on, and gave up


def test_bound_inputs_are_timed_too() -> None:
    found = measure([MODEL, MODEL], X, Setting(bound=True), Budget(0.05, rebuilds=2))
    assert found.latencies[0].median_ms > 0


def test_a_session_setting_is_passed_on() -> None:
    session = Setting(config={"session.disable_prepacking": "1"}).open(model_bytes(MODEL))
    assert session.get_session_options().get_session_config_entry("session.disable_prepacking") == "1"


def test_the_roofline_is_the_lower_of_two_roofs() -> None:
    peak = Peak(float_ops=100e9, integer_ops=400e9, bytes=10e9)
    assert peak.share(100e6, 1e6, 1.0, integer=False) == pytest.approx(1.0)  # bound by arithmetic
    assert peak.share(100e6, 1e6, 1.0, integer=True) == pytest.approx(0.25)
    assert peak.share(1e6, 5e6, 1.0, integer=False) == pytest.approx(0.5)  # bound by memory
    assert peak.share(0, 0, 1.0, integer=False) is None
    measured = measure_peak()
    assert min(measured.float_ops, measured.integer_ops, measured.bytes) > 1e6


def test_operations_of_a_node() -> None:
    def node(op_type: str, *shapes: tuple[int, ...]) -> NodeRun:
        return NodeRun("n", op_type, "cpu", 1.0, shapes[:-1], shapes[-1:], 0)

    assert node_operations(node("MatMul", (2, 3), (3, 4), (2, 4))) == 2 * 2 * 3 * 4
    assert node_operations(node("Relu", (2, 3), (2, 3))) == 6
    assert node_operations(node("Transpose", (2, 3), (3, 2))) == 0


def test_what_fell_back_and_why() -> None:
    nodes = [AssignedNode(f"c{n}", "Conv", "Gpu") for n in range(3)]
    nodes += [AssignedNode("c3", "Conv", "Cpu"), AssignedNode("k", "TopK", "Cpu"), AssignedNode("s", "Shape", "Cpu")]
    ran = [NodeRun(n.name, n.op_type, n.provider, 1.0, (), ((4,),), 0, 0.0, ("float",)) for n in nodes[:-1]]
    ran.append(NodeRun("s", "Shape", "Cpu", 0.0, (), ((4,),), 0, 0.0, ("int64",)))
    first, second = _fallbacks("Gpu", nodes, ran)
    assert (first.op_type, first.count, second.op_type) == ("Conv", 1, "TopK")
    assert "took other Conv nodes" in first.reason
    assert "took no TopK at all" in second.reason
    shares = _shares(nodes, ran)
    assert [(each.provider, each.nodes) for each in shares] == [("Gpu", 3), ("Cpu", 3)]
    assert shares[0].time_share == pytest.approx(0.6)
