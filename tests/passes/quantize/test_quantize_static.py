"""A static int8 model runs in integer kernels, keeps its interface and stays close to float."""

import collections

import numpy as np
import onnx
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.quantize_static import QuantizeStatic
from modelopt_cli.profiling.session import open_session
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import THIS_MACHINE, model_from_text, run_model, run_pass


class Samples:
    """A data set of generated arrays."""

    source, labels, batch_size = "generated", None, 1

    def __init__(self, count=8, name="x", shape=(1, 8, 32, 32), scale=1.0):
        rng = np.random.default_rng(0)
        self.arrays = [(rng.standard_normal(shape) * scale).astype(np.float32) for _ in range(count)]
        self.name = name

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        return ({self.name: array} for array in self.arrays)

    def take(self, count):
        return self


def conv_weights(seed, *names, channels=8, kernel=3):
    rng = np.random.default_rng(seed)
    shape = (channels, channels, kernel, kernel)
    return {name: (rng.standard_normal(shape) * 0.15).astype(np.float32) for name in names}


def quantize(text, weights, target=THIS_MACHINE, data=None, **options):
    model = model_from_text(text, **weights)
    options = {"budget": 0.0} | options
    result = run_pass(QuantizeStatic(**options), model, calibration=data or Samples(), target=target)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(result.model)), full_check=True)
    return model, result


def kernels(model, tmp_path):
    """What the runtime makes of a model: its operators by count."""
    path = tmp_path / "optimized.onnx"
    open_session(model_bytes(model), optimized_path=path)
    return collections.Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def sqnr(model, result, data):
    """Signal to quantization noise of all outputs together, dB."""
    signal = noise = 0.0
    for sample in data:
        exact, rounded = run_model(model, sample), run_model(result.model, sample, optimize=True)
        assert exact.keys() == rounded.keys()
        for name, array in exact.items():
            signal += float((array**2).sum())
            noise += float(((array - rounded[name]) ** 2).sum())
    return 10 * np.log10(signal / noise)


RESIDUAL = """
net (float[1,8,32,32] x) => (float[1,8,32,32] y) <float zero = {0.0}, float six = {6.0}, float[8] b = {1,2,3,4,5,6,7,8}>
{
    a = Conv <pads = [1,1,1,1]> (x, w1, b)
    r = Clip (a, zero, six)
    c = Conv <pads = [1,1,1,1]> (r, w2)
    s = Add (c, r)
    d = Conv <pads = [1,1,1,1]> (s, w3)
    y = Relu (d)
}
"""


def test_residual_block_is_all_integer(tmp_path):
    model, result = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"))
    found = kernels(result.model, tmp_path)
    assert found["QLinearConv"] == 3
    assert found["QLinearAdd"] == 1
    assert found["Conv"] == found["Add"] == found["Clip"] == found["Relu"] == 0
    # One Quantize for the input and one Dequantize for the output are what a float interface costs.
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == 1
    assert sqnr(model, result, Samples()) > 30


def test_interface_is_kept():
    model, result = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"))
    for old, new in (
        (model.graph.inputs, result.model.graph.inputs),
        (model.graph.outputs, result.model.graph.outputs),
    ):
        assert [(v.name, v.shape, v.dtype) for v in old] == [(v.name, v.shape, v.dtype) for v in new]


def test_same_input_same_bytes():
    weights = conv_weights(0, "w1", "w2", "w3")
    first, second = (quantize(RESIDUAL, weights)[1].model for _ in range(2))
    assert model_bytes(first) == model_bytes(second)


def test_source_is_untouched():
    model = model_from_text(RESIDUAL, **conv_weights(0, "w1", "w2", "w3"))
    before = model_bytes(model)
    run_pass(QuantizeStatic(budget=0), model, calibration=Samples(), target=THIS_MACHINE)
    assert model_bytes(model) == before


SWISH = """
net (float[1,8,32,32] x) => (float[1,8,32,32] y) <float shift = {0.7}>
{
    a = Conv <pads = [1,1,1,1]> (x, w1)
    h = HardSwish (a)
    t = Add (h, shift)
    y = Conv <pads = [1,1,1,1]> (t, w2)
}
"""


def test_hardswish_and_shift_stay_in_integers(tmp_path):
    model, result = quantize(SWISH, conv_weights(1, "w1", "w2"))
    found = kernels(result.model, tmp_path)
    # x * clip(x + 3, 0, 6) / 6: a Clip on bytes and one integer product; the shift is only another zero point.
    assert (found["QLinearConv"], found["QLinearMul"], found["Clip"]) == (2, 1, 1)
    assert found["HardSwish"] == found["Add"] == found["QLinearAdd"] == 0
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == 1
    assert sqnr(model, result, Samples()) > 30


SIGMOID_SHIFT = """
net (float[1,8,32,32] x) => (float[1,8,32,32] y) <float one = {1.0}>
{
    a = Conv <pads = [1,1,1,1]> (x, w1)
    h = HardSigmoid (a)
    t = Add (h, one)
    y = Conv <pads = [1,1,1,1]> (t, w2)
}
"""


def test_shift_of_a_hardsigmoid_is_refused():
    model, result = quantize(SIGMOID_SHIFT, conv_weights(1, "w1", "w2"))
    assert any("cannot be widened" in skip.reason for skip in result.skipped)
    assert sqnr(model, result, Samples()) > 30


TAIL = """
net (float[1,8,32,32] x) => (float[1,8,32,32] p)
{
    a = Conv <pads = [1,1,1,1]> (x, w1)
    b = Conv <pads = [1,1,1,1]> (a, w2)
    p = Softmax <axis = 1> (b)
}
"""


def test_softmax_stays_float_with_a_reason():
    _, result = quantize(TAIL, conv_weights(2, "w1", "w2"))
    assert any(skip.reason.startswith("Softmax: ") for skip in result.skipped)
    assert [n.op_type for n in result.model.graph].count("Softmax") == 1


def test_small_products_stay_float_but_are_stored_as_int8():
    text = "net (float[1,64] x) => (float[1,64] y) { y = Gemm (x, w, b) }"
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((64, 64)).astype(np.float32), "b": np.ones(64, np.float32)}
    model, result = quantize(text, weights, data=Samples(shape=(1, 64)))
    assert "QuantizeLinear" not in {n.op_type for n in result.model.graph}
    assert result.details["int8_in_file_only"] == 1
    assert len(model_bytes(result.model)) < 0.4 * len(model_bytes(model))
    assert sqnr(model, result, Samples(shape=(1, 64))) > 35


def test_gemm_writes_float_without_rounding(tmp_path):
    text = "net (float[64,128] x) => (float[64,128] y) { y = Gemm (x, w, b) }"
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((128, 128)).astype(np.float32), "b": np.ones(128, np.float32)}
    _, result = quantize(text, weights, data=Samples(shape=(64, 128)))
    found = kernels(result.model, tmp_path)
    assert found["QGemm"] == 1
    assert found["DequantizeLinear"] == 0


def test_tied_weights_are_quantized_once():
    text = """net (float[1,8,32,32] x) => (float[1,8,32,32] y) {
        a = Conv <pads = [1,1,1,1]> (x, w)
        y = Conv <pads = [1,1,1,1]> (a, w)
    }"""
    _, result = quantize(text, conv_weights(0, "w"))
    int8 = [v for v in result.model.graph.initializers.values() if v.const_value.size == 8 * 8 * 9]
    assert len(int8) == 1
    assert int8[0].dtype.name == "INT8"


def test_exclude_keeps_a_node_float():
    text = RESIDUAL.replace("c = Conv", "[second] c = Conv")
    _, result = quantize(text, conv_weights(0, "w1", "w2", "w3"), exclude=("second",))
    assert result.details["integer_ops"]["Conv"] == 2


def test_plan_is_replayed():
    _, first = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"), ops=("Conv",))
    _, second = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"), plan=first.details["plan"])
    assert model_bytes(first.model) == model_bytes(second.model)


def test_tensorrt_is_symmetric():
    _, result = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"), target=Target("tensorrt", "none", "onnx"))
    zeros = [n.inputs[2].const_value.numpy() for n in result.model.graph if n.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zeros)


def test_cuda_is_refused():
    _, result = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"), target=Target("cuda", "none"))
    assert result.changed == 0
    assert "no integer kernels" in result.skipped[0].reason


def test_quantizing_twice_is_refused():
    _, once = quantize(RESIDUAL, conv_weights(0, "w1", "w2", "w3"))
    twice = run_pass(QuantizeStatic(budget=0), once.model, calibration=Samples(), target=THIS_MACHINE)
    assert twice.changed == 0
    assert "already" in twice.skipped[0].reason


def test_data_is_needed():
    with pytest.raises(UsageError, match="needs calibration data"):
        run_pass(QuantizeStatic(), model_from_text(RESIDUAL, **conv_weights(0, "w1", "w2", "w3")))
