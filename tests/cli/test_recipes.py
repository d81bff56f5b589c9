"""`modelopt recipes`: the list, the text, every mistake at once."""

from __future__ import annotations

from pathlib import Path

BAD = """version: 1
name: bad
steps:
  - pass: fuze
  - pass: prune-magnitude
    with: {sparsity: 1.5}
"""


def test_list(cli, golden) -> None:
    golden("recipes-list", cli("recipes", "list"))


def test_show_prints_the_file_with_its_comments(cli, root: Path) -> None:
    assert cli("recipes", "show", "int8").out == (root / "recipes" / "int8.yaml").read_text()


def test_show_applies_overrides(cli) -> None:
    run = cli("recipes", "show", "prune-50", "--set", "steps.prune.sparsity=0.75", "--json")
    assert next(step for step in run.json["steps"] if step["pass"] == "prune")["with"]["sparsity"] == 0.75


def test_what_show_prints_is_a_recipe(cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(cli("recipes", "show", "prune-50", "--set", "seed=7").out)
    assert cli("recipes", "check", path).code == 0


def test_check_says_all_mistakes_of_all_files(cli, golden, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    run = cli("recipes", "check", path, "int8", tmp_path / "missing.yaml")
    assert run.code == 2
    golden("recipes-check", run)


def test_check_as_json(cli, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    run = cli("recipes", "check", path, "int8", "--json")
    assert run.code == 2
    assert [len(each["problems"]) for each in run.json] == [2, 0]
