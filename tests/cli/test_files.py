"""Where a result goes, and what it must never overwrite."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from modelopt_cli.cli.files import check_outputs, output_path, refuse_two_pipes
from modelopt_cli.errors import UsageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"source")
    return path


def test_without_a_name_beside_the_source() -> None:
    assert output_path("a/model.onnx", None, "int8") == Path("a/model.int8.onnx")


def test_a_name_without_the_suffix_keeps_all_of_it() -> None:
    assert output_path("a/model.v2", None, "int8") == Path("a/model.v2.int8.onnx")


def test_a_pipe_in_is_a_pipe_out() -> None:
    assert output_path("-", None, "int8") is None
    assert output_path("-", "out.onnx", "int8") == Path("out.onnx")
    assert output_path("a.onnx", "-", "int8") is None


def test_no_model_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UsageError, match="not written to a terminal"):
        output_path("a.onnx", "-", "int8")


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "dotted"])
def test_never_the_source(source: Path, link: str) -> None:
    output = source.with_name("other.onnx")
    if link == "same":
        output = source
    elif link == "symlink":
        output.symlink_to(source)
    elif link == "hardlink":
        os.link(source, output)
    else:
        output = source.parent / "." / ".." / source.parent.name / source.name
    with pytest.raises(UsageError, match="never overwritten"):
        check_outputs(str(source), output=output)


def test_an_older_result_may_be_replaced(source: Path) -> None:
    output = source.with_name("other.onnx")
    output.write_bytes(b"older")
    check_outputs(str(source), output=output, report=source.with_name("r.json"))


def test_the_report_is_not_the_source_either(source: Path) -> None:
    with pytest.raises(UsageError, match="never overwritten"):
        check_outputs(str(source), report=source)


def test_two_outputs_are_two_files(source: Path) -> None:
    with pytest.raises(UsageError, match="--output and --report name the same file"):
        check_outputs(str(source), output=source.with_name("x"), report=source.parent / "." / "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing/out.onnx", "does not exist"), (".", "is a directory"), ("pipe", "is a device or a pipe")],
)
def test_unwritable_outputs(source: Path, name: str, message: str) -> None:
    os.mkfifo(source.with_name("pipe"))
    with pytest.raises(UsageError, match=message):
        check_outputs(str(source), output=source.parent / name)


def test_stdin_holds_one_model() -> None:
    refuse_two_pipes("-", "a.onnx", None)
    with pytest.raises(UsageError, match="read once only"):
        refuse_two_pipes("-", "-")
