"""`--help` is instant: what it may not import is checked in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "sample_models" / "digits_lstm" / "model.onnx"

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


def loaded(heavy: tuple[str, ...], *args: str) -> str:
    probe = PROBE.format(heavy=heavy)
    done = subprocess.run([sys.executable, "-c", probe, *args], capture_output=True, text=True, check=False, timeout=60)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["--nonsense"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    assert loaded(HEAVY, *args) == "HEAVY []"


@pytest.mark.parametrize("args", [["compress", "--help"], ["recipes", "--help"], ["quantize", "--nonsense"]])
def test_help_of_a_command_imports_nothing_heavy_of_ours(args: list[str]) -> None:
    # pydantic is left out: typer 0.29 itself imports it to parse the parameters of a command
    assert loaded(tuple(name for name in HEAVY if name != "pydantic"), *args) == "HEAVY []"


def test_the_probe_can_fail() -> None:
    assert loaded(("typer",), "--help") == "HEAVY ['typer']"


def test_a_command_that_reads_a_model_leaves_out_what_its_libraries_hardly_use() -> None:
    assert loaded(("sympy.core", "onnx_ir"), "inspect", str(MODEL)) == "HEAVY ['onnx_ir']"


def test_what_is_left_out_comes_when_it_is_used() -> None:
    script = "from modelopt_cli.delay import delay_imports; delay_imports(); import onnx_ir; import sys"
    script += "; before = 'sympy.core' in sys.modules; print(before, onnx_ir.SymbolicDim('n') * 2)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False 2*n\n"
