"""A folder of what was computed before and can be computed again: small files by kind and content hash.

It lies where the XDG base directory specification says, is kept below a size by dropping what was not used for longest,
and is never needed: an entry that is damaged or a folder that cannot be written is the same as no entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelopt_cli.errors import OutputError, UsageError

FOLDER_VARIABLE = "MODELOPT_CACHE_DIR"
SIZE_VARIABLE = "MODELOPT_CACHE_SIZE"
DEFAULT_BYTES = 10**9
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Usage:
    """What one kind of entries takes."""

    kind: str
    entries: int
    bytes: int


@dataclass(frozen=True)
class Cache:
    """Entries under one folder.

    Attributes:
        folder: Where they lie, in a folder for each kind; it need not exist.
        max_bytes: All kinds together are kept below this; 0 stores nothing and finds nothing.
    """

    folder: Path
    max_bytes: int

    def get(self, kind: str, key: str) -> bytes | None:
        """The entry, or None; that it was asked for keeps it from being dropped."""
        if not self.max_bytes:
            return None
        path = self.folder / kind / key
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            return None  # cut short by a full disk
        with contextlib.suppress(OSError):
            os.utime(path)
        return content[_DIGEST_BYTES:]

    def put(self, kind: str, key: str, content: bytes) -> bool:
        """Store an entry; whether that was possible. Another process never sees half of it."""
        if len(content) + _DIGEST_BYTES > self.max_bytes:
            return False
        try:
            folder = self.subfolder(kind)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(file.name).replace(folder / key)
        except OSError:
            return False
        self.trim()
        return True

    def drop(self, kind: str, key: str) -> None:
        """Forget an entry, if there is one."""
        with contextlib.suppress(OSError):
            (self.folder / kind / key).unlink(missing_ok=True)

    def subfolder(self, kind: str) -> Path:
        """The folder of one kind, made where it is missing: for libraries that keep files of their own there.

        Raises:
            OSError: It cannot be made.
        """
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def usage(self) -> list[Usage]:
        """What each kind takes, by name."""
        found: dict[str, list[int]] = {}
        for path, size, _ in self._files():
            found.setdefault(path.relative_to(self.folder).parts[0], []).append(size)
        return [Usage(kind, len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())]

    def clear(self) -> None:
        """Remove every entry, and the folders of the kinds.

        Raises:
            OutputError: A file cannot be removed.
        """
        try:
            for each in self.folder.iterdir() if self.folder.is_dir() else ():
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
        except OSError as error:
            raise OutputError(f"cannot be removed: {error.strerror}", where=str(error.filename)) from error

    def trim(self) -> None:
        """Drop what was not used for longest until the rest is below the cap."""
        files = sorted(self._files(), key=lambda file: file[2], reverse=True)
        total = 0
        for path, size, _ in files:
            total += size
            if total > self.max_bytes:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Each file with its size and when it was last used; one that vanishes meanwhile is left out."""
        for path in self.folder.glob("*/**/*"):
            with contextlib.suppress(OSError):
                state = path.lstat()
                if not path.is_dir():
                    yield path, state.st_size, state.st_mtime


def open_cache() -> Cache:
    """The user's cache, as the environment says; nothing is created.

    ``MODELOPT_CACHE_DIR`` names the folder; otherwise it is ``modelopt`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    ``MODELOPT_CACHE_SIZE`` is the cap (``500MB``), 0 switches the cache off.

    Raises:
        UsageError: The cap is not a size.
    """
    cap = os.environ.get(SIZE_VARIABLE)
    size = DEFAULT_BYTES if cap is None else parse_size(cap)
    try:
        return Cache(_folder(), size)
    except RuntimeError:  # a user of a container that has no home
        return Cache(Path(os.devnull), 0)


def parse_size(text: str, where: str = SIZE_VARIABLE) -> int:
    """``500MB`` -> 500000000; ``where`` is what an error names.

    Raises:
        UsageError: Not of that form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B)?", text.strip().upper())
    if match is None:
        raise UsageError(f"'{text}' is no size", where=where, hint="a number with a unit: 500MB, 2GB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def key_of(*parts: str | bytes) -> str:
    """A name for what follows from these parts and from nothing else: sha256, each part with its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _folder() -> Path:
    if own := os.environ.get(FOLDER_VARIABLE):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "modelopt"
