from __future__ import annotations

from pathlib import Path


def test_init_writes_a_recipe_that_checks_and_never_overwrites(cli, samples: Path, tmp_path: Path) -> None:
    model, path = samples / "digits_resnet" / "model.onnx", tmp_path / "mine.yaml"
    assert cli("recipes", "init", model, "-o", path).code == 0
    assert cli("recipes", "check", path).out == f"{path}: ok, 3 steps\n"
    text = path.read_text()
    again = cli("recipes", "init", model, "-o", path)
    assert again.code == 2 and "is there already" in again.err and path.read_text() == text
    assert cli("recipes", "init", model).out == text.replace("name: mine", "name: first")


def test_the_schema_is_json_on_stdout(cli) -> None:
    run = cli("recipes", "schema")
    assert run.code == 0 and run.json["title"] == "modelopt recipe"
