"""The report as one page that needs nothing else: no script, no font, no request; the verdict first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import PurePath

from modelopt_cli.format import format_seconds
from modelopt_cli.report.html_details import details_html, is_empty
from modelopt_cli.report.html_facts import Facts, folded, section, table
from modelopt_cli.report.html_figures import audit, cards, fidelity, latency, model, operators, size, trade
from modelopt_cli.report.html_inside import graph, layers, times
from modelopt_cli.report.model import Gate, RunReport, StepReport
from modelopt_cli.report.serialize import encode_json, report_content
from modelopt_cli.report.summary import summarize_report
from modelopt_cli.report.usage import python_snippet
from modelopt_cli.report.verdict import gate_value

# A browser that keeps to it cannot load anything, whatever names a model brings along.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def to_html(report: RunReport) -> str:
    """A self-contained page in HTML 5, light or dark as the reader's system is.

    Each number that stands in the JSON report carries its place there (``data-path``, a JSON pointer) and its
    unrounded value (``data-value``, JSON).
    """
    facts = Facts(report_content(report))
    title = f"{PurePath(report.model).name}: {report.recipe.get('name', 'recipe')}"
    return document(title, "".join(_body(report, facts)))


def document(title: str, body: str) -> str:
    """A page in the style of all reports.

    Args:
        title: Plain text.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_style()}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def _body(report: RunReport, facts: Facts) -> Iterator[str]:
    yield _header(report, facts)
    yield cards(report, facts)
    yield from (f'<p class="notice"><b>Note:</b> {escape(text)}</p>' for text in summarize_report(report).notices)
    yield section("Requirements", _gates(report, facts))
    plots = (latency, trade, size, times, fidelity, audit)
    drawn = "".join(plot(report, facts) for plot in plots)
    yield f'<div class="columns">{drawn}{section("Passes", _steps(report, facts))}</div>'
    yield layers(report, facts)
    yield graph(report, facts)
    yield from (_pass(report, facts, index) for index in range(len(report.steps)))
    yield f'<div class="columns">{model(report, facts)}{operators(report, facts)}</div>'
    if report.usage is not None:
        python = f"<pre>{escape(python_snippet(report.usage, report.output))}</pre>"
        yield section("How to run it", details_html(facts, "/usage"), python)
    yield section(
        "How it was made",
        details_html(facts, "/environment"),
        '<h4>sha256</h4><div class="mono">' + details_html(facts, "/hashes") + "</div>" if report.hashes else "",
        folded("recipe, with every default", f"<pre>{escape(encode_json(report.recipe))}</pre>"),
    )
    yield f"<footer>{escape(report.schema)}, {facts.show('/seconds', format_seconds)} in all</footer>"


def _header(report: RunReport, facts: Facts) -> str:
    state = ""
    if report.gates:
        kind, text = ("met", "✓ within budget") if report.gates_met else ("missed", "✗ requirement missed")
        state = f'<span class="state {kind}">{text}</span>'
    result = f" → <code>{escape(PurePath(report.output).name)}</code>" if report.output else ""
    subject = f"<code>{escape(PurePath(report.model).name)}</code>{result}"
    recipe = escape(str(report.recipe.get("name", "without a name")))
    return (
        f"<header>{state}<h1>{facts.show('/verdict')}</h1>"
        f'<p class="soft">{subject}, recipe <code>{recipe}</code></p></header>'
    )


def _gates(report: RunReport, facts: Facts) -> str:
    rows = [_gate_row(facts, f"/gates/{index}", gate) for index, gate in enumerate(report.gates)]
    return table(("requirement", "limit", "measured"), rows, numbers=[1, 2]) if rows else ""


def _gate_row(facts: Facts, place: str, gate: Gate) -> tuple[str, ...]:
    state = '<b class="met">✓ met</b>' if gate.met else '<b class="missed">✗ MISSED</b>'
    limit, value = (facts.show(f"{place}/{name}", lambda v: gate_value(gate, v)) for name in ("limit", "value"))
    return f'{state} {escape(gate.name)} <span class="soft">{escape(gate.note)}</span>', limit, value


def _steps(report: RunReport, facts: Facts) -> str:
    rows = []
    for index, step in enumerate(report.steps):
        place = f"/steps/{index}"
        nodes = " → ".join(facts.show(f"{place}/nodes_{when}") for when in ("before", "after"))
        seconds = facts.show(f"{place}/seconds", format_seconds)
        rows.append((f"<code>{escape(step.name)}</code>", facts.show(f"{place}/changed"), nodes, seconds))
    return table(("pass", "changed", "nodes", "time"), rows, numbers=[1, 2, 3])


def _pass(report: RunReport, facts: Facts, index: int) -> str:
    """What a pass decided and found, and what it left alone; its notices stand at the top of the page."""
    step, place = report.steps[index], f"/steps/{index}"
    told = {key: value for key, value in step.details.items() if key not in ("nodes", "notices")}
    found = "" if is_empty(told) else details_html(facts, f"{place}/details", told)
    skipped = _skipped(step, facts, f"{place}/skipped")
    if not found and not skipped:
        return ""
    options = "" if is_empty(step.options) else folded("options", details_html(facts, f"{place}/options"))
    return section(f"Pass {step.name}", found, skipped, options)


def _skipped(step: StepReport, facts: Facts, place: str) -> str:
    rows = []
    for index, skip in enumerate(step.skipped):
        examples = escape(", ".join(skip.examples))
        rows.append(
            (facts.show(f"{place}/{index}/count"), escape(skip.reason), f'<span class="mono">{examples}</span>')
        )
    return f"<h4>left as it was</h4>{table(('times', 'why', 'for example'), rows, numbers=[0])}" if rows else ""


@cache
def _style() -> str:
    return (files("modelopt_cli.report") / "page.css").read_text()
