"""Options of the TensorRT provider, as far as they can be checked without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.profiling.providers import parse_provider
from modelopt_cli.profiling.tensorrt_options import check_profiles, parse_profiles, tensorrt_defaults
from modelopt_cli.testing import model_from_text

MODEL = model_from_text(
    "g (int64[n, t] ids, float[1, 4] fixed) => (int64[n, t] y, float[1, 4] z) { y = Abs(ids) z = Abs(fixed) }"
)
FLOAT = "g (float[2] x) => (float[2] y) { y = Relu(x) }"
QUANTIZED = "g (float[2] x) => (float[2] y) { q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }"


def test_a_profile_is_three_options() -> None:
    spec = parse_provider("tensorrt:fp16=1,profile=ids:1x1/2x64/8x256;mask:1x1/2x64/8x256")
    assert spec.options == {
        "trt_fp16_enable": "1",
        "trt_profile_min_shapes": "ids:1x1,mask:1x1",
        "trt_profile_opt_shapes": "ids:2x64,mask:2x64",
        "trt_profile_max_shapes": "ids:8x256,mask:8x256",
    }


@pytest.mark.parametrize(
    "text", ["ids", "ids:1x1", "ids:1x1/2/3x3", ":1/2/3", "ids:1/a/3", "ids:2x9/2x8/2x10", "ids:1/3/2"]
)
def test_what_is_no_profile(text: str) -> None:
    with pytest.raises(UsageError, match=r"shape profile|not between"):
        parse_profiles(text)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("ids:1x1/2x64/8x256", None),
        ("ids:1x1/2x64/8x256;fixed:1x4/1x4/1x4", None),
        ("fixed:1x4/1x4/1x4", "the dynamic input 'ids' has no shape profile"),
        ("ids:1x1/2x64/8x256;mask:1/1/1", "no input 'mask'.*it has ids, fixed"),
        ("ids:1x1/2x64/8x256;fixed:1x5/1x5/1x5", "input 'fixed' takes 1x4, not 1x5"),
        ("ids:1/2/3", "input 'ids' takes [?]x[?], not 2"),
    ],
)
def test_profiles_are_held_against_the_model(profile: str, message: str | None) -> None:
    options = parse_profiles(profile)
    if message is None:
        check_profiles(options, MODEL)
        return
    with pytest.raises(UsageError, match=message):
        check_profiles(options, MODEL)


def test_engines_are_kept_and_integers_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELOPT_CACHE_DIR", str(tmp_path))
    scale = np.array(0.1, np.float32)
    found = tensorrt_defaults({"trt_fp16_enable": "1"}, model_from_text(FLOAT))
    assert found["trt_engine_cache_path"] == found["trt_timing_cache_path"] == str(tmp_path / "tensorrt")
    assert found["trt_fp16_enable"] == found["trt_engine_cache_enable"] == found["trt_timing_cache_enable"] == "1"
    assert "trt_int8_enable" not in found
    quantized = model_from_text(QUANTIZED, s=scale)
    (tmp_path / "m.onnx").write_bytes(model_bytes(quantized))
    for model in (quantized, model_bytes(quantized), tmp_path / "m.onnx"):
        assert tensorrt_defaults({}, model)["trt_int8_enable"] == "1"
    assert tensorrt_defaults({"trt_int8_enable": "0"}, quantized)["trt_int8_enable"] == "0"
    monkeypatch.setenv("MODELOPT_CACHE_SIZE", "0")
    assert tensorrt_defaults({}, model_from_text(FLOAT)) == {}
