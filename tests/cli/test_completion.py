from __future__ import annotations

import os
import subprocess
import sys

import pytest

MODELOPT = [sys.executable, "-c", "from modelopt_cli.cli.app import main; main()"]


def complete(**environment: str) -> str:
    env = {**os.environ, "_TYPER_STANDARD_TRACEBACK": "1", **environment}
    done = subprocess.run(MODELOPT, env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    assert f"complete_{shell}" in complete(_MODELOPT_COMPLETE=f"source_{shell}")


def test_a_command_is_completed() -> None:
    words = {"COMP_WORDS": "modelopt conv", "COMP_CWORD": "1"}
    assert complete(_MODELOPT_COMPLETE="complete_bash", **words).split() == ["convert-data"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("modelopt compress m.onnx --recipe int8", ["int8", "int8-dynamic", "int8-weights"]),
        ("modelopt profile m.onnx --provider t", ["tensorrt"]),
        ("modelopt evaluate m.onnx --metric ma", ["mae", "map50"]),
        ("modelopt passes --show pack", ["pack-sparse"]),
        ("modelopt recipes show smal", ["smallest"]),
    ],
)
def test_names_are_offered_after_a_flag(line: str, words: list[str]) -> None:
    found = complete(_MODELOPT_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1)).split()
    assert set(words) <= set(found)
    assert all(name.startswith(line.split()[-1]) for name in found)


def test_files_are_left_to_the_shell() -> None:
    assert complete(_MODELOPT_COMPLETE="complete_bash", COMP_WORDS="modelopt compress m", COMP_CWORD="2").split() == []
