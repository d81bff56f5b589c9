from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.errors import ModelError
from modelopt_cli.profiling.trial import runnable_feeds
from modelopt_cli.testing import model_from_text

# A state whose batch has no name, and a window longer than the default.
STATE = model_from_text(
    "g (float[batch, time] x, float[2, other, 4] state) => (float[2, 1, 4] y) "
    "<int64[1] first = {400}, int64[1] last = {404}, int64[1] axis = {1}, int64[3] shape = {1, 1, 4},"
    " int64[3] whole = {2, 1, 4}>"
    "{ s = Slice(x, first, last, axis)  r = Reshape(s, shape)  f = Reshape(state, whole)  y = Add(r, f) }"
)
TABLE = model_from_text("g (int64[n] i) => (float[n, 2] y) <float[1, 2] table = {1.0, 2.0}> { y = Gather(table, i) }")
NEVER = model_from_text(
    "g (float[n, k] x) => (float[5000, 3] y) <int64[2] shape = {5000, 3}> { y = Reshape(x, shape) }"
)


def test_sizes_are_tried_until_the_model_runs_and_reported() -> None:
    feeds = runnable_feeds(STATE, STATE)
    assert feeds.arrays["state"].shape == (2, 1, 4)
    assert feeds.arrays["x"].shape == (1, 512)
    assert feeds.assumed == {"x.time": 512, "state.other": 1}


def test_an_index_that_the_table_lacks_becomes_zero() -> None:
    np.testing.assert_array_equal(runnable_feeds(TABLE, TABLE).arrays["i"], [0])


def test_what_never_runs_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match="fails when it runs") as refused:
        runnable_feeds(NEVER, NEVER)
    assert "--shape" in refused.value.hint


def test_data_is_not_tried() -> None:
    sample = {"i": np.array([7])}  # outside of the table: for the user to know
    np.testing.assert_array_equal(runnable_feeds(TABLE, TABLE, sample).arrays["i"], [7])
