"""What a run will take is foretold, and what cannot fit is refused before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import PassError
from modelopt_cli.graph.io import SourceModel, load_model
from modelopt_cli.passes.quantize.patches import largest_moment_bytes, rounding_bytes
from modelopt_cli.pipeline import preflight
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.preflight import SEARCHED, Estimate, check_memory, estimate, expectation
from modelopt_cli.pipeline.prepare import prepare
from modelopt_cli.profiling.memory import available_bytes
from modelopt_cli.recipe.load import load_recipe


@pytest.fixture
def source(samples: Path) -> SourceModel:
    return load_model(samples / "digits_resnet" / "model.onnx")


def expected(source: SourceModel, recipe: str, *overrides: str, calib: Path | None = None) -> Estimate:
    chosen = load_recipe(recipe, overrides=overrides)
    options = CompressOptions(calibration=None if calib is None else open_dataset(calib))
    return estimate(prepare(source, chosen, options), source, chosen, options)


def test_time_follows_budgets_and_data(source: SourceModel, samples: Path) -> None:
    calib = samples / "digits_resnet" / "calib.npz"
    alone = expected(source, "fuse", "profile.seconds=3")
    assert alone.seconds == pytest.approx(3)
    searched = expected(source, "int8", "profile.seconds=3", "steps.quantize.budget=20", calib=calib)
    assert 3 + 20 * SEARCHED < searched.seconds < 3 + 20
    assert alone.memory_bytes > source.file_bytes
    assert alone.disk_bytes == source.file_bytes


def test_second_moments_count_where_weights_are_rounded_by_them(source: SourceModel, samples: Path) -> None:
    calib = samples / "digits_resnet" / "calib.npz"
    moments, matrices = rounding_bytes(source.model.graph, WorkingMemory())
    assert moments > matrices / 6 == 4 * 576**2  # 64 channels of 3 x 3
    rounded, fused = (expected(source, recipe, calib=calib).memory_bytes for recipe in ("int8", "fuse"))
    assert rounded - fused == pytest.approx(moments + matrices, rel=0.5)
    assert rounding_bytes(source.model.graph, WorkingMemory(0.1)) == (round(0.15 * 2**20), matrices)


def test_moments_and_what_is_alive_between_layers_count_where_weights_are_pruned(
    source: SourceModel, samples: Path
) -> None:
    calib = samples / "digits_resnet" / "calib.npz"
    largest = largest_moment_bytes(source.model.graph)
    assert largest == 4 * 576**2
    pruned, fused = (expected(source, recipe, calib=calib).memory_bytes for recipe in ("prune-50", "fuse"))
    assert pruned - fused > 10 * largest


def test_a_model_that_cannot_fit_is_refused(source: SourceModel) -> None:
    least = 2 * source.file_bytes
    fits = Estimate(1.0, 10**9, least, source.file_bytes)
    check_memory(fits, source)
    check_memory(replace(fits, free_bytes=None), source)
    with pytest.raises(PassError, match="the model and its result take 643 kB of memory, and 643 kB are left"):
        check_memory(replace(fits, free_bytes=least - 1), source)


def test_a_large_model_needs_room_for_its_copies(source: SourceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(preflight, "check_room", lambda path, needed: asked.append((path, needed)))
    check_memory(Estimate(1.0, 1, None, 1), source)
    assert asked == []
    check_memory(Estimate(1.0, 1, None, 1), replace(source, file_bytes=2 << 30))
    assert [needed for _, needed in asked] == [2 << 30]


def test_only_what_one_should_know_is_said() -> None:
    assert expectation(Estimate(5.0, 10**8, 10**9, 10**7)) == ""
    assert expectation(Estimate(125.0, 10**8, None, 10**7)) == "this takes about 2 min 05 s and 100 MB of memory"
    assert expectation(Estimate(5.0, 10**9, 10**8, 10**7)) == "it may take 1.00 GB of memory, and 100 MB are left"


def test_the_container_counts_as_well_as_the_machine(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\nSwapFree: 100 kB\n")
    assert available_bytes(meminfo, tmp_path) == 600 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_bytes(meminfo, tmp_path) == 600 * 1024
    (tmp_path / "memory.max").write_text("300000\n")
    assert available_bytes(meminfo, tmp_path) == 299000
    assert available_bytes(tmp_path / "absent", tmp_path / "absent") is None
