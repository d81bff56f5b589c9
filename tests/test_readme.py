"""Every `$ modelopt` block of the README and of docs/ runs as it is written, and prints what it says it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from modelopt_cli.cli.root import app
from modelopt_cli.data.images import Preprocessing
from modelopt_cli.recipe.load import parse_recipe

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Several runs each, with all their measuring.
LONG = (
    *("cookbook", "data", "fusion", "measuring", "providers", "pruning", "quantization", "scripting", "sensitivity"),
    *("structured-pruning", "weight-only"),
)
SLOW = {f"{name}.md": pytest.mark.slow for name in LONG}
DATA_PAGE = ROOT / "docs" / "data.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.MULTILINE | re.DOTALL
INSTALLED = ("modelopt doctor ",)  # beside `pip install`, which tests do not run
OTHER_PROVIDER = re.compile(r"--provider (?!cpu)")
WORD = re.compile(r"[A-Za-z][\w-]+")
PICTURES = 40  # in the folder of pictures
OPTIONAL = ("parallel",)  # programs that not every machine has
# Inline code that is a command of ours: its words may stand for things (MODEL), its flags are real.
COMMAND = re.compile(r"`modelopt ([^`]+)`")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages assume: a model, its data, its int8 form, the README's recipe, and the cookbook's rule of make."""
    path = tmp_path_factory.mktemp("readme")
    for name in ("model.onnx", "calib.npz"):
        shutil.copy(ROOT / "sample_models" / "digits_resnet" / name, path / name)
    shutil.copy(ROOT / "sample_models" / "eval.npz", path / "eval.npz")
    (path / "models").mkdir()
    for name in ("one.onnx", "two.onnx"):
        shutil.copy(path / "model.onnx", path / "models" / name)
    (path / "my-int8.yaml").write_text(blocks(PAGES[0], "yaml")[0])
    write_pictures(path / "photos", path / "eval.npz")
    (path / "samples.jsonl").write_text("".join(re.findall(r"`(\{.+?\})`", DATA_PAGE.read_text())) + "\n")
    done = shell("modelopt compress model.onnx --recipe int8 --calib calib.npz --set profile.seconds=0.1", path)
    assert done.returncode == 0, done.stderr  # pages may run in any order, in processes of their own
    (path / "Makefile").write_text(blocks(ROOT / "docs" / "cookbook.md", "make")[0])
    return path


def write_pictures(folder: Path, archive: Path) -> None:
    """Digits as files, with their labels and what makes them inputs again."""
    from PIL import Image

    folder.mkdir()
    with np.load(archive) as data:
        images, labels = data["image"][:PICTURES, 0], data["labels"][:PICTURES]
    names = [f"{index:03}.png" for index in range(PICTURES)]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(folder / name)
    rows = (f"{name},{label}\n" for name, label in zip(names, labels, strict=True))
    (folder / "labels.csv").write_text("file,label\n" + "".join(rows))
    (folder / "preprocess.yaml").write_text("channels: gray\nrange: 1\n")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1"}
    command = ["bash", "-o", "pipefail", "-c", line]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("page", [pytest.param(page, marks=SLOW.get(page.name, ()), id=page.name) for page in PAGES])
def test_commands_do_what_the_page_shows(page: Path, folder: Path) -> None:
    for block in blocks(page, "console"):
        for command, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command.split()[0] in OPTIONAL and shutil.which(command.split()[0]) is None:
                continue
            done = shell(command, folder)
            if OTHER_PROVIDER.search(command) and done.returncode == 5:
                # the same command on a machine without it says what is missing
                assert re.search("has no |is no plug-in|cannot be loaded", done.stderr)
                continue
            assert done.returncode == 0, f"$ {command}\n{done.stderr}"
            # Figures and reasons are this machine's; the words that begin the lines are not.
            for line in shown.splitlines():
                word = WORD.match(line)
                if word:
                    assert re.search(rf"^{re.escape(word[0])}\b", done.stdout, re.MULTILINE), f"$ {command}\n{line}"


def test_every_command_stands_in_a_block_that_is_run() -> None:
    """Blocks of another kind, and indented ones, would be read like those that are run, and be true by luck."""
    kinds = {"console", "make", "python"}  # rules of make are run by console blocks, Python by tests of its own
    for page in PAGES:
        text = page.read_text()
        others = [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, RUN) if kind not in kinds]
        found = [line for body in others for line in body.splitlines() if line.startswith(("modelopt ", "$ "))]
        found += re.findall(r"^ {4,}modelopt .+$", text, re.MULTILINE)
        assert [line for line in found if not line.startswith(INSTALLED)] == [], page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_a_line_of_text_exist(page: Path) -> None:
    for line in COMMAND.findall(page.read_text().replace("\n", " ")):
        words = [word.strip(",;") for word in line.split()]
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
        assert not hasattr(command, "commands") or not words or words[0].startswith("-"), line
        assert [word for word in words if word.startswith("-") and len(word) > 1 and word not in known] == [], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_on_the_pages_are_recipes(page: Path) -> None:
    for block in blocks(page, "yaml"):
        if page == DATA_PAGE:
            Preprocessing.model_validate(yaml.safe_load(block))
        else:
            parse_recipe(block if block.startswith("version") else f"version: 1\nname: part\n{block}", page.name)


def test_the_python_example_runs(folder: Path) -> None:
    (example,) = blocks(PAGES[0], "python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 1


def test_the_example_pass_does_what_it_says(samples: Path) -> None:
    from modelopt_cli.graph.io import load_model
    from modelopt_cli.testing import run_pass

    names: dict[str, Any] = {"__name__": "example"}
    code = compile(blocks(ROOT / "docs" / "passes.md", "python")[0], "passes.md", "exec", dont_inherit=True)
    exec(code, names)  # without this file's postponed annotations
    source = load_model(samples / "digits_resnet" / "model.onnx").model
    result = run_pass(names["ClampWeights"](limit=0.01), source)
    assert result.changed > 0
    assert max(abs(v.const_value.numpy()).max() for v in result.model.graph.initializers.values()) <= 0.0100001


def test_the_schema_of_the_report_is_documented() -> None:
    from dataclasses import fields

    from modelopt_cli.report.model import RunReport

    page = (ROOT / "docs" / "report.md").read_text()
    assert [each.name for each in fields(RunReport) if f"`{each.name}`" not in page] == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text()
        for target in [*re.findall(r"\]\(([^)#:]+)\)", text), *re.findall(r'src(?:set)?="([^"]+)"', text)]:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_and_exit_code_is_documented() -> None:
    from modelopt_cli.errors import ExitCode

    readme = PAGES[0].read_text()
    names = [each.name for each in (*app.registered_commands, *app.registered_groups)]
    assert [name for name in names if f"`{name}`" not in readme] == []
    assert [int(code) for code in ExitCode if f"| {int(code)} |" not in readme] == []
