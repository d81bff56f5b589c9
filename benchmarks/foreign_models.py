"""Models that other people's exporters wrote, and small ones of every odd kind the format allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WHEELS = Path(__file__).resolve().parent.parent / ".venv-foreign"  # `make foreign` fills it


@dataclass(frozen=True)
class Foreign:
    """One model.

    Attributes:
        name: What the table calls it.
        group: Where it comes from.
        content: Its file.
        feeds: Inputs it is known to run on, or empty.
        must_succeed: Whether a refusal is a failure.
    """

    name: str
    group: str
    content: bytes
    feeds: dict[str, np.ndarray] = field(default_factory=dict)
    must_succeed: bool = False


def wheel_models() -> Iterator[Foreign]:
    """What the wheels of silero-vad and magika ship; nothing when they are not there."""
    for path in sorted(WHEELS.glob("*/**/*.onnx")):
        yield Foreign(f"{path.relative_to(WHEELS).parts[0]}: {path.stem}", "wheels", path.read_bytes(), {}, True)


def backend_models(kind: str) -> Iterator[Foreign]:
    """The ONNX project's own tests: ``simple``, ``pytorch-converted``, ``pytorch-operator``, ``light`` or ``node``."""
    if kind == "node":
        yield from _node_cases()
        return
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / kind
    for path in sorted(folder.rglob("*.onnx")):
        model = onnx.load(path)
        name = path.stem if kind == "light" else path.parent.name
        yield Foreign(name, kind, path.read_bytes(), _stored_feeds(model, path.parent / "test_data_set_0"))


def odd_models() -> Iterator[Foreign]:
    """One small model for each odd thing that the format allows."""
    for build in _ODD:
        model = build()
        name = build.__name__.replace("_", " ").strip()
        yield Foreign(name, "odd", model.SerializeToString(), {})


def _node_cases() -> Iterator[Foreign]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        arrays = case.data_sets[0][0]
        names = [value.name for value in case.model.graph.input]
        feeds = dict(zip(names, arrays, strict=False))
        plain = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray | np.generic)}
        whole = len(plain) == len(names) and all(np.asarray(v).dtype.kind in "fiub" for v in plain.values())
        yield Foreign(
            case.name,
            "node",
            case.model.SerializeToString(),
            {name: np.asarray(value) for name, value in plain.items()} if whole else {},
        )


def _stored_feeds(model: onnx.ModelProto, folder: Path) -> dict[str, np.ndarray]:
    given = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]
    feeds = {}
    for index, value in enumerate(inputs):
        path = folder / f"input_{index}.pb"
        if not path.is_file() or not value.type.HasField("tensor_type"):
            return {}
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind not in "fiub":
            return {}
        feeds[value.name] = array
    return feeds


def _parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def _weight(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    model.graph.initializer.append(numpy_helper.from_array(array, name))


def _random(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * 0.1).astype(dtype)


def float16_weights_and_io() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float16[N, 3, 16, 16] x) => (float16[N, 8, 14, 14] y) { c = Conv(x, w, b)  y = Relu(c) }""")
    _weight(model, "w", _random(8, 3, 3, 3, dtype=np.float16))
    _weight(model, "b", _random(8, dtype=np.float16))
    return model


def float16_matmul_chain() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float16[N, 64] x) => (float16[N, 10] y) {
          a = MatMul(x, w)  b = Add(a, b1)  c = Relu(b)  y = MatMul(c, v) }""")
    for name, shape in {"w": (64, 64), "b1": (64,), "v": (64, 10)}.items():
        _weight(model, name, _random(*shape, dtype=np.float16))
    return model


def bfloat16_weights() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 4] y) { f = Cast<to = 1>(w)  y = MatMul(x, f) }""")
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, [8, 4], _random(8, 4).astype(ml_dtypes.bfloat16).tolist())
    model.graph.initializer.append(tensor)
    return model


def float64_model() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 13]>
        m (double[N, 32] x) => (double[N, 32] y) { a = MatMul(x, w)  y = Relu(a) }""")
    _weight(model, "w", _random(32, 32, dtype=np.float64))
    return model


def quantized_qdq() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 3, 16, 16] x) => (float[N, 8, 14, 14] y)
        <float s = {0.02}, uint8 z = {128}, float t = {0.05}, uint8 u = {0}, float ws = {0.01}, int8 wz = {0}> {
          q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  w = DequantizeLinear(wq, ws, wz)
          c = Conv(d, w)  r = Relu(c)  p = QuantizeLinear(r, t, u)  y = DequantizeLinear(p, t, u) }""")
    _weight(model, "wq", np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8))
    return model


def quantized_qoperator() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 3, 16, 16] x) => (float[N, 8, 14, 14] y)
        <float s = {0.02}, uint8 z = {128}, float t = {0.05}, uint8 u = {0}, float ws = {0.01}, int8 wz = {0}> {
          q = QuantizeLinear(x, s, z)  c = QLinearConv(q, s, z, wq, ws, wz, t, u)  y = DequantizeLinear(c, t, u) }""")
    _weight(model, "wq", np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8))
    return model


def quantized_dynamically() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 32] y) <float ws = {0.01}> {
          q, s, z = DynamicQuantizeLinear(x)  i = MatMulInteger(q, w, z)  f = Cast<to = 1>(i)
          k = Mul(s, ws)  y = Mul(f, k) }""")
    _weight(model, "w", np.random.default_rng(0).integers(-100, 100, (64, 32)).astype(np.int8))
    return model


def quantized_half() -> onnx.ModelProto:
    """The first layer quantized, the second not."""
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y)
        <float s = {0.02}, uint8 z = {128}, float ws = {0.01}, int8 wz = {0}> {
          q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  w = DequantizeLinear(wq, ws, wz)
          c = MatMul(d, w)  r = Relu(c)  y = MatMul(r, v) }""")
    _weight(model, "wq", np.random.default_rng(0).integers(-100, 100, (64, 64)).astype(np.int8))
    _weight(model, "v", _random(64, 64))
    return model


def local_functions() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17, "local": 1]>
        m (float[N, 64] x) => (float[N, 64] y) { a = local.layer(x, w)  y = local.layer(a, v) }
        <domain: "local", opset_import: ["": 17]>
        layer (x, w) => (y) { a = MatMul(x, w)  b = Identity(a)  y = Relu(b) }""")
    _weight(model, "w", _random(64, 64))
    _weight(model, "v", _random(64, 64))
    return model


def nested_functions_with_attributes() -> onnx.ModelProto:
    return _parse("""<ir_version: 9, opset_import: ["": 18, "local": 1]>
        m (float[N, 8] x) => (float[N, 8] y) { y = local.outer<slope = 0.2>(x) }
        <domain: "local", opset_import: ["": 18, "local": 1]>
        outer<slope>(x) => (y) { a = local.inner<slope: float = @slope>(x)  y = Identity(a) }
        <domain: "local", opset_import: ["": 18]>
        inner<slope>(x) => (y) { y = LeakyRelu<alpha: float = @slope>(x) }""")


def sparse_initializer() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }""")
    values = numpy_helper.from_array(np.array([0.5, -1.0, 2.0], np.float32), "w")
    indices = numpy_helper.from_array(np.array([1, 30, 100], np.int64), "w_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [16, 8]))
    return model


def sparse_constant() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 16] x) => (float[N, 8] y) { y = MatMul(x, w) }""")
    values = numpy_helper.from_array(np.array([0.5, -1.0, 2.0], np.float32), "v")
    indices = numpy_helper.from_array(np.array([1, 30, 100], np.int64), "i")
    node = helper.make_node("Constant", [], ["w"], sparse_value=helper.make_sparse_tensor(values, indices, [16, 8]))
    model.graph.node.insert(0, node)
    return model


def string_input() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 2]>
        m (string[N] x) => (int64[N] y) {
          y = ai.onnx.ml.LabelEncoder<keys_strings = ["a", "b"], values_int64s = [1, 2]>(x) }""")


def string_constant_inside() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 4] y, string[2] names) { y = MatMul(x, w)  names = Identity(words) }""")
    _weight(model, "w", _random(8, 4))
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]))
    return model


def sequence_inside() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 64] x) => (float[1, 64] y) <int64 zero = {0}> {
          s = SplitToSequence<axis = 0>(x)  a = SequenceAt(s, zero)  y = MatMul(a, w) }""")
    _weight(model, "w", _random(64, 64))
    return model


def sequence_output() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 8] x) => (seq(float[1, 8]) s) { r = Relu(x)  s = SplitToSequence<axis = 0>(r) }""")


def sequence_input() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (seq(float[1, 8]) s) => (float[2, 8] y) { y = ConcatFromSequence<axis = 0>(s) }""")


def optional_inside() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 18]>
        m (float[2, 8] x) => (float[2, 8] y) { o = Optional(x)  g = OptionalGetElement(o)  y = Relu(g) }""")


def map_output() -> onnx.ModelProto:
    """A classifier as scikit-learn's converter writes it: labels and a sequence of maps."""
    coefficients = _random(3, 4).reshape(-1).tolist()
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


def training_leftovers() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 15]>
        m (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) <float ratio = {0.5}, bool training = {1}> {
          c = Conv(x, w)  b, mean, var = BatchNormalization<training_mode = 1>(c, g, o, u, v)
          d, mask = Dropout(b, ratio, training)  y = Relu(d) }""")
    _weight(model, "w", _random(8, 3, 3, 3))
    for name in "gouv":
        _weight(model, name, np.ones(8, np.float32))
    return model


def initializers_listed_as_inputs() -> onnx.ModelProto:
    model = _parse("""<ir_version: 3, opset_import: ["": 8]>
        m (float[1, 3, 16, 16] x, float[8, 3, 3, 3] w, float[8] g, float[8] o, float[8] u, float[8] v)
          => (float[1, 8, 14, 14] y) { c = Conv(x, w)  b = BatchNormalization(c, g, o, u, v)  y = Relu(b) }""")
    _weight(model, "w", _random(8, 3, 3, 3))
    for name in "gouv":
        _weight(model, name, np.abs(_random(8)) + np.float32(0.5))
    return model


def shared_weights() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y, float[N, 64] z) {
          a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, w)  y = Add(c, bias)  z = Gemm<transB = 1>(b, w, bias) }""")
    _weight(model, "w", _random(64, 64))
    _weight(model, "bias", _random(64))
    return model


def zero_size_dimensions() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) { c = Concat<axis = 1>(x, nothing)  y = MatMul(c, w) }""")
    _weight(model, "nothing", np.zeros((1, 0), np.float32))
    _weight(model, "w", _random(8, 8))
    return model


def zero_size_input() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[0, 8] x) => (float[0, 8] y) { y = Relu(x) }""")


def zero_size_weight() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 8] x) => (float[2, 0] y) { y = MatMul(x, w) }""")
    _weight(model, "w", np.zeros((8, 0), np.float32))
    return model


def no_inputs() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]> m () => (float[4, 4] y) { y = Relu(w) }""")
    _weight(model, "w", _random(4, 4))
    return model


def no_nodes() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17]> m (float[4] x) => (float[4] x) { }""")


def output_is_an_initializer() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y, float[8, 8] w) { y = MatMul(x, w) }""")
    _weight(model, "w", _random(8, 8))
    return model


def output_listed_as_input_too() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y, float[N, 8] x) { y = Relu(x) }""")


def unused_input() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x, float[N, 3] unused) => (float[N, 8] y) { y = Relu(x) }""")


def no_declared_shapes() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float y) { a = MatMul(x, w)  y = Relu(a) }""")
    _weight(model, "w", _random(8, 8))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def unknown_rank_input() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]> m (float[N] x) => (float[N] y) { y = Relu(x) }""")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def custom_operator() -> onnx.ModelProto:
    return _parse("""<ir_version: 8, opset_import: ["": 17, "com.nobody": 1]>
        m (float[N, 8] x) => (float[N, 8] y) { a = Relu(x)  y = com.nobody.Secret(a) }""")


def contrib_operators() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        m (float[N, 64] x) => (float[N, 64] y) { a = com.microsoft.FusedMatMul<alpha = 0.5>(x, w)
          b = com.microsoft.Gelu(a)  y = com.microsoft.BiasGelu(b, bias) }""")
    _weight(model, "w", _random(64, 64))
    _weight(model, "bias", _random(64))
    return model


def control_flow() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x, bool flag) => (float[N, 64] y) {
          y = If (flag) <
            then_branch = a () => (float[N, 64] t) { t = MatMul(x, w) },
            else_branch = b () => (float[N, 64] e) { h = MatMul(x, v)  e = Relu(h) }> }""")
    _weight(model, "w", _random(64, 64))
    _weight(model, "v", _random(64, 64))
    return model


def loop_with_weights_inside() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 32] x) => (float[2, 32] y) <int64 n = {3}, bool go = {1}> {
          y = Loop (n, go, x) <body = b (int64 i, bool c, float[2, 32] s) => (bool c2, float[2, 32] r) {
            c2 = Identity(c)  h = MatMul(s, w)  r = Tanh(h) }> }""")
    _weight(model, "w", _random(32, 32))
    return model


def names_with_odd_characters() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("größe/輸入:0", TensorProto.FLOAT, ["batch size", 8])
    y = helper.make_tensor_value_info("a b\nc", TensorProto.FLOAT, ["batch size", 8])
    nodes = [
        helper.make_node("Relu", ["größe/輸入:0"], ["../h"], name=""),
        helper.make_node("MatMul", ["../h", "w;"], ["a b\nc"], name="$(x)"),
    ]
    graph = helper.make_graph(nodes, "graph/0", [x], [y], [numpy_helper.from_array(_random(8, 8), "w;")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def metadata_and_doc_strings() -> onnx.ModelProto:
    model = _parse("""<ir_version: 9, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) { a = Identity(x)  y = MatMul(a, w) }""")
    _weight(model, "w", _random(8, 8))
    model.producer_name, model.producer_version, model.domain, model.model_version = "somebody", "3", "org.some", 7
    model.doc_string = "what it is for"
    model.metadata_props.add(key="classes", value='["a", "b"]')
    model.graph.doc_string = "the graph"
    return model


def default_domain_written_out() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y) { a = Identity(x)  y = MatMul(a, w) }""")
    _weight(model, "w", _random(64, 64))
    model.opset_import[0].domain = "ai.onnx"
    return model


def typed_tensor_fields() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w)  y = Add(a, half) }""")
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [8, 8], _random(8, 8).reshape(-1)))
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT, [8], [0.5] * 8))
    return model


def int4_weights() -> onnx.ModelProto:
    model = _parse("""<ir_version: 10, opset_import: ["": 21]>
        m (float[N, 64] x) => (float[N, 32] y) <float s = {0.1}> { w = DequantizeLinear(q, s)  y = MatMul(x, w) }""")
    values = np.random.default_rng(0).integers(-8, 7, 64 * 32)
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.INT4, [64, 32], values))
    return model


def float8_weights() -> onnx.ModelProto:
    model = _parse("""<ir_version: 9, opset_import: ["": 19]>
        m (float[N, 64] x) => (float[N, 32] y) <float s = {0.1}> { w = DequantizeLinear(q, s)  y = MatMul(x, w) }""")
    values = np.random.default_rng(0).standard_normal(64 * 32)
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.FLOAT8E4M3FN, [64, 32], values))
    return model


def dead_and_duplicate_nodes() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) {
          dead = Exp(x)  a = MatMul(x, w)  b = MatMul(x, w)  y = Add(a, b) }""")
    _weight(model, "w", _random(8, 8))
    _weight(model, "never_read", _random(8, 8))
    return model


def nan_and_infinite_weights() -> onnx.ModelProto:
    model = _parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y) { a = MatMul(x, w)  y = Add(a, mask) }""")
    w = _random(64, 64)
    _weight(model, "w", w)
    mask = np.zeros(64, np.float32)
    mask[0] = -np.inf
    _weight(model, "mask", mask)
    return model


def _opset(version: int) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        text = f"""<ir_version: {3 if version < 9 else 8}, opset_import: ["": {version}]>
            m (float[1, 3, 16, 16] x{", float[8, 3, 3, 3] w, float[128, 10] f" if version < 9 else ""})
            => (float[1, 10] y) {{
              c = Conv(x, w)  r = Relu(c)  p = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(r)
              l = Flatten(p)  g = Gemm(l, f{", b" if version < 11 else ""})  y = Softmax(g) }}"""
        model = _parse(text)
        if version < 9:
            model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [10]))
        if version >= 21:
            model.ir_version = 10
        _weight(model, "w", _random(8, 3, 3, 3))
        _weight(model, "f", _random(128, 10))
        if version < 11:
            _weight(model, "b", _random(10))
        return model

    build.__name__ = f"opset_{version}"
    return build


_ODD: tuple[Callable[[], onnx.ModelProto], ...] = (
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
    training_leftovers,
    initializers_listed_as_inputs,
    shared_weights,
    zero_size_dimensions,
    zero_size_input,
    zero_size_weight,
    no_inputs,
    no_nodes,
    output_is_an_initializer,
    output_listed_as_input_too,
    unused_input,
    no_declared_shapes,
    unknown_rank_input,
    custom_operator,
    contrib_operators,
    control_flow,
    loop_with_weights_inside,
    names_with_odd_characters,
    metadata_and_doc_strings,
    default_domain_written_out,
    typed_tensor_fields,
    int4_weights,
    float8_weights,
    dead_and_duplicate_nodes,
    nan_and_infinite_weights,
    *(_opset(version) for version in range(7, onnx.defs.onnx_opset_version() + 1)),
)
