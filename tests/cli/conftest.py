"""Run `modelopt` in this process or as a real one, and compare what it says with a golden file.

Golden files (`tests/cli/golden/*.txt`) hold the command, its exit code, stdout and stderr, at 80 columns without
colour; paths and versions are replaced. After an intended change of the output, write them again and read the diff:

    MODELOPT_UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/cli && git diff tests/cli/golden
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelopt_cli import __version__

GOLDEN = Path(__file__).resolve().parent / "golden"
UPDATE = "MODELOPT_UPDATE_GOLDEN"
ENVIRONMENT = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


@dataclass(frozen=True)
class Run:
    """What a command left: exit code and both streams."""

    args: tuple[str, ...]
    code: int
    out_bytes: bytes
    err: str

    @property
    def out(self) -> str:
        return self.out_bytes.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out_bytes)


@pytest.fixture
def cli() -> Callable[..., Run]:
    """``cli("inspect", path, stdin=b"...")`` in this process: fast, the same boundary as the real command."""
    from modelopt_cli.cli.root import app

    def run(*args: object, stdin: bytes | None = None) -> Run:
        words = tuple(str(each) for each in args)
        result = CliRunner().invoke(app, words, input=stdin, env=ENVIRONMENT, prog_name="modelopt")
        return Run(words, result.exit_code, result.stdout_bytes, result.stderr)

    return run


def command(*args: object) -> list[str]:
    """The real command line of ``modelopt ARGS`` with this interpreter."""
    return [sys.executable, "-m", "modelopt_cli", *(str(each) for each in args)]


@pytest.fixture
def process() -> Callable[..., Run]:
    """As `cli`, but a process of its own: for pipes, signals and imports."""

    def run(*args: object, stdin: bytes = b"", **options: Any) -> Run:
        env = {**os.environ, **ENVIRONMENT}
        done = subprocess.run(
            command(*args), input=stdin, capture_output=True, env=env, timeout=120, check=False, **options
        )
        return Run(tuple(str(each) for each in args), done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.fixture
def golden(samples: Path, tmp_path: Path) -> Callable[[str, Run], None]:
    """``golden("inspect", run)`` compares with ``golden/inspect.txt``, or writes it when asked to."""

    def compare(name: str, run: Run) -> None:
        path = GOLDEN / f"{name}.txt"
        text = _as_text(run, {str(samples): "SAMPLES", str(tmp_path): "TMP"})
        if os.environ.get(UPDATE):
            path.write_text(text)
        assert path.is_file(), f"no golden file {path.name}: set {UPDATE}=1 once and read what it wrote"
        assert text == path.read_text(), f"{path.name} differs; when that is intended, run again with {UPDATE}=1"

    return compare


def _as_text(run: Run, folders: dict[str, str]) -> str:
    text = f"$ modelopt {_join(run.args)}\n[exit {run.code}]\n--- stdout\n{run.out}--- stderr\n{run.err}"
    for folder, name in folders.items():
        text = text.replace(folder, name)
    return re.sub(rf"\b{re.escape(__version__)}\b", "VERSION", text)


def _join(args: Sequence[str]) -> str:
    return " ".join(shlex.quote(each) for each in args)
