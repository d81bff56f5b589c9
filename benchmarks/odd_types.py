"""Small models of every odd type of tensor and number that the format allows."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.odd_parts import parse, random, weight


def float16_weights_and_io() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float16[N, 3, 16, 16] x) => (float16[N, 8, 14, 14] y) { c = Conv(x, w, b)  y = Relu(c) }""")
    weight(model, "w", random(8, 3, 3, 3, dtype=np.float16))
    weight(model, "b", random(8, dtype=np.float16))
    return model


def float16_matmul_chain() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float16[N, 64] x) => (float16[N, 10] y) {
          a = MatMul(x, w)  b = Add(a, b1)  c = Relu(b)  y = MatMul(c, v) }""")
    for name, shape in {"w": (64, 64), "b1": (64,), "v": (64, 10)}.items():
        weight(model, name, random(*shape, dtype=np.float16))
    return model


def bfloat16_weights() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 4] y) { f = Cast<to = 1>(w)  y = MatMul(x, f) }""")
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, [8, 4], random(8, 4).astype(ml_dtypes.bfloat16).tolist())
    model.graph.initializer.append(tensor)
    return model


def float64_model() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 13]>
        m (double[N, 32] x) => (double[N, 32] y) { a = MatMul(x, w)  y = Relu(a) }""")
    weight(model, "w", random(32, 32, dtype=np.float64))
    return model


def quantized_qdq() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 3, 16, 16] x) => (float[N, 8, 14, 14] y)
        <float s = {0.02}, uint8 z = {128}, float t = {0.05}, uint8 u = {0}, float ws = {0.01}, int8 wz = {0}> {
          q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  w = DequantizeLinear(wq, ws, wz)
          c = Conv(d, w)  r = Relu(c)  p = QuantizeLinear(r, t, u)  y = DequantizeLinear(p, t, u) }""")
    weight(model, "wq", np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8))
    return model


def quantized_qoperator() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 3, 16, 16] x) => (float[N, 8, 14, 14] y)
        <float s = {0.02}, uint8 z = {128}, float t = {0.05}, uint8 u = {0}, float ws = {0.01}, int8 wz = {0}> {
          q = QuantizeLinear(x, s, z)  c = QLinearConv(q, s, z, wq, ws, wz, t, u)  y = DequantizeLinear(c, t, u) }""")
    weight(model, "wq", np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8))
    return model


def quantized_dynamically() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 32] y) <float ws = {0.01}> {
          q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)  f = Cast<to = 1>(i)
          k = Mul(s, ws)  y = Mul(f, k) }""")
    weight(model, "w", np.random.default_rng(0).integers(-100, 100, (64, 32)).astype(np.int8))
    return model


def quantized_half() -> onnx.ModelProto:
    """The first layer quantized, the second not."""
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y)
        <float s = {0.02}, uint8 z = {128}, float ws = {0.01}, int8 wz = {0}> {
          q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  w = DequantizeLinear(wq, ws, wz)
          c = MatMul(d, w)  r = Relu(c)  y = MatMul(r, v) }""")
    weight(model, "wq", np.random.default_rng(0).integers(-100, 100, (64, 64)).astype(np.int8))
    weight(model, "v", random(64, 64))
    return model


def local_functions() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17, "local": 1]>
        m (float[N, 64] x) => (float[N, 64] y) { a = local.layer(x, w)  y = local.layer(a, v) }
        <domain: "local", opset_import: ["": 17]>
        layer (x, w) => (y) { a = MatMul(x, w)  b = Identity(a)  y = Relu(b) }""")
    weight(model, "w", random(64, 64))
    weight(model, "v", random(64, 64))
    return model


def nested_functions_with_attributes() -> onnx.ModelProto:
    return parse("""<ir_version: 9, opset_import: ["": 18, "local": 1]>
        m (float[N, 8] x) => (float[N, 8] y) { y = local.outer<slope = 0.2>(x) }
        <domain: "local", opset_import: ["": 18, "local": 1]>
        outer<slope>(x) => (y) { a = local.inner<slope: float = @slope>(x)  y = Identity(a) }
        <domain: "local", opset_import: ["": 18]>
        inner<slope>(x) => (y) { y = LeakyRelu<alpha: float = @slope>(x) }""")


def sparse_initializer() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }""")
    values = numpy_helper.from_array(np.array([0.5, -1.0, 2.0], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 30, 100], np.int64), "w_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [16, 8]))
    return model


def sparse_constant() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }""")
    values = numpy_helper.from_array(np.array([0.5, -1.0, 2.0], np.float32), "v")
    indices = numpy_helper.from_array(np.array([1, 30, 100], np.int64), "i")
    node = helper.make_node("Constant", [], ["w"], sparse_value=helper.make_sparse_tensor(values, indices, [16, 8]))
    model.graph.node.insert(0, node)
    return model


def string_input() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 2]>
        m (string[N] x) => (int64[N] y) {
          y = ai.onnx.ml.LabelEncoder<keys_strings = ["a", "b"], values_int64s = [1, 2]>(x) }""")


def string_constant_inside() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 4] y, string[2] names) { y = MatMul(x, w)  names = Identity(words) }""")
    weight(model, "w", random(8, 4))
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]))
    return model


def sequence_inside() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 64] x) => (float[1, 64] y) <int64 zero = {0}> {
          s = SplitToSequence<axis = 0>(x)  a = SequenceAt(s, zero)  y = MatMul(a, w) }""")
    weight(model, "w", random(64, 64))
    return model


def sequence_output() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 8] x) => (seq(float[1, 8]) s) { r = Relu(x)  s = SplitToSequence<axis = 0>(r) }""")


def sequence_input() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17]>
        m (seq(float[1, 8]) s) => (float[2, 8] y) { y = ConcatFromSequence<axis = 0>(s) }""")


def optional_inside() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 18]>
        m (float[2, 8] x) => (float[2, 8] y) { o = Optional(x)  g = OptionalGetElement(o)  y = Relu(g) }""")


def map_output() -> onnx.ModelProto:
    """A classifier as scikit-learn's converter writes it: labels and a sequence of maps."""
    coefficients = random(3, 4).reshape(-1).tolist()
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=coefficients,
            intercepts=[0.1, 0.0, -0.1],
            classlabels_ints=[0, 1, 2],
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
    ]
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_value_info("maps", maps),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])]
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(helper.make_graph(nodes, "m", inputs, outputs), opset_imports=opsets, ir_version=8)


def typed_tensor_fields() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  y = Add(a, half) }""")
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [8, 8], random(8, 8).reshape(-1)))
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT, [8], [0.5] * 8))
    return model


def int4_weights() -> onnx.ModelProto:
    model = parse("""<ir_version: 10, opset_import: ["": 21]>
        m (float[N, 64] x) => (float[N, 32] y) <float s = {0.1}> { w = DequantizeLinear(q, s)  y = MatMul(x, w) }""")
    values = np.random.default_rng(0).integers(-8, 7, 64 * 32)
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.INT4, [64, 32], values))
    return model


def float8_weights() -> onnx.ModelProto:
    model = parse("""<ir_version: 9, opset_import: ["": 19]>
        m (float[N, 64] x) => (float[N, 32] y) <float s = {0.1}> { w = DequantizeLinear(q, s)  y = MatMul(x, w) }""")
    values = np.random.default_rng(0).standard_normal(64 * 32)
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.FLOAT8E4M3FN, [64, 32], values))
    return model


def dead_and_duplicate_nodes() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) {
          dead = Exp(x)  a = MatMul(x, w)  b = MatMul(x, w)  y = Add(a, b) }""")
    weight(model, "w", random(8, 8))
    weight(model, "never_read", random(8, 8))
    return model


def nan_and_infinite_weights() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y) { a = MatMul(x, w)  y = Add(a, mask) }""")
    w = random(64, 64)
    weight(model, "w", w)
    mask = np.zeros(64, np.float32)
    mask[0] = -np.inf
    weight(model, "mask", mask)
    return model


ODD_TYPES: tuple[Callable[[], onnx.ModelProto], ...] = (
    float16_weights_and_io,
    float16_matmul_chain,
    bfloat16_weights,
    float64_model,
    quantized_qdq,
    quantized_qoperator,
    quantized_dynamically,
    quantized_half,
    local_functions,
    nested_functions_with_attributes,
    sparse_initializer,
    sparse_constant,
    string_input,
    string_constant_inside,
    sequence_inside,
    sequence_output,
    sequence_input,
    optional_inside,
    map_output,
    typed_tensor_fields,
    int4_weights,
    float8_weights,
    dead_and_duplicate_nodes,
    nan_and_infinite_weights,
)
