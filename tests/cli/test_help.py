"""Every command has help, and it reads as the golden files say."""

from __future__ import annotations

import pytest

from modelopt_cli.cli.root import app

COMMANDS = [
    "compress", "fuse", "prune", "quantize", "profile", "evaluate", "compare", "diff", "report", "report diff",
    "report merge", "sensitivity", "inspect", "passes", "recipes", "recipes list",
    "recipes show", "recipes check", "recipes init", "recipes schema", "doctor", "convert-data",
    "cache", "cache info", "cache clear",
]  # fmt: skip


def test_the_list_is_complete() -> None:
    names = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert names == {command.split()[0] for command in COMMANDS}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, cli, golden) -> None:
    run = cli(*command.split(), "--help")
    assert run.code == 0
    assert all(len(line) <= 80 for line in run.out.splitlines())
    golden(f"help-{command.replace(' ', '-') or 'modelopt'}", run)


def test_version(cli, golden) -> None:
    golden("version", cli("--version"))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("no-command", ["compres", "model.onnx"]),
        ("no-option", ["compress", "model.onnx", "--calibrate", "x"]),
        ("no-model", ["inspect"]),
        ("no-number", ["compress", "model.onnx", "--threads", "many"]),
    ],
)
def test_usage_errors(name: str, args: list[str], cli, golden) -> None:
    run = cli(*args)
    assert run.code == 2
    golden(f"usage-{name}", run)
