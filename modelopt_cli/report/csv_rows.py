"""The figures of a run as a row of CSV: the same columns for every run, so that rows of many can be put together."""

from __future__ import annotations

import csv
import io
from typing import Any

from modelopt_cli.report.model import Fidelity, LatencyComparison, RunReport


def to_csv(report: RunReport) -> str:
    """A line of names and a line of values (RFC 4180, lines end as in Unix); what was not measured is empty.

    Sizes are bytes, times milliseconds, shares fractions. Latency is that of the first provider; of several outputs
    the noisiest counts.
    """
    row = _row(report)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((row.keys(), row.values()))
    return out.getvalue()


def _row(report: RunReport) -> dict[str, Any]:
    before, after = report.original, report.result
    return {
        "model": report.model,
        "output": report.output or "-",
        "recipe": report.recipe.get("name", ""),
        "gates_met": int(report.gates_met),
        "file_bytes_original": before.file_bytes,
        "file_bytes_result": after.file_bytes,
        "parameters_original": before.parameters,
        "parameters_result": after.parameters,
        "nonzero_result": after.nonzero_parameters,
        "nodes_original": before.nodes,
        "nodes_result": after.nodes,
        **_latency(report.latency[0] if report.latency else None),
        **_fidelity(report.fidelity),
        "integer_mac_share": "" if report.audit is None else report.audit.integer_mac_share,
        "seconds": report.seconds,
        "sha256_original": report.hashes.get("model", ""),
        "sha256_result": report.hashes.get("result", ""),
    }


def _latency(found: LatencyComparison | None) -> dict[str, Any]:
    return {
        "provider": found.provider if found else "",
        "latency_ms_original": found.original.median_ms if found else "",
        "latency_ms_result": found.result.median_ms if found else "",
        "latency_ratio": found.ratio if found else "",
        "latency_ratio_low": found.ratio_low if found else "",
        "latency_ratio_high": found.ratio_high if found else "",
    }


def _fidelity(found: Fidelity | None) -> dict[str, Any]:
    accuracy = found.accuracy if found else None
    scores = [each.top1 for each in found.agreement if each.top1 is not None] if found else []
    noise = [each.sqnr_db for each in found.agreement] if found else []
    return {
        "metric": accuracy.metric if accuracy else "",
        "accuracy_original": accuracy.original if accuracy else "",
        "accuracy_result": accuracy.result if accuracy else "",
        "agreement": min(scores, default=""),
        "sqnr_db": min(noise, default=""),
    }
