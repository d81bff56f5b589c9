"""The bound on what calibration holds: less means more passes, more means more cores, and the answer is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.calibration import probe
from modelopt_cli.calibration.collector import collect_range_choices
from modelopt_cli.calibration.memory import COPIES, WorkingMemory
from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import load_model, model_bytes
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.pipeline.preflight import working_memory
from modelopt_cli.recipe.load import load_recipe
from modelopt_cli.targets.target import resolve_target
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
        assert max(memory.tensors_mb, memory.moments_mb + memory.inputs_mb) <= memory.mb
        assert memory.patches_mb <= COPIES * memory.mb


def test_what_the_process_takes_is_within_the_bound() -> None:
    assert working_memory(None, 10**9) == WorkingMemory()
    assert working_memory(10**9, 10**9 - 200 * 2**20) == WorkingMemory(100)
    with pytest.raises(UsageError, match="it takes 100 MB with its sessions") as refused:
        working_memory(100 * 10**6 + 2**20, 100 * 10**6)
    assert (refused.value.where, refused.value.hint) == ("--max-memory", "134MB or more")


@pytest.mark.parametrize(("name", "least"), [("digits_resnet", 0.2), ("digits_vit", 1.0)])
def test_the_result_does_not_depend_on_it(samples: Path, name: str, least: float) -> None:
    folder = samples / name
    source, data = load_model(folder / "model.onnx").model, open_dataset(folder / "calib.npz")
    found = set()
    for mb in (least, 256):
        context = PassContext(
            target=resolve_target("cpu", "avx512_vnni"), calibration=bind(data, source), memory=WorkingMemory(mb)
        )
        result = Quantize(samples=8, budget=0, min_sqnr=0).apply(source.clone(), context)
        found.add(model_bytes(result.model))
    assert len(found) == 1


def test_an_option_goes_to_the_steps_that_have_it() -> None:
    recipe = load_recipe("int8").with_option("budget", 3.0)
    assert [getattr(run, "budget", None) for run in recipe.passes()] == [None, None, 3.0]
    fuse = load_recipe("fuse")
    assert fuse.with_option("budget", 3.0) is fuse
