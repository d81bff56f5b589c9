from __future__ import annotations

import numpy as np
import onnx
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.graph.stats import model_stats
from modelopt_cli.passes.quantize.dynamic_lstm import quantize_lstm
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import THIS_MACHINE, model_from_text, op_types, run_model

RNG = np.random.default_rng(0)
TEXT = """
g (float[6, N, 20] x) => (float[6, D, N, 16] y, float[D, N, 16] h) {
    y, h = LSTM<hidden_size=16, direction="DIRECTION">(x, w, r, b)
}
"""


def lstm(direction: str) -> tuple[str, dict[str, np.ndarray]]:
    count = 2 if direction == "bidirectional" else 1
    shapes = {"w": (count, 64, 20), "r": (count, 64, 16), "b": (count, 128)}
    arrays = {name: (0.3 * RNG.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    return TEXT.replace("DIRECTION", direction).replace("D,", f"{count},"), arrays


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_lstm_becomes_integer(direction: str, per_channel: bool) -> None:
    text, arrays = lstm(direction)
    arrays["w"][:, :32] = 0
    model = model_from_text(text, **arrays)
    result = model.clone()
    assert len(quantize_lstm(result, list(result.graph), THIS_MACHINE, per_channel=per_channel).changed) == 1
    onnx.checker.check_model(onnx.load_from_string(model_bytes(result)), full_check=True)
    assert op_types(result) == ["DynamicQuantizeLSTM"]
    assert {"w", "r"}.isdisjoint(result.graph.initializers)
    counts, others = model_stats(result, 0), model_stats(model, 0)
    assert counts.parameters == others.parameters
    assert 0.9 * others.nonzero_parameters <= counts.nonzero_parameters <= others.nonzero_parameters
    feeds = {"x": RNG.standard_normal((6, 2, 20)).astype(np.float32)}
    before, after = run_model(model, feeds), run_model(result, feeds)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=0.04)


def test_outputs_that_nobody_asked_for_stay_unasked() -> None:
    text, arrays = lstm("forward")
    text = text.replace("float[6, 1, N, 16] y, ", "").replace("y, h =", ", h =")
    model = model_from_text(text, **arrays)
    result = model.clone()
    quantize_lstm(result, list(result.graph), THIS_MACHINE)
    feeds = {"x": RNG.standard_normal((6, 2, 20)).astype(np.float32)}
    np.testing.assert_allclose(run_model(result, feeds)["h"], run_model(model, feeds)["h"], atol=0.04)


@pytest.mark.parametrize(
    ("change", "dialect", "reason"),
    [
        (("hidden_size=16", "hidden_size=16"), "onnx", "dialect"),
        (("hidden_size=16", "hidden_size=16, layout=1"), "onnxruntime", "layout"),
    ],
)
def test_refusals_say_why(change: tuple[str, str], dialect: str, reason: str) -> None:
    text, arrays = lstm("forward")
    model = model_from_text(text.replace(*change), **arrays)
    before = model_bytes(model)
    edits = quantize_lstm(model, list(model.graph), Target(dialect=dialect))
    assert not edits.changed and reason in edits.skipped[0].reason
    assert model_bytes(model) == before
