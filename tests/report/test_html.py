from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from html_page import Page, find
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_examples import inside, latency

from modelopt_cli.format import format_ms, format_percent
from modelopt_cli.report.html import to_html
from modelopt_cli.report.html_details import MOST_ROWS
from modelopt_cli.report.html_facts import Facts, value_text
from modelopt_cli.report.model import Gate, Notice, RunReport, SkipReport, StepReport
from modelopt_cli.report.serialize import to_json
from modelopt_cli.report.usage import Usage

LAYERS = [
    {"layer": f"/conv{index}/Conv", "sparsity": index / 7, "output_error": 1e-4 * index**2} for index in range(1, 6)
]


@pytest.fixture
def pruned(report: RunReport) -> RunReport:
    """A report whose pass tells of layers, and of things with odd names."""
    curves = {"level": "share of zeros", "rows": [{"name": "/conv1", "levels": [0.5, 0.9], "errors": [0.001, 0.2]}]}
    costs = [
        {"group": "/a/Conv", "ops": ["Conv"], "way": "static", "float_ms": 0.02, "result_ms": 0.01, "alone_db": 31.5},
        {
            "group": "/b/Conv",
            "ops": ["Conv", "Add"],
            "way": "static",
            "float_ms": 0.02,
            "result_ms": None,
            "alone_db": None,
        },
        {"group": "/c/Conv", "ops": ["Conv"], "way": "static", "float_ms": 0.02, "result_ms": 0.01, "alone_db": 12.25},
        {"group": "/d/Mul", "ops": ["Mul"], "way": "float", "float_ms": 0.02, "result_ms": 0.02, "alone_db": None},
    ]
    details = {
        "sensitivity": curves,
        "costs": costs,
        "groups": {"/conv2": [64, 48]},
        "weights": 5,
        "layers": LAYERS,
        "plan": {"float_nodes": ["a/b~c"], "limit": None},
        "ops": {"Conv/x": 3},
    }
    step = StepReport("prune", {"sparsity": 0.5}, 5, (), 1.5, 98, 98, details)
    return inside(replace(report, steps=(*report.steps, step)))


def test_each_number_equals_that_of_the_json(pruned: RunReport) -> None:
    content, page = json.loads(to_json(pruned)), Page(to_html(pruned))
    assert page.open == []
    assert len(page.facts) > 80
    for pointer, value, _ in page.facts:
        assert json.loads(value) == find(content, pointer), pointer


def test_every_figure_of_the_report_is_on_the_page(pruned: RunReport) -> None:
    shown = {pointer for pointer, _, _ in Page(to_html(pruned)).facts}
    wanted = {"/verdict", "/result/file_bytes", "/result/weight_bytes_by_dtype/float32", "/latency/0/ratio_high"}
    wanted |= {"/fidelity/accuracy/result", "/fidelity/agreement/0/sqnr_db", "/audit/integer_mac_share"}
    wanted |= {"/gates/0/value", "/steps/0/skipped/0/count", "/latency/0/result/p99_ms", "/environment/cpus"}
    wanted |= {f"/steps/2/details/layers/{row}/{name}" for row in range(5) for name in ("sparsity", "output_error")}
    wanted |= {"/steps/2/details/sensitivity/rows/0/errors/1", "/steps/2/details/groups/~1conv2/1"}
    wanted |= {"/layers/0/sparsity", "/layers/0/sqnr_db", "/kernels/types/0/original_ms", "/kernels/graph/2/ms"}
    wanted |= {"/kernels/sections/0/baseline_ms"}
    wanted |= {"/steps/2/details/ops/Conv~1x", "/steps/2/details/plan/float_nodes/0"}
    assert wanted <= shown


def test_groups_stand_worst_first_and_those_in_float_are_left_out(pruned: RunReport) -> None:
    shown = [pointer for pointer, _, _ in Page(to_html(pruned)).facts if "/costs/" in pointer]
    assert [each.split("/")[5] for each in shown if each.endswith("/group")] == ["2", "0", "1"]
    assert "/steps/2/details/costs/2/alone_db" in shown and "/steps/2/details/costs/1/ops/1" in shown


def test_the_text_is_made_of_the_value(report: RunReport) -> None:
    texts = {pointer: text for pointer, _, text in Page(to_html(report)).facts}
    assert texts["/latency/0/ratio"] == "0.480"
    assert texts["/latency/0/result/median_ms"] == format_ms(4.8)
    assert texts["/audit/integer_mac_share"] == format_percent(0.9712)


def test_the_verdict_is_the_first_thing_said(report: RunReport) -> None:
    page = Page(to_html(report))
    words = [text for text in page.texts if text.strip() and "✓" not in text]
    assert words[1] == "2.1x faster, 3.4x smaller, top-1 76.0 -> 75.9 %: within budget"  # after the page's title


def test_a_missed_gate_and_notices_are_said_in_words(report: RunReport) -> None:
    missed = replace(report, gates=(Gate("min_speedup", 3.0, 2.08, False, "on cpu"),))
    text = " ".join(Page(to_html(missed)).texts)
    assert "✗ MISSED" in text
    assert "✗ requirement missed" in text
    assert "opset raised from 11 to 13 (needed for per-channel weights)" in text
    assert "MISSED" not in " ".join(Page(to_html(report)).texts)


def test_what_was_not_measured_is_not_made_up(report: RunReport) -> None:
    bare = replace(report, latency=(), fidelity=None, audit=None, gates=(), notices=(), steps=(), output=None)
    page = Page(to_html(bare))
    assert not [pointer for pointer, _, _ in page.facts if pointer.startswith(("/latency", "/fidelity", "/audit"))]
    text = " ".join(page.texts)
    assert "Not measured: no data was given." in text
    assert "Requirements" not in text
    assert "within budget" not in text


def test_how_to_run_the_result_is_said(report: RunReport) -> None:
    usage = Usage({"x": ("float32", (1, 3, 224, 224))}, "cpu", "1.15")
    text = " ".join(Page(to_html(replace(report, usage=usage))).texts)
    assert "session = ort.InferenceSession('net.int8.onnx', providers=['CPUExecutionProvider'])" in text


def test_several_providers_have_a_plot_each(report: RunReport) -> None:
    two = replace(report, latency=(latency(0.5), latency(0.9, provider="cuda")))
    text = to_html(two)
    assert "Latency on cuda" in text
    assert text.count('class="dot"') == 2


def test_nothing_is_requested_from_elsewhere(pruned: RunReport) -> None:
    text = to_html(pruned)
    page = Page(text)
    assert len(text.encode()) < 1_000_000
    assert not {"script", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "xlink:href")]
    assert links == ["data:,"]
    assert not re.search(r"@import|url\(|https?:|//\w", text.replace("<!DOCTYPE", ""))
    assert "default-src 'none'" in text


def test_a_report_of_many_layers_stays_small(report: RunReport) -> None:
    layers = [{"layer": f"/block{index}/Conv", "sparsity": 0.5} for index in range(100_000)]
    step = StepReport("prune", {}, 5, (), 1.5, 98, 98, {"layers": layers, "names": [f"n{i}" for i in range(50_000)]})
    text = to_html(replace(report, steps=(step,)))
    assert len(text) < 200_000
    assert f"and {100_000 - MOST_ROWS:,} more" in text


# The fixture is frozen: examples may share it.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(min_size=1, max_size=30)
    | st.sampled_from(["<script>alert(1)</script>", '"><img src=x>', "a & b", "</style>"])
)
def test_names_of_a_model_stay_text(report: RunReport, name: str) -> None:
    def base(name: str) -> RunReport:
        skip = SkipReport(name, 2, (name,))
        step = StepReport(
            name, {"k" + name: name}, 1, (skip,), 0.1, 1, 1, {"a": {f"x{name}.": 1.5}, "b": [{f"{name}.": 2}]}
        )
        assert report.fidelity is not None
        outputs = (replace(report.fidelity.agreement[0], output=name),)
        sizes = replace(report.result, weight_bytes_by_dtype={"d" + name: 5}, ops={"o" + name: 2})
        fidelity = replace(report.fidelity, source=name, agreement=outputs)
        gates, notices = (Gate(name, 1, 1, True, name),), (Notice(name, name, name),)
        recipe, environment = {"name": name}, {"e" + name: name}
        changed = replace(report, model="m" + name, recipe=recipe, steps=(step,), result=sizes, fidelity=fidelity)
        return replace(changed, gates=gates, notices=notices, environment=environment)

    tame, wild = Page(to_html(base("name"))), Page(to_html(base(name)))
    assert [tag for tag, _ in wild.tags] == [tag for tag, _ in tame.tags]
    assert wild.open == []
    content = json.loads(to_json(base(name)))
    for pointer, value, _ in wild.facts:
        assert json.loads(value) == find(content, pointer)


def test_values_read_by_the_names_of_their_fields() -> None:
    cases = [("file_bytes", 1_500_000), ("sparsity", 0.5), ("load_seconds", 0.25), ("nodes", 12_345), ("x", 0.00012345)]
    expected = ["1.50 MB", "50.0 %", "0.25 s", "12,345", "0.0001234"]
    assert [value_text(name, value) for name, value in cases] == expected
    assert [value_text("x", value) for value in (None, True, "t")] == ["none", "yes", "t"]


def test_a_pointer_to_nothing_is_an_error() -> None:
    with pytest.raises(KeyError):
        Facts({"a": 1}).show("/b")
