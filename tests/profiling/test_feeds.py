from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.profiling.feeds import feeds_for
from modelopt_cli.testing import model_from_text

IMAGE = model_from_text("g (float[batch,3,height,width] x) => (float[batch,3,height,width] y) { y = Relu(x) }")
TOKENS = model_from_text("g (int64[b,seq] ids, int64[b,seq] mask) => (int64[b,seq] y) { y = Add(ids, mask) }")
FIXED = model_from_text("g (float[4,3] x) => (float[4,3] y) { y = Relu(x) }")


def test_free_dimensions_without_data_get_a_default_that_is_reported() -> None:
    feeds = feeds_for(IMAGE, batch=2)
    assert feeds.arrays["x"].shape == (2, 3, 224, 224)
    assert feeds.arrays["x"].dtype == np.float32
    assert feeds.assumed == {"x.height": 224, "x.width": 224}


def test_one_name_is_one_size_and_integers_are_valid_indices() -> None:
    feeds = feeds_for(TOKENS, shapes={"ids": [1, 16]})
    assert {name: array.shape for name, array in feeds.arrays.items()} == {"ids": (1, 16), "mask": (1, 16)}
    assert (feeds.arrays["mask"] == 1).all()
    assert feeds.assumed == {}
    assert feeds_for(TOKENS).assumed == {"ids.seq": 128}


def test_data_gives_values_and_sizes() -> None:
    sample = {"ids": np.arange(5)[None], "mask": np.ones((1, 5), np.int64)}
    feeds = feeds_for(TOKENS, sample)
    np.testing.assert_array_equal(feeds.arrays["ids"], sample["ids"])
    assert feeds.assumed == {}


def test_data_is_repeated_over_the_batch_and_fitted_to_a_shape() -> None:
    sample = {"ids": np.arange(3)[None], "mask": np.ones((1, 3), np.int64)}
    np.testing.assert_array_equal(feeds_for(TOKENS, sample, batch=2).arrays["ids"], [[0, 1, 2]] * 2)
    fitted = feeds_for(TOKENS, sample, shapes={"ids": [1, 5], "mask": [1, 2]}).arrays
    np.testing.assert_array_equal(fitted["ids"], [[0, 1, 2, 0, 1]])
    assert fitted["mask"].shape == (1, 2)


def test_what_the_model_fixes_stays() -> None:
    assert feeds_for(FIXED, {"x": np.ones((1, 3), np.float32)}, batch=1).arrays["x"].shape == (4, 3)
    with pytest.raises(UsageError, match="input 'x' is fixed to 4 at dimension 0, not 2"):
        feeds_for(FIXED, shapes={"x": [2, 3]})


def test_shapes_that_fit_no_input_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no input 'z' \(it has x\)"):
        feeds_for(FIXED, shapes={"z": [1]})
    with pytest.raises(UsageError, match="input 'x' has 2 dimensions, not 1"):
        feeds_for(FIXED, shapes={"x": [4]})


def test_a_text_is_made_up_as_a_number() -> None:
    text = "g (string[2] x) => (string[2] y) { y = Identity(x) }"
    assert feeds_for(model_from_text(text)).arrays["x"].tolist() == ["1", "1"]


def test_what_is_no_tensor_is_refused() -> None:
    text = "g (seq(float[1]) x) => (float[n] y) { y = ConcatFromSequence<axis = 0>(x) }"
    with pytest.raises(UsageError, match="input 'x' is of type sequence"):
        feeds_for(model_from_text(text))


def test_other_sizes_and_integers_can_be_asked_for() -> None:
    feeds = feeds_for(TOKENS, assume={"ids.seq": 7}, integer=0)
    assert feeds.arrays["mask"].tolist() == [[0] * 7]
    assert feeds.assumed == {"ids.seq": 7}


def test_the_same_seed_gives_the_same_values() -> None:
    np.testing.assert_array_equal(feeds_for(FIXED, seed=3).arrays["x"], feeds_for(FIXED, seed=3).arrays["x"])
    assert (feeds_for(FIXED, seed=3).arrays["x"] != feeds_for(FIXED, seed=4).arrays["x"]).any()
