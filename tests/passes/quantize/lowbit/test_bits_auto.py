"""``bits: auto``: bits go where they are worth most, and budgets of size and noise hold on the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowbit_models import two_products

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.lowbit.codebook import Codebook
from modelopt_cli.passes.quantize.lowbit.quantize_weights import QuantizeWeights
from modelopt_cli.passes.quantize.lowbit.sensitivity import output_errors
from modelopt_cli.passes.quantize.lowbit.slots import Slot
from modelopt_cli.testing import ArrayDataset, model_from_text, run_model, run_pass


@pytest.mark.parametrize("options", [{"bits": "auto", "max_size": 0.15}, {"bits": 4, "mixed": True}])
def test_bits_go_where_the_output_depends_on_them(options: dict[str, object]) -> None:
    model, data = two_products()
    result = run_pass(Codebook(**options), model, calibration=data)
    codes = {name: v.const_value.nbytes for name, v in result.model.graph.initializers.items() if "codes" in name}
    loud, quiet = (sum(n for name, n in codes.items() if name.startswith(each)) for each in ("loud", "quiet"))
    assert loud > quiet
    fixed = run_pass(Codebook(bits=4), model, calibration=data).model
    sample = next(iter(data))
    exact = run_model(model, sample)["y"]
    mixed, even = (np.square(run_model(m, sample)["y"] - exact).sum() for m in (result.model, fixed))
    assert mixed < even


@pytest.mark.parametrize("target", [0.15, 0.2, 70_000])
def test_a_size_target_is_kept(target: float) -> None:
    model, data = two_products()
    weights = 2 * 192 * 256 * 4
    for kind in (Codebook, QuantizeWeights):
        result = run_pass(kind(bits="auto", max_size=target), model, calibration=data)
        assert len(model_bytes(result.model)) <= (target * weights if target <= 1 else target)


@pytest.mark.parametrize("optimism", [1, 1000])
def test_a_noise_target_is_held_also_where_the_prediction_is_too_good(
    optimism: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predicted(*args: Any) -> dict[Slot, dict[int, float]]:
        found = output_errors(*args)
        return {slot: {bits: each / optimism for bits, each in errors.items()} for slot, errors in found.items()}

    monkeypatch.setattr("modelopt_cli.passes.quantize.lowbit.choice.output_errors", predicted)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((128, 256)).astype(np.float32)
    model = model_from_text("m (float[N,128] x) => (float[N,256] y) { y = MatMul (x, w) }", w=weight)
    inputs = rng.standard_normal((2, 400, 128)).astype(np.float32)
    found = []
    for wanted in (10.0, 25.0):
        options = {"bits": "auto", "min_sqnr": wanted, "compute": "float"}
        result = run_pass(QuantizeWeights(**options), model, calibration=ArrayDataset({"x": inputs[0]}))
        assert result.details["sqnr_db"] >= wanted and "notices" not in result.details
        exact, got = (run_model(each, {"x": inputs[1]})["y"] for each in (model, result.model))
        assert 10 * np.log10(np.square(exact).sum() / np.square(exact - got).sum()) > wanted - 0.5
        found += result.details["weights_by_bits"]
    assert found[0] < found[1] < "8"


def test_a_noise_target_out_of_reach_is_said() -> None:
    model, data = two_products()
    result = run_pass(QuantizeWeights(bits="auto", min_sqnr=120.0), model, calibration=data)
    assert set(result.details["weights_by_bits"]) == {"8"}
    assert result.details["notices"][0]["code"] == "sqnr-missed"
    assert result.details["sqnr_db"] < 120.0


def test_auto_needs_a_budget_and_data() -> None:
    model, data = two_products()
    with pytest.raises(UsageError, match="either max_size or min_sqnr"):
        run_pass(QuantizeWeights(bits="auto"), model, calibration=data)
    with pytest.raises(UsageError, match="needs calibration data"):
        run_pass(QuantizeWeights(bits="auto", max_size=0.2), model)


def test_a_size_out_of_reach_is_said() -> None:
    model, data = two_products()
    result = run_pass(Codebook(bits="auto", max_size=8000), model, calibration=data)
    assert result.details["notices"][0]["code"] == "size-missed"
    assert "notices" not in run_pass(Codebook(bits="auto", max_size=90000), model, calibration=data).details
