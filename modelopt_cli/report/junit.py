"""The requirements as JUnit XML, which every CI shows: each gate a test case, a missed one a failure."""

from __future__ import annotations

import re
from pathlib import PurePath
from xml.etree import ElementTree as ET

from modelopt_cli.report.model import Gate, RunReport
from modelopt_cli.report.verdict import gate_text, verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def to_junit(report: RunReport) -> str:
    """One test suite, named after the recipe; the verdict is its output, the model its class."""
    missed = sum(not gate.met for gate in report.gates)
    name = str(report.recipe.get("name", "modelopt"))
    counts = {"tests": str(len(report.gates)), "failures": str(missed), "errors": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": _text(name), **counts, "time": f"{report.seconds:.3f}"})
    for gate in report.gates:
        _case(suite, gate, PurePath(report.model).name)
    ET.SubElement(suite, "system-out").text = _text(verdict(report))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, gate: Gate, model: str) -> None:
    case = ET.SubElement(suite, "testcase", {"name": gate.name, "classname": _text(model), "time": "0"})
    if not gate.met:
        failure = ET.SubElement(case, "failure", {"message": _text(f"missed {gate_text(gate)}"), "type": "requirement"})
        failure.text = _text(gate.note)


def _text(text: str) -> str:
    """Without what no XML file may hold, not even escaped."""
    return _NOT_XML.sub("�", text)
