"""A page for each command, made from its help: the one place where a flag is described."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from modelopt_cli.cli.root import EPILOG, app
from modelopt_cli.errors import ExitCode

PROGRAM = "modelopt"


@dataclass(frozen=True)
class ManualPage:
    """One command.

    Attributes:
        name: As ``man`` calls it: ``modelopt-report-diff``.
        summary: One line.
        text: The page in MyST Markdown.
    """

    name: str
    summary: str
    text: str


def manual_pages() -> list[ManualPage]:
    """The program's own page first, then a page for each command, in the order of the help."""
    top: Any = typer.main.get_command(app)
    return [_overview(top), *_pages(top, [PROGRAM])]


def _pages(group: Any, path: list[str]) -> Iterator[ManualPage]:
    for name, command in group.commands.items():
        below = [*path, name]
        yield from _pages(command, below) if hasattr(command, "commands") else [_page(command, below)]


def _page(command: Any, path: list[str]) -> ManualPage:
    ctx = command.context_class(command, info_name=" ".join(path))
    usage = command.get_usage(ctx).removeprefix("Usage: ")
    summary, _, more = (command.help or "").partition("\n")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.get_params(ctx) if each.param_type_name != "argument"]
    parts = [f"# {' '.join(path)}", summary, f"```text\n{usage}\n```", more.strip()]
    parts += ["## Arguments", *(_entry(each, ctx) for each in arguments)] if arguments else []
    parts += ["## Options", *(_entry(each, ctx) for each in options)]
    parts += ["## See also", f"{PROGRAM}(1)"]
    return ManualPage("-".join(path), summary.rstrip("."), "\n\n".join(part for part in parts if part) + "\n")


def _entry(param: Any, ctx: Any) -> str:
    """A definition: what is written, and the help's words with the default."""
    record = param.get_help_record(ctx) or (param.make_metavar(ctx), param.help or "")
    return f"`{record[0]}`\n: {_text(record[1]) or 'No description.'}"


def _overview(top: Any) -> ManualPage:
    commands = [(page.name.removeprefix(f"{PROGRAM}-").replace("-", " "), page) for page in _pages(top, [PROGRAM])]
    rows = [f"`{PROGRAM} {_spelled(page)}`\n: {_text(page.summary)}. See {page.name}(1)." for _, page in commands]
    codes = [f"`{int(code)}`\n: {code.name.lower().replace('_', ' ')}" for code in ExitCode]
    summary = (top.help or "").rstrip(".")
    parts = [f"# {PROGRAM}", f"{summary}.", "## Commands", *rows, "## Exit codes", *codes, EPILOG]
    return ManualPage(PROGRAM, summary, "\n\n".join(parts) + "\n")


def _spelled(page: ManualPage) -> str:
    """The command as it is typed: some names have a dash of their own."""
    return page.text.partition("\n")[0].removeprefix(f"# {PROGRAM} ")


def _text(text: str) -> str:
    """Words of the help as Markdown: ``<stem>`` is no tag, and ``*`` no emphasis."""
    for mark in "\\`*_<>":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
