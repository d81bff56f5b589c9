"""`--help` is instant: what it may not import is checked in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("onnx", "onnx_ir", "onnxruntime", "numpy", "pydantic", "rich", "yaml")
PROBE = """
import sys
from modelopt_cli.cli.app import main
sys.argv = ["modelopt", *sys.argv[1:]]
try:
    main()
finally:
    print("HEAVY", [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["compress", "--help"], ["recipes", "--help"], ["--nonsense"]]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    probe = PROBE.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", probe, *args], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.splitlines()[-1] == "HEAVY []", done.stderr


def test_the_probe_can_fail() -> None:
    probe = PROBE.format(heavy=("typer",))
    done = subprocess.run(
        [sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.splitlines()[-1] == "HEAVY ['typer']"
