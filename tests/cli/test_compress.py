"""`compress` and its parts from end to end, on a trained model: files, streams, exit codes."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

QUICK = ["--set", "profile.seconds=0.1"]


@pytest.fixture
def model(samples: Path, tmp_path: Path) -> Path:
    shutil.copy(samples / "digits_resnet" / "calib.npz", tmp_path)
    return Path(shutil.copy(samples / "digits_resnet" / "model.onnx", tmp_path / "model.onnx"))


def test_beside_the_source_by_the_name_of_the_recipe(cli, model: Path) -> None:
    run = cli("compress", model, "--recipe", "fuse", *QUICK)
    assert run.code == 0, run.err
    output = model.with_name("model.fuse.onnx")
    onnx.checker.check_model(str(output), full_check=True)
    assert run.out.endswith(f"written: {output}\n")
    assert "fidelity not measured: no data" in " ".join(run.out.split())


def test_a_recipe_file_as_typed(cli, model: Path, root: Path) -> None:
    recipe = model.with_name("mine.yaml")
    recipe.write_text((root / "recipes" / "fuse.yaml").read_text().replace("name: fuse", "name: my-fuse"))
    run = cli("compress", model, "--recipe", recipe, *QUICK)
    assert run.code == 0, run.err
    assert model.with_name("model.my-fuse.onnx").is_file()


def test_int8_with_data(cli, model: Path) -> None:
    run = cli("compress", model, "--calib", model.with_name("calib.npz"), *QUICK, "--set", "steps.quantize.budget=0")
    assert run.code == 0, run.err
    assert model.with_name("model.int8.onnx").stat().st_size < model.stat().st_size / 2
    assert "not accuracy: no labels given" in " ".join(run.out.split())


def test_the_same_run_gives_the_same_bytes(cli, model: Path) -> None:
    outputs = [model.with_name(name) for name in ("a.onnx", "b.onnx")]
    for output in outputs:
        assert cli("prune", model, "--sparsity", "0.3", "-o", output, *QUICK).code == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_stdout_is_the_model_and_nothing_else(cli, model: Path) -> None:
    piped = cli("fuse", "-", *QUICK, stdin=model.read_bytes())
    assert piped.code == 0, piped.err
    onnx.checker.check_model(onnx.load_from_string(piped.out_bytes))
    assert "simplify" in piped.err
    quiet = cli("fuse", "-", "--quiet", *QUICK, stdin=model.read_bytes())
    assert (quiet.out_bytes, quiet.err) == (piped.out_bytes, "")


def test_json_is_the_report_and_nothing_else(cli, model: Path) -> None:
    run = cli("fuse", model, "--json", "--seed", "7", *QUICK)
    assert run.json["schema"] == "modelopt.report/1"
    assert run.json["recipe"]["seed"] == 7
    assert run.json["output"] == str(model.with_name("model.fuse.onnx"))


def test_flags_spell_a_recipe(cli, model: Path) -> None:
    run = cli("prune", model, "--sparsity", "0.25", "--distribution", "lamp", "--json", *QUICK)
    *_, step = run.json["recipe"]["steps"]
    assert (step["pass"], step["with"]["sparsity"], step["with"]["distribution"]) == ("prune", 0.25, "lamp")
    assert model.with_name("model.prune-25.onnx").is_file()


def test_a_part_runs_the_steps_of_its_family(cli, model: Path) -> None:
    run = cli("fuse", model, "--recipe", "prune-50", "--json", *QUICK)
    assert [step["name"] for step in run.json["steps"]] == ["simplify", "fuse"]
    assert cli("quantize", model, "--recipe", "prune-50").code == 2


@pytest.mark.parametrize(
    "args", [["prune", "--sparsity", "1.5"], ["prune", "--criterion", "all"], ["quantize", "--method", "x"]]
)
def test_flags_out_of_range(args: list[str], cli, model: Path) -> None:
    run = cli(args[0], model, *args[1:])
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("modelopt: error: ")


def test_flags_and_a_recipe_contradict_each_other(cli, model: Path) -> None:
    run = cli("prune", model, "--recipe", "prune-50", "--sparsity", "0.1")
    assert run.code == 2
    assert "--sparsity and --recipe" in run.err


@pytest.mark.parametrize("strict", [False, True])
def test_a_missed_requirement(strict: bool, cli, model: Path) -> None:
    flags = ["--strict-output"] if strict else []
    run = cli(
        "fuse", model, "--set", "require.max_size_ratio=0.1", "--report", model.with_name("r.json"), *flags, *QUICK
    )
    assert run.code == 1
    assert "missed max_size_ratio 0.100" in run.err
    assert "MISSED" in run.out
    assert model.with_name("model.fuse.onnx").exists() is not strict
    assert model.with_name("r.json").exists()


def test_several_reports_of_one_run(cli, model: Path) -> None:
    paths = [model.with_name(name) for name in ("r.md", "r.json")]
    run = cli("fuse", model, *(part for path in paths for part in ("--report", path)), *QUICK)
    assert run.code == 0, run.err
    assert paths[0].read_text().startswith("**")
    assert paths[1].read_text().startswith("{")
    twice = cli("fuse", model, "--report", paths[0], "--report", "r.txt", *QUICK)
    assert twice.code == 2 and "'.txt'" in twice.err


def test_report_and_depfile(cli, model: Path) -> None:
    calib, rule = model.with_name("calib.npz"), model.with_name("model.d")
    run = cli("fuse", model, "--calib", calib, "--report", model.with_name("r.md"), "--depfile", rule, *QUICK)
    assert run.code == 0, run.err
    assert rule.read_text().startswith(f"{model.with_name('model.fuse.onnx')}: {model} {calib}\n")
    assert model.with_name("r.md").read_text().startswith("**")


def test_a_dry_run_writes_nothing(cli, golden, model: Path) -> None:
    before = sorted(path.name for path in model.parent.iterdir())
    run = cli("prune", model, "--dry-run")
    takes = re.search(rb"takes        about \S+ s and \S+ MB of memory of \S+ .B free\n", run.out_bytes)
    assert takes is not None, run.out
    golden("dry-run", replace(run, out_bytes=run.out_bytes.replace(takes[0], b"")))
    assert sorted(path.name for path in model.parent.iterdir()) == before


def test_a_dry_run_checks_the_data_too(cli, model: Path) -> None:
    import numpy as np

    wrong = model.with_name("wrong.npz")
    np.savez(wrong, image=np.zeros((3, 4), np.float32))
    run = cli("compress", model, "--calib", wrong, "--dry-run")
    assert (run.code, run.out) == (3, "")
    assert "input 'image': the model takes float32" in run.err


def test_random_data_is_stamped(cli, model: Path) -> None:
    run = cli("fuse", model, "--allow-random-calibration", "--json", *QUICK)
    assert run.json["fidelity"]["random_inputs"] is True
    assert [notice["code"] for notice in run.json["notices"] if "random" in notice["code"]]
