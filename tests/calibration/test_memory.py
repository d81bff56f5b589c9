"""The bound on what calibration holds: less means more passes, more means more cores, and the answer is the same."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.calibration import probe
from modelopt_cli.calibration.collector import collect_range_choices
from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.errors import UsageError
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.preflight import working_memory
from modelopt_cli.recipe.load import load_recipe
from modelopt_cli.testing import ArrayDataset, model_from_text

TEXT = """g (float[N, 64] x) => (float[N, 64] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, w) }"""


@pytest.mark.parametrize("mb", [16, 256, 2000])
def test_ranges_do_not_depend_on_it(mb: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "cores", lambda: 4)
    rng = np.random.default_rng(0)
    model = model_from_text(TEXT, w=rng.standard_normal((64, 64)).astype(np.float32))
    data = ArrayDataset({"x": rng.standard_normal((50, 64)).astype(np.float32)})
    found = collect_range_choices(model, ["a", "r", "y"], data, ("minmax", "mse"), memory=WorkingMemory(mb))
    assert found == collect_range_choices(model, ["a", "r", "y"], data, ("minmax", "mse"))


@pytest.mark.parametrize(
    ("mb", "held", "workers"), [(256, 1, 1), (400, 1, 2), (5000, 1, 8), (5000, 2**30, 1), (16, 1, 1)]
)
def test_memory_to_spare_lets_more_cores_work(
    mb: float, held: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "cores", lambda: 8)
    assert probe._workers(held, WorkingMemory(mb).spare_mb) == workers


def test_the_parts_fit_the_whole() -> None:
    for memory in (WorkingMemory(), WorkingMemory(64)):
        assert max(memory.tensors_mb, memory.moments_mb + memory.inputs_mb, 2 * memory.patches_mb) <= memory.mb


def test_too_little_is_refused() -> None:
    assert working_memory(CompressOptions()) == WorkingMemory()
    assert working_memory(CompressOptions(max_memory=64 * 2**20)) == WorkingMemory(64)
    with pytest.raises(UsageError, match=r"1.00 MB holds hardly one tensor") as refused:
        working_memory(CompressOptions(max_memory=10**6))
    assert (refused.value.where, refused.value.hint) == ("--max-memory", "16MB or more")


def test_an_option_goes_to_the_steps_that_have_it() -> None:
    recipe = load_recipe("int8").with_option("budget", 3.0)
    assert [getattr(run, "budget", None) for run in recipe.passes()] == [None, None, 3.0]
    fuse = load_recipe("fuse")
    assert fuse.with_option("budget", 3.0) is fuse
