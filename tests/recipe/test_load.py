"""Every mistake of a recipe at once, with its place and a suggestion; and where recipes are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli.errors import ExitCode, RecipeError, UsageError
from modelopt_cli.recipe.load import load_recipe, parse_recipe

PRUNE = "version: 1\nname: mine\nsteps:\n  - pass: prune-magnitude\n    with: {sparsity: 0.3}\n"


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml", overrides=overrides)
    assert caught.value.exit_code == ExitCode.USAGE
    return list(caught.value.problems)


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
version: 2
sed: 3
target: {provider: gpu, isa: avx512_vni}
steps:
  - pass: prune-magnitud
  - pass: prune-magnitude
    with:
      sparsty: 0.5
      sparsity: 50
      scope: layers
  - with: {}
require: {max_accuracy_drop: 1, max_size_ratio: 12:30}
"""
    assert mistakes(text) == [
        "r.yaml:1:1: name: is required",
        "r.yaml:1:10: version: must be 1 (got 2); a newer modelopt wrote it: pip install -U modelopt-cli",
        "r.yaml:2:1: sed: unknown key; did you mean 'seed'?",
        "r.yaml:3:20: target.provider: must be 'cpu', 'cuda', 'tensorrt' or 'openvino' (got \"gpu\")"
        "; did you mean 'cpu'?",
        "r.yaml:3:30: target.isa: must be 'auto', 'avx2', 'avx512', 'avx512_vnni', 'avx_vnni', 'arm64',"
        " 'arm64_dotprod' or 'none' (got \"avx512_vni\"); did you mean 'avx512_vnni'?",
        "r.yaml:5:11: steps[0].pass: there is no pass 'prune-magnitud'; did you mean 'prune-magnitude'?",
        "r.yaml:8:7: steps[1].with.sparsty: unknown key; did you mean 'sparsity'?",
        "r.yaml:9:17: steps[1].with.sparsity: must be less than 1 (got 50); shares are fractions: 50 % is 0.5",
        "r.yaml:10:14: steps[1].with.scope: must be 'layer' or 'global' (got \"layers\"); did you mean 'layer'?",
        "r.yaml:11:5: steps[2].pass: is required",
        "r.yaml:12:30: require.max_accuracy_drop: must be less than 1 (got 1); shares are fractions: 1 % is 0.01",
        "r.yaml:12:49: require.max_size_ratio: YAML readers disagree on an unquoted 12:30:"
        " write a plain decimal number, or put it in quotes",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "r.yaml:1:1: is empty; a recipe begins with 'version: 1'"),
        ("# only a comment\n", "r.yaml:1:1: is empty; a recipe begins with 'version: 1'"),
        ("- version: 1", "r.yaml:1:1: must be a mapping; a recipe begins with 'version: 1'"),
        (PRUNE.replace("0.3", "'0.3'"), 'r.yaml:5:22: steps[0].with.sparsity: must be a number (got "0.3")'),
        (PRUNE.replace("0.3", ""), "r.yaml:5:21: steps[0].with.sparsity: must be a number (got nothing)"),
        (PRUNE.replace("0.3", ".nan"), "r.yaml:5:22: steps[0].with.sparsity: must be a finite number (got NaN)"),
        (PRUNE.replace("{sparsity: 0.3}", ""), "r.yaml:5:10: steps[0].with: must be a mapping (got nothing)"),
        (PRUNE.replace("version: 1", "version: '1'"), 'r.yaml:1:10: version: must be 1 (got "1")'),
        (PRUNE.replace("name: mine", "name: a/b"), None),
        (PRUNE + "seed: -1\n", "r.yaml:6:7: seed: must be greater than or equal to 0 (got -1)"),
        (PRUNE + "seed: 1.5\n", "r.yaml:6:7: seed: must be a whole number (got 1.5)"),
        (PRUNE + "profile: {batch: 1}\n", "r.yaml:6:18: profile.batch: must be a list (got 1)"),
        (PRUNE + "data: {calibration: a.npz}\n", 'r.yaml:6:21: data.calibration: must be a mapping (got "a.npz")'),
        (PRUNE + "require: {min_speedup: .inf}\n", None),
        ("version: 1\nname: x\nsteps: []\n", None),
        ("version: 1\nname: x\nsteps:\n  - prune-magnitude\n", None),
    ],
)
def test_a_mistake_says_where_and_what(text: str, mistake: str | None) -> None:
    found = mistakes(text)
    assert len(found) == 1
    assert mistake is None or found == [mistake]
    assert found[0].startswith("r.yaml:")


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert parse_recipe(PRUNE.replace("0.3", "3e-1")).passes() == parse_recipe(PRUNE).passes()


def test_a_mistake_of_the_text_is_not_reported_twice() -> None:
    assert len(mistakes(PRUNE + "seed: yes\n")) == 1


def test_a_built_in_is_found_by_name_and_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("prune-50").name == "prune-50"
    Path("prune-50").write_text(PRUNE)
    assert load_recipe("prune-50").name == "mine"


def test_an_unknown_name_gets_a_suggestion_and_the_list() -> None:
    said = r"no recipe 'prun-50'; did you mean 'prune-50'\? \(built-in: .*fuse, .*int8, "
    with pytest.raises(RecipeError, match=said):
        load_recipe("prun-50")


@pytest.mark.parametrize("name", ["nowhere.yaml", "./nowhere", "folder/nowhere"])
def test_a_missing_file_is_a_usage_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no such recipe file.*built-in recipes: .*fuse"):
        load_recipe(name)


def test_a_directory_and_binary_files_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load_recipe(str(tmp_path / "."))
    model = tmp_path / "model.onnx"
    model.write_bytes(b"\x08\x09\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_recipe(str(model))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PRUNE.encode())
    assert load_recipe(str(path)).name == "mine"


def test_data_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PRUNE + "data: {calibration: {path: calib.npz}, evaluation: {path: /abs/eval.npz}}\n")
    recipe = load_recipe(str(path))
    assert recipe.calibration_path == tmp_path / "calib.npz"
    assert recipe.evaluation_path == Path("/abs/eval.npz")
    assert load_recipe("prune-50").calibration_path is None
