import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.data import open_dataset
from modelopt_cli.data.dataset import spread
from modelopt_cli.errors import DataError


def images(count=10):
    return np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2)


def test_samples_labels_and_extras(tmp_path):
    np.savez(tmp_path / "a.npz", x=images(), labels=np.arange(10), boxes=np.ones((10, 5, 5)))
    dataset = open_dataset(tmp_path / "a.npz")
    assert len(dataset) == 10 and dataset.source == str(tmp_path / "a.npz")
    first = next(iter(dataset))
    assert first["x"].shape == (1, 2, 2) and "labels" not in first
    np.testing.assert_array_equal(dataset.labels, np.arange(10))
    assert dataset.extra("boxes").shape == (10, 5, 5)
    np.testing.assert_array_equal([s["x"][0] for s in dataset], [s["x"][0] for s in dataset])  # twice the same


def test_no_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x=images())
    assert open_dataset(tmp_path / "a.npz").labels is None


@pytest.mark.parametrize("name", ["labels", "label", "y"])
def test_label_names(tmp_path, name):
    np.savez(tmp_path / "a.npz", x=images(), **{name: np.arange(10)})
    np.testing.assert_array_equal(open_dataset(tmp_path / "a.npz").labels, np.arange(10))


def test_take_chooses_samples_labels_and_extras_alike(tmp_path):
    np.savez(tmp_path / "a.npz", x=images(), labels=np.arange(10), boxes=np.arange(10))
    dataset = open_dataset(tmp_path / "a.npz", samples=4)
    chosen = [0, 2, 5, 7]
    assert len(dataset) == 4
    np.testing.assert_array_equal([s["x"][0] for s in dataset], images()[chosen])
    np.testing.assert_array_equal(dataset.labels, chosen)
    np.testing.assert_array_equal(dataset.extra("boxes"), chosen)
    assert len(dataset.take(100)) == 4 and len(dataset.take(2)) == 2


@given(total=st.integers(1, 500), count=st.integers(1, 600))
def test_spread_is_sorted_distinct_and_even(total, count):
    chosen = spread(total, count)
    assert len(chosen) == min(total, count) and chosen[0] == 0 and chosen[-1] < total
    gaps = np.diff([*chosen, total])
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_labels_of_another_length(tmp_path):
    np.savez(tmp_path / "a.npz", x=images(), labels=np.arange(9))
    with pytest.raises(DataError, match="'labels' has 9 entries for 10 samples"):
        _ = open_dataset(tmp_path / "a.npz").labels


def test_unknown_extra(tmp_path):
    np.savez(tmp_path / "a.npz", x=images())
    with pytest.raises(DataError, match=r"no member 'boxes'.*it has 'x'"):
        open_dataset(tmp_path / "a.npz").extra("boxes")


def test_folder_of_batches_joins_them_in_order_of_name(tmp_path):
    np.savez(tmp_path / "b.npz", x=images()[6:], labels=np.arange(6, 10))
    np.savez(tmp_path / "a.npz", x=images()[:6], labels=np.arange(6))
    (tmp_path / "readme.txt").write_text("not data")
    dataset = open_dataset(tmp_path).take(5)
    np.testing.assert_array_equal([s["x"][0] for s in dataset], images()[[0, 2, 4, 6, 8]])
    np.testing.assert_array_equal(dataset.labels, [0, 2, 4, 6, 8])


def test_folder_of_files_that_differ_in_their_members(tmp_path):
    np.savez(tmp_path / "a.npz", x=images())
    np.savez(tmp_path / "b.npz", z=images())
    with pytest.raises(DataError, match=r"b.npz: holds 'z', but a.npz holds 'x'"):
        open_dataset(tmp_path)


def test_folder_without_data(tmp_path):
    with pytest.raises(DataError, match=r"holds no .npz or .npy files"):
        open_dataset(tmp_path)


def test_no_samples(tmp_path):
    np.savez(tmp_path / "a.npz", x=images()[:0])
    with pytest.raises(DataError, match="holds no samples"):
        open_dataset(tmp_path / "a.npz")


def test_digest_follows_content_and_choice(tmp_path):
    np.savez(tmp_path / "a.npz", x=images())
    np.savez(tmp_path / "b.npz", x=images() + 1)
    digest = open_dataset(tmp_path / "a.npz").digest()
    assert digest == open_dataset(tmp_path / "a.npz").digest()
    assert (
        len({digest, open_dataset(tmp_path / "b.npz").digest(), open_dataset(tmp_path / "a.npz", samples=3).digest()})
        == 3
    )
