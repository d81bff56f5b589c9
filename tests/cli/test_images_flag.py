"""`--images FILE`: pictures in a folder that nobody may write to, on every command that reads data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.testing import model_from_text

Image = pytest.importorskip("PIL.Image")
TEXT = "g (float[n, 3, 4, 4] x) => (float[n, 3] y) { p = GlobalAveragePool(x) y = Flatten(p) }"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures, each of its own colour, which is what the model answers; the declaration lies elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for label in range(3):
        pixels = np.zeros((6, 6, 3), np.uint8)
        pixels[..., label] = 255
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{label}.png")
    (tmp_path / "photos" / "labels.csv").write_text("file,label\n0.png,0\n1.png,1\n2.png,2\n")
    (tmp_path / "how.yaml").write_text("resize: 4\ncrop: 4\nrange: 1\n")
    save_model(model_from_text(TEXT), tmp_path / "m.onnx")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "m.onnx", "--eval", "photos"],
        ["compare", "m.onnx", "m.onnx", "--eval", "photos", "--duration", "0.05"],
        ["diff", "m.onnx", "m.onnx", "--eval", "photos"],
        ["profile", "m.onnx", "--calib", "photos", "--duration", "0.05"],
        ["fuse", "m.onnx", "--eval", "photos", "-o", "out.onnx", "--set", "profile.seconds=0.02"],
        ["convert-data", "photos", "-o", "photos.npz"],
    ],
    ids=lambda words: words[0],
)
def test_each_command_takes_the_declaration(words: list[str], cli, folder: Path) -> None:
    without = cli(*words)
    assert without.code == 2
    assert "--images FILE" in without.err
    run = cli(*words, "--images", "how.yaml")
    assert run.code == 0, run.err


def test_the_answer_is_right(cli, folder: Path) -> None:
    run = cli("evaluate", "m.onnx", "--eval", "photos", "--images", "how.yaml", "--json")
    assert run.json["accuracy"]["value"] == 1.0


def test_the_flag_holds_over_the_folders_own(cli, folder: Path) -> None:
    (folder / "photos" / "preprocess.yaml").write_text("crop: 5\n")
    assert cli("evaluate", "m.onnx", "--eval", "photos").code == 3
    assert cli("evaluate", "m.onnx", "--eval", "photos", "--images", "how.yaml").code == 0


@pytest.mark.parametrize(
    ("text", "message"), [("croop: 4", "croop: "), ("[", "is not YAML"), (None, "cannot be read: No such file")]
)
def test_a_bad_declaration(text: str | None, message: str, cli, folder: Path) -> None:
    path = folder / "bad.yaml"
    if text is not None:
        path.write_text(text)
    run = cli("evaluate", "m.onnx", "--eval", "photos", "--images", path)
    assert run.code == 3
    assert f"{path}: {message}" in run.err
