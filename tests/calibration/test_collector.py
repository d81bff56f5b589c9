import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.calibration import ObserverOptions, Range, collect_channel_stats, collect_ranges
from modelopt_cli.data import bind, open_dataset
from modelopt_cli.errors import DataError, ModelError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.testing import ArrayDataset, model_from_text

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[batch,4,n] x) => (float[batch,4,n] out) {
  doubled = Mul(x, two)
  positive = Relu(doubled)
  out = Neg(positive)
}"""
TENSORS = ["x", "doubled", "positive", "out", "two"]


@pytest.fixture(scope="module")
def model():
    return model_from_text(TEXT, two=np.array([2], np.float32))


class Ragged:
    """Samples of different sizes, in steps of any number."""

    source, labels, batch_size = "<ragged>", None, 1

    def __init__(self, arrays):
        self._arrays = arrays

    def __len__(self):
        return len(self._arrays)

    def __iter__(self):
        return ({"x": array} for array in self._arrays)


def batches(widths, per_step, seed=0):
    """The same values for one seed whatever ``per_step``: rows of one width are joined, ``per_step`` at a time."""
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((1, 4, width)).astype(np.float32) * 10 for width in sorted(widths)]
    steps, pending = [], []
    for row in rows:
        if pending and (pending[0].shape != row.shape or len(pending) == per_step):
            steps.append(np.concatenate(pending))
            pending = []
        pending.append(row)
    return [*steps, np.concatenate(pending)]


def test_ranges_are_those_of_the_tensors(model):
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    found = collect_ranges(model, TENSORS, ArrayDataset({"x": x}))
    doubled = x * np.float32(2)
    assert list(found) == TENSORS
    assert found["x"] == Range(float(x.min()), float(x.max()))
    assert found["doubled"] == Range(float(doubled.min()), float(doubled.max()))
    assert found["positive"] == Range(0.0, float(doubled.max()))
    assert found["out"] == Range(-float(doubled.max()), 0.0)
    assert found["two"] == Range(2.0, 2.0)


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    per_step=st.integers(1, 5),
    budget=st.sampled_from([0.0, 256.0]),
    observer=st.sampled_from(["minmax", "percentile", "mse", "entropy"]),
)
def test_ranges_depend_neither_on_batches_nor_on_groups(model, widths, per_step, budget, observer):
    one = collect_ranges(model, TENSORS, Ragged(batches(widths, 1)), observer=observer)
    many = collect_ranges(model, TENSORS, Ragged(batches(widths, per_step)), observer=observer, max_memory_mb=budget)
    assert one == many


def test_the_model_is_not_edited(model):
    before = model_bytes(model)
    collect_ranges(model, TENSORS, Ragged(batches([3], 1)))
    assert model_bytes(model) == before


def test_observers_by_tensor(model):
    data = Ragged(batches([500] * 4, 1))
    options = ObserverOptions(percentile=99)
    mixed = collect_ranges(model, ["x", "out"], data, observer={"x": "percentile"}, options=options)
    assert mixed["x"] == collect_ranges(model, ["x"], data, observer="percentile", options=options)["x"]
    assert mixed["out"] == collect_ranges(model, ["out"], data)["out"]
    assert mixed["x"] != collect_ranges(model, ["x"], data)["x"]


def test_repeats_that_fill_a_fixed_batch_are_not_counted(tmp_path):
    fixed = model_from_text("g (float[4,3] x) => (float[4,3] y) { y = Neg(x) }")
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.savez(tmp_path / "a.npz", x=x)
    data = bind(open_dataset(tmp_path / "a.npz"), fixed)
    stats = collect_channel_stats(fixed, ["y"], data, -1)["y"]
    assert stats.count == 5
    np.testing.assert_allclose(stats.mean, -x.mean(axis=0))


def test_padding_never_enters_a_range(tmp_path):
    masked = model_from_text(
        """g (int64[batch,seq] ids, int64[batch,seq] mask) => (float[batch,seq] y) {
          f = Cast<to=1>(ids)
          m = Cast<to=1>(mask)
          y = Add(f, m)
        }"""
    )
    ids = np.array([[5, 6, 900, 900], [7, 8, 9, 900]])
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]])
    np.savez(tmp_path / "a.npz", ids=ids, mask=mask)
    dataset = open_dataset(tmp_path / "a.npz")
    assert collect_ranges(masked, ["f"], bind(dataset, masked))["f"] == Range(5, 9)
    assert collect_ranges(masked, ["f"], bind(dataset, masked, trim=False))["f"] == Range(5, 900)


def test_channel_statistics(model):
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    found = collect_channel_stats(model, ["x", "out"], ArrayDataset({"x": x}), {"x": 1, "out": -1})
    np.testing.assert_allclose(found["x"].mean, x.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["out"].absmax, 2 * np.maximum(x, 0).max(axis=(0, 1)), rtol=1e-6)


def test_an_unknown_tensor(model):
    with pytest.raises(ModelError, match="no tensor 'absent'"):
        collect_ranges(model, ["absent"], Ragged(batches([3], 1)))


def test_a_sample_that_the_model_cannot_run_on(model):
    bad = ArrayDataset({"x": np.zeros((1, 5, 3), np.float32)})
    with pytest.raises(DataError, match=r"does not run on 'x' float32\[1, 5, 3\]"):
        collect_ranges(model, ["doubled"], bad)


def test_no_samples(model):
    with pytest.raises(DataError, match="holds no samples"):
        collect_ranges(model, ["doubled"], Ragged([]))
