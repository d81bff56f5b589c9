"""The serialized result until it is written: in memory while it is small, else in a temporary file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from modelopt_cli.graph.mapped import worth_mapping
from modelopt_cli.graph.serialize import Serialized


@dataclass(frozen=True)
class ResultFile:
    """What is going to be the result's file.

    Attributes:
        source: Its bytes, or where they are: what a session and the checker take.
        size: How many.
        sha256: Hex digest over them.
    """

    source: bytes | Path
    size: int
    sha256: str
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, content: Serialized) -> ResultFile:
        """Keep ``content``; in memory too where no temporary file can be had."""
        if worth_mapping(content.size):
            with contextlib.suppress(OSError):
                folder = tempfile.TemporaryDirectory(prefix="modelopt-", ignore_cleanup_errors=True)
                path = Path(folder.name) / "model.onnx"
                with path.open("wb") as file:
                    file.writelines(content)
                return cls(path, content.size, content.sha256(), folder)
        return cls(content.join(), content.size, content.sha256())

    def read(self) -> bytes:
        """The bytes."""
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source

    def copy_to(self, stream: IO[bytes]) -> None:
        """Write the bytes to a stream, piece by piece."""
        if isinstance(self.source, Path):
            with self.source.open("rb") as file:
                shutil.copyfileobj(file, stream)
        else:
            stream.write(self.source)
