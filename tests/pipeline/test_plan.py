"""A plan replayed gives the same bytes; a lock says what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import GateError, UsageError
from modelopt_cli.graph.io import SourceModel, load_model
from modelopt_cli.pipeline.lock import check_inputs
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.plan import RunPlan, plan_of, read_plan, write_plan
from modelopt_cli.pipeline.runner import CompressResult, compress
from modelopt_cli.recipe.load import load_recipe, parse_recipe
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.report.write import write_report

QUICK = ("steps.quantize.budget=3", "steps.quantize.samples=8")


@pytest.fixture(scope="module")
def source(samples: Path) -> SourceModel:
    return load_model(samples / "digits_resnet" / "model.onnx")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("int8", overrides=list(QUICK))


def options(samples: Path, **more: object) -> CompressOptions:
    data = open_dataset(str(samples / "digits_resnet" / "calib.npz"))
    return replace(CompressOptions(calibration=data, profile=False), **more)


@pytest.fixture(scope="module")
def done(source: SourceModel, recipe: Recipe, samples: Path) -> CompressResult:
    return compress(source, recipe, options(samples))


@pytest.fixture
def plan(done: CompressResult, tmp_path: Path) -> RunPlan:
    write_plan(plan_of(done.report), tmp_path / "plan.json")
    return read_plan(tmp_path / "plan.json")


def test_a_replay_gives_the_same_bytes_and_measures_nothing(
    done: CompressResult, plan: RunPlan, source: SourceModel, recipe: Recipe, samples: Path
) -> None:
    again = compress(source, recipe, options(samples, plan=plan, locked=True))
    assert again.content == done.content
    assert again.report.hashes == done.report.hashes
    assert again.report.steps[-1].details["latency_to_float"] is None
    assert '"pass":"quantize"' in done.model.metadata_props["modelopt.plan"]


def test_a_report_holds_the_plan(done: CompressResult, plan: RunPlan, tmp_path: Path) -> None:
    write_report(done.report, tmp_path / "report.json")
    assert read_plan(tmp_path / "report.json") == plan


def test_a_replay_on_another_machine_gives_the_same_bytes(
    done: CompressResult,
    plan: RunPlan,
    source: SourceModel,
    recipe: Recipe,
    samples: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelopt_cli.pipeline.provenance.vector_flags", lambda: ["asimd"])
    monkeypatch.setattr("modelopt_cli.pipeline.provenance.detect_isa", lambda: "arm64")
    again = compress(source, recipe, options(samples, plan=plan))
    assert again.report.environment["cpu_flags"] == ["asimd"]
    assert again.content == done.content


def test_decisions_of_the_plan_hold_over_the_search(
    plan: RunPlan, source: SourceModel, recipe: Recipe, samples: Path
) -> None:
    last = plan.steps[-1]
    assert last.plan is not None
    float_only = replace(last, plan=last.plan | {"ops": [], "float_only": True})
    changed = replace(plan, steps=(*plan.steps[:-1], float_only))
    result = compress(source, recipe, options(samples, plan=changed))
    assert result.report.steps[-1].details["integer_ops"] == {}
    with pytest.raises(GateError, match="the result is another"):
        compress(source, recipe, options(samples, plan=changed, locked=True))


def test_a_lock_names_everything_that_differs(plan: RunPlan) -> None:
    hashes = {**plan.hashes, "model": "00" * 32}
    environment = {**plan.environment, "onnx": "0.1", "runtime": {"onnxruntime": "0.2"}}
    with pytest.raises(GateError) as refused:
        check_inputs(plan, hashes, environment)
    for part in ("the model is another: sha256 000000000000", "onnx is 0.1", "runtime is onnxruntime 0.2"):
        assert part in refused.value.message
    check_inputs(plan, plan.hashes, plan.environment)


def test_a_lock_holds_before_any_work(plan: RunPlan, source: SourceModel, samples: Path) -> None:
    other = load_recipe("int8", overrides=[*QUICK, "steps.quantize.calibrator=percentile"])
    with pytest.raises(GateError, match="the recipe is another"):
        compress(source, other, options(samples, plan=plan, locked=True))


def test_a_plan_of_other_steps(plan: RunPlan, source: SourceModel, samples: Path) -> None:
    fuse = parse_recipe('{"version": 1, "name": "f", "steps": [{"pass": "fuse"}]}', "test")
    with pytest.raises(UsageError, match=r"the plan is for steps .*quantize, and the recipe has fuse"):
        compress(source, fuse, options(samples, plan=plan))


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "modelopt.plan/2"}', '{"schema": "modelopt.plan/1"}'])
def test_what_is_no_plan(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match="is not a plan"):
        read_plan(tmp_path / "plan.json")
