"""The site and the manual pages: made from docs/ and from the help, nothing left out, nothing that leads nowhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from modelopt_cli.cli.root import app

SITE = "docs/site"


@pytest.fixture(scope="module")
def commands(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_commands", root / SITE / "commands.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["site_commands"] = module
    spec.loader.exec_module(module)
    return module


def leaves(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        below = f"{path}-{name}"
        yield from leaves(command, below) if hasattr(command, "commands") else [(below, command)]


def test_every_command_has_a_page_with_every_option(commands: ModuleType) -> None:
    pages = {page.name: page for page in commands.manual_pages()}
    found = dict(leaves(typer.main.get_command(app), "modelopt"))
    assert set(pages) == {"modelopt", *found}
    for name, command in found.items():
        assert pages[name].summary
        for param in command.params:
            if param.param_type_name == "option":
                assert all(option in pages[name].text for option in param.opts), (name, param.opts)
    assert all(f"modelopt {name.removeprefix('modelopt-')}" in pages["modelopt"].text for name in ("compress", "fuse"))


def test_words_of_the_help_stay_words(commands: ModuleType) -> None:
    page = next(page for page in commands.manual_pages() if page.name == "modelopt-compress")
    assert r"\<stem\>.\<recipe\>.onnx" in page.text


@pytest.mark.slow
def test_the_site_and_the_manual_are_built_without_a_warning(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    run([sys.executable, root / SITE / "assemble.py", source])
    for kind in ("html", "man"):
        run([sys.executable, "-m", "sphinx", "-q", "-W", "-b", kind, "-c", root / SITE, source, tmp_path / kind])
    built = {path.stem for path in (tmp_path / "html").glob("*.html")}
    assert {path.stem for path in (root / "docs").glob("*.md")} | {"index"} <= built
    manual = (tmp_path / "man" / "modelopt-compress.1").read_text()
    assert manual.startswith('.\\" Man page generated')
    assert r"\-\-recipe" in manual


def run(command: list[Any]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
