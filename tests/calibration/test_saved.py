"""Calibration from the cache is the calibration itself, also when it was interrupted half-way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.cache import Cache
from modelopt_cli.calibration import saved
from modelopt_cli.calibration.collector import collect_range_choices
from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.calibration.probe import Probe
from modelopt_cli.calibration.ranges import ObserverName, ObserverOptions
from modelopt_cli.calibration.watch import RangeChoices
from modelopt_cli.data.dataset import Sample
from modelopt_cli.testing import ArrayDataset, model_from_text

TEXT = "g (float[n, 8] x) => (float[n, 8] out) { doubled = Mul(x, two) positive = Relu(doubled) out = Neg(positive) }"
TENSORS = ["x", "doubled", "positive", "out", "two"]
RULES: tuple[ObserverName, ...] = ("minmax", "percentile", "mse", "entropy", "moving-average")
X = (np.random.default_rng(0).standard_normal((40, 8)) * np.linspace(1, 9, 40)[:, None]).astype(np.float32)


class Counting(ArrayDataset):
    """Counts the samples that were read, and stops like Ctrl-C at one of them."""

    def __init__(self, arrays: dict[str, np.ndarray], stop_at: int | None = None) -> None:
        super().__init__(arrays)
        self.read, self._stop_at = 0, stop_at

    def __iter__(self) -> Iterator[Sample]:
        for sample in super().__iter__():
            if self.read == self._stop_at:
                raise KeyboardInterrupt
            self.read += 1
            yield sample


@pytest.fixture
def model() -> ir.Model:
    return model_from_text(TEXT, two=np.array([2], np.float32))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, 10**8)


def collect(model: ir.Model, data: ArrayDataset, cache: Cache | None, **options: float) -> RangeChoices:
    bound = options.pop("max_memory_mb", 256.0)
    settings = ObserverOptions(**options)
    return collect_range_choices(
        model, TENSORS, data, RULES, options=settings, memory=WorkingMemory(bound), cache=cache
    )


def test_the_second_time_nothing_is_read(model: ir.Model, cache: Cache) -> None:
    first, again = Counting({"x": X}), Counting({"x": X})
    found = collect(model, first, cache)
    assert collect(model, again, cache) == found == collect(model, Counting({"x": X}), None)
    assert first.read > 0
    assert again.read == 0


def test_other_data_weights_or_settings_are_another_entry(model: ir.Model, cache: Cache) -> None:
    found = collect(model, ArrayDataset({"x": X}), cache)
    assert collect(model, ArrayDataset({"x": X * 2}), cache) != found
    assert collect(model_from_text(TEXT, two=np.array([3], np.float32)), ArrayDataset({"x": X}), cache) != found
    assert collect(model, ArrayDataset({"x": X}), cache, percentile=90.0) != found


@pytest.mark.parametrize("bound", [256.0, 1e-9], ids=["one group", "a group each"])
@pytest.mark.parametrize("stop_at", [7, 33, 61])
def test_an_interrupted_one_goes_on_to_the_same_ranges(
    model: ir.Model, cache: Cache, monkeypatch: pytest.MonkeyPatch, bound: float, stop_at: int
) -> None:
    monkeypatch.setattr(saved, "SAVE_EVERY_S", 0.0)
    whole = collect(model, ArrayDataset({"x": X}), None, max_memory_mb=bound)
    try:
        collect(model, Counting({"x": X}, stop_at), cache, max_memory_mb=bound)
    except KeyboardInterrupt:
        (half,) = cache.folder.glob("*/*.unfinished")
        assert half.stat().st_size > 1000
    ran: list[int] = []
    run = Probe.run
    monkeypatch.setattr(Probe, "run", lambda probe, sample: ran.append(1) or run(probe, sample))
    assert collect(model, ArrayDataset({"x": X}), cache, max_memory_mb=bound) == whole
    assert len(ran) <= 4 * len(X) - (stop_at - 1)  # what was seen is not run again; one was read for its sizes
    assert not list(cache.folder.glob("*/*.unfinished"))
