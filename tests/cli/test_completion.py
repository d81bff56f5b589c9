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
