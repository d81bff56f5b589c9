"""What waits say: bars on a terminal, a plain line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.text import Text

from modelopt_cli.cli.console import PlainProgress, print_json, print_payload, progress_sink
from modelopt_cli.progress import Silent


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_short_task_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress(Clock()).task("calibrating", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_a_long_task_says_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with PlainProgress(clock).task("calibrating", 100) as advance:
        for _ in range(30):
            clock.now += 1.0
            advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "modelopt: calibrating: 10/100, about 90 s left",
        "modelopt: calibrating: 20/100, about 80 s left",
        "modelopt: calibrating: 30/100, about 70 s left",
    ]


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    sink = progress_sink(quiet=True)
    assert isinstance(sink, Silent)
    sink.note("a note")
    assert capsys.readouterr().err == ""


def test_no_bars_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    sink = progress_sink(quiet=False)
    assert isinstance(sink, PlainProgress)
    sink.note("a note")
    assert capsys.readouterr().err == "modelopt: a note\n"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": (1,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": [1]}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_on_a_terminal_unless_no_color(no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    print_payload(Text("bad", style="red"))
    assert ("\x1b[31m" in terminal.getvalue()) is coloured


def test_no_escape_codes_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_payload(Text("bad", style="bold red"))
    assert capsys.readouterr().out == "bad\n"
