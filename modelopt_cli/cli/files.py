"""Model names on the command line: paths and ``-``; where a result goes, and what it must never overwrite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from modelopt_cli.data.images import Preprocessing
    from modelopt_cli.graph.io import SourceModel

PIPE = "-"


def read_model(name: str) -> SourceModel:
    """The model called ``name``: a path, or ``-`` for stdin. Other pipes (``<(command)``) are read like stdin.

    Raises:
        ModelError: As `graph.io.load_model`.
        UsageError: ``-`` with a terminal as stdin.
    """
    from modelopt_cli.graph.io import load_model, parse_model

    if name == PIPE:
        if sys.stdin.isatty():
            raise UsageError("stdin is a terminal", where=PIPE, hint="pipe a model in, or give its path")
        return parse_model(sys.stdin.buffer.read())
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_dir():
        return parse_model(path.read_bytes(), name)
    return load_model(path)


def preprocessing(declaration: Path | None) -> Preprocessing | None:
    """What ``--images`` declares, if it was given.

    Raises:
        DataError: As `data.images.read_preprocessing`.
    """
    if declaration is None:
        return None
    from modelopt_cli.data.images import read_preprocessing

    return read_preprocessing(declaration)


def refuse_two_pipes(*names: str | None) -> None:
    """Stdin holds one model, or one data set.

    Raises:
        UsageError: ``-`` occurs twice.
    """
    if sum(name == PIPE for name in names) > 1:
        raise UsageError("stdin can be read once only", where=PIPE, hint="give the other one as a path")


def output_path(source: str, output: str | None, recipe: str) -> Path | None:
    """Where the result goes; None is stdout.

    Without ``-o`` that is ``<stem>.<recipe>.onnx`` beside the source, or stdout when the source is stdin.

    Raises:
        UsageError: Stdout is a terminal, or there is no name to derive one from.
    """
    if output is None and source != PIPE:
        return Path(source).with_name(f"{Path(source).name.removesuffix('.onnx')}.{recipe}.onnx")
    if output is None or output == PIPE:
        if sys.stdout.isatty():
            raise UsageError("a model is not written to a terminal", where="-o", hint="give -o FILE, or pipe it on")
        return None
    return Path(output)


def check_outputs(source: str, **outputs: Path | Sequence[Path | None] | None) -> None:
    """Check every file the run will write: writable, a plain file, not the source, no two the same.

    Args:
        source: The model as the user named it.
        outputs: Flag (``output``, ``report``, ``depfile``) -> path or paths, None where nothing is written.

    Raises:
        UsageError: With the flag's path as its place.
    """
    from modelopt_cli.graph.io import check_writable

    seen: dict[Path, str] = {}
    named = [
        (flag, path)
        for flag, paths in outputs.items()
        for path in ([paths] if isinstance(paths, Path) else paths or ())
        if path is not None
    ]
    for flag, path in named:
        check_writable(path)
        if path.exists() and not path.is_file():
            raise UsageError(
                "is a device or a pipe, which a rename would replace", where=str(path), hint="use - for stdout"
            )
        if source != PIPE and path.exists() and Path(source).exists() and path.samefile(source):
            raise UsageError(
                "is the source, which is never overwritten", where=str(path), hint=f"give another --{flag}"
            )
        resolved = path.resolve()
        if (other := seen.get(resolved)) is not None:
            said = f"--{other} and --{flag} name the same file" if other != flag else f"is named twice by --{flag}"
            raise UsageError(said, where=str(path))
        seen[resolved] = flag


def require_file(name: str, what: str) -> None:
    """Refuse a missing file before anything slow is imported.

    Raises:
        ModelError: There is no file called so.
    """
    if name != PIPE and not Path(name).exists():
        raise ModelError("no such file", where=name, hint=f"it is the {what}")
