from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.errors import ModelError
from modelopt_cli.profiling.memory import measure_footprint, peak_resident_bytes
from modelopt_cli.testing import model_from_text

MODEL = model_from_text("g (float[n] x) => (float[n] y) { y = Relu(x) }")


def test_a_process_of_its_own_is_measured() -> None:
    large = 16_000_000
    ballast = np.ones(100_000_000, np.uint8)  # ours, and none of the model's business
    found = measure_footprint(MODEL, {"x": np.ones(large, np.float32)})
    assert found.load_ms > 0
    assert found.first_run_ms > 0
    assert 4 * large <= found.session_bytes < 16 * large  # the output at least
    assert found.session_bytes < found.peak_bytes
    assert peak_resident_bytes() > ballast.nbytes


def test_what_fails_there_is_said_here() -> None:
    with pytest.raises(ModelError, match=r"in a process of its own: .*fails when it runs"):
        measure_footprint(MODEL, {"x": np.ones((2, 2), np.float32)})


def test_texts_reach_the_other_process() -> None:
    model = model_from_text("g (string[n] x) => (string[n] y) { y = Identity(x) }")
    assert measure_footprint(model, {"x": np.array(["1", "über"], dtype=object)}).load_ms > 0
