import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.data import InputSpec, bind, open_dataset
from modelopt_cli.data.trimming import trim, trim_plan

IDS = InputSpec("input_ids", np.dtype("int64"), ("batch", "seq"))
MASK = InputSpec("attention_mask", np.dtype("int64"), ("batch", "seq"))
BIAS = InputSpec("bias", np.dtype("float32"), ("batch", 1, "seq", "seq"))
OTHER = InputSpec("image", np.dtype("float32"), ("batch", 3, "height"))


def sample(length, size=8):
    mask = (np.arange(size) < length).astype(np.int64)[None]
    return {
        "input_ids": np.arange(size)[None],
        "attention_mask": mask,
        "bias": np.zeros((1, 1, size, size), np.float32),
        "image": np.zeros((1, 3, size), np.float32),
    }


@given(st.integers(1, 8))
def test_every_axis_of_the_symbol_is_cut_to_the_real_length(length):
    found = trim(sample(length), trim_plan((IDS, MASK, BIAS, OTHER)))
    assert found["input_ids"].shape == found["attention_mask"].shape == (1, length)
    assert found["bias"].shape == (1, 1, length, length)
    assert found["image"].shape == (1, 3, 8)


def test_holes_and_left_padding_stay():
    padded = sample(8)
    padded["attention_mask"] = np.array([[0, 0, 1, 0, 1, 1, 0, 0]])
    assert trim(padded, trim_plan((IDS, MASK)))["input_ids"].tolist() == [[0, 1, 2, 3, 4, 5]]


def test_a_mask_of_zeros_cuts_nothing():
    assert trim(sample(0), trim_plan((IDS, MASK)))["input_ids"].shape == (1, 8)


def test_two_masks_over_one_symbol_keep_the_longer():
    second = InputSpec("global_attention_mask", np.dtype("int64"), ("batch", "seq"))
    both = sample(3) | {"global_attention_mask": sample(5)["attention_mask"]}
    assert trim(both, trim_plan((IDS, MASK, second)))["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    "mask",
    [
        InputSpec("attention_mask", np.dtype("int64"), ("batch", 8)),  # fixed: the model takes no other length
        InputSpec("attention_mask", np.dtype("int64"), ("batch", None)),  # no name: nothing says what shares the axis
        InputSpec("attention_mask", np.dtype("float32"), ("batch", "seq")),  # additive: zero means attend
        InputSpec("lengths", np.dtype("int64"), ("batch", "seq")),
        InputSpec("pixel_mask", np.dtype("int64"), ("batch", "height", "width")),
    ],
)
def test_what_is_no_mask_cuts_nothing(mask):
    assert trim_plan((IDS, mask)) == {}


def test_bound_samples_are_trimmed_unless_told_otherwise(tmp_path):
    mask = (np.arange(8)[None] < np.array([[3], [8]])).astype(np.int64)
    np.savez(tmp_path / "a.npz", input_ids=np.ones((2, 8), np.int64), attention_mask=mask)
    dataset = open_dataset(tmp_path / "a.npz")
    assert [s["input_ids"].shape[1] for s in bind(dataset, (IDS, MASK))] == [3, 8]
    assert [s["input_ids"].shape[1] for s in bind(dataset, (IDS, MASK), trim=False)] == [8, 8]
