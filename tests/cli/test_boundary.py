"""Each kind of failure: its line on stderr, its exit code, nothing else."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from modelopt_cli.cli.boundary import boundary
from modelopt_cli.errors import DataError, GateError, ModelError, OutputError, ProviderError, RecipeError, UsageError


def leave(error: BaseException, capsys: pytest.CaptureFixture[str], *, debug: bool = False) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught, boundary(lambda: debug):
        raise error
    assert isinstance(caught.value.code, int)
    return int(caught.value.code), capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GateError("missed"), 1),
        (UsageError("bad flag"), 2),
        (ModelError("truncated"), 3),
        (DataError("NaN"), 3),
        (OutputError("disk full"), 4),
        (ProviderError("no cuda"), 5),
    ],
)
def test_our_errors_keep_their_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    got, err = leave(error, capsys)
    assert got == code
    assert err == f"modelopt: error: {error}\n"


def test_says_where_what_and_how_to_fix(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = leave(ModelError("is empty", where="a.onnx", hint="export it again"), capsys)
    assert (code, err) == (3, "modelopt: error: a.onnx: is empty\n  hint: export it again\n")


def test_recipe_mistakes_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = leave(RecipeError(["r.yaml:3:1: no pass", "r.yaml:9:5: too large"]), capsys)
    assert code == 2
    assert err == "modelopt: error: r.yaml:3:1: no pass\nmodelopt: error: r.yaml:9:5: too large\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 4, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "out.onnx"), 4, "out.onnx: the disk is full"),
        (KeyError("x"), 70, "internal error: KeyError: 'x'"),
        (PermissionError(errno.EACCES, "Permission denied"), 70, "internal error: PermissionError"),
    ],
)
def test_everything_else(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # a full disk gives stdout up
    got, err = leave(error, capsys)
    assert got == code
    assert words in err
    assert "Traceback" not in err


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = leave(ModelError("is empty"), capsys, debug=True)
    assert code == 3
    assert err.startswith("Traceback")
    assert err.endswith("modelopt: error: is empty\n")


def test_a_closed_pipe_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert leave(BrokenPipeError(), capsys) == (141, "")


def test_no_error_passes_through() -> None:
    with boundary():
        pass
