"""Small models of every odd shape of graph that the format allows, and one for each opset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.odd_parts import parse, random, weight


def training_leftovers() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 15]>
        m (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) <float ratio = {0.5}, bool training = {1}> {
          c = Conv(x, w)  b, mean, var = BatchNormalization<training_mode = 1>(c, g, o, u, v)
          d, mask = Dropout(b, ratio, training)  y = Relu(d) }""")
    weight(model, "w", random(8, 3, 3, 3))
    for name in "gouv":
        weight(model, name, np.ones(8, np.float32))
    return model


def initializers_listed_as_inputs() -> onnx.ModelProto:
    model = parse("""<ir_version: 3, opset_import: ["": 8]>
        m (float[1, 3, 16, 16] x, float[8, 3, 3, 3] w, float[8] g, float[8] o, float[8] u, float[8] v)
          => (float[1, 8, 14, 14] y) { c = Conv(x, w)  b = BatchNormalization(c, g, o, u, v)  y = Relu(b) }""")
    weight(model, "w", random(8, 3, 3, 3))
    for name in "gouv":
        weight(model, name, np.abs(random(8)) + np.float32(0.5))
    return model


def shared_weights() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y, float[N, 64] z) {
          a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, w)  y = Add(c, bias)  z = Gemm<transB = 1>(b, w, bias) }""")
    weight(model, "w", random(64, 64))
    weight(model, "bias", random(64))
    return model


def zero_size_dimensions() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) { c = Concat<axis = 1>(x, nothing)  y = MatMul(c, w) }""")
    weight(model, "nothing", np.zeros((1, 0), np.float32))
    weight(model, "w", random(8, 8))
    return model


def zero_size_input() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[0, 8] x) => (float[0, 8] y) { y = Relu(x) }""")


def zero_size_weight() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 8] x) => (float[2, 0] y) { y = MatMul(x, w) }""")
    weight(model, "w", np.zeros((8, 0), np.float32))
    return model


def no_inputs() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]> m () => (float[4, 4] y) { y = Relu(w) }""")
    weight(model, "w", random(4, 4))
    return model


def no_nodes() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17]> m (float[4] x) => (float[4] x) { }""")


def output_is_an_initializer() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y, float[8, 8] w) { y = MatMul(x, w) }""")
    weight(model, "w", random(8, 8))
    return model


def output_listed_as_input_too() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y, float[N, 8] x) { y = Relu(x) }""")


def unused_input() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x, float[N, 3] unused) => (float[N, 8] y) { y = Relu(x) }""")


def no_declared_shapes() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 8] x) => (float y) { a = MatMul(x, w)  y = Relu(a) }""")
    weight(model, "w", random(8, 8))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def unknown_rank_input() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]> m (float[N] x) => (float[N] y) { y = Relu(x) }""")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def custom_operator() -> onnx.ModelProto:
    return parse("""<ir_version: 8, opset_import: ["": 17, "com.nobody": 1]>
        m (float[N, 8] x) => (float[N, 8] y) { a = Relu(x)  y = com.nobody.Secret(a) }""")


def contrib_operators() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        m (float[N, 64] x) => (float[N, 64] y) { a = com.microsoft.FusedMatMul<alpha = 0.5>(x, w)
          b = com.microsoft.Gelu(a)  y = com.microsoft.BiasGelu(b, bias) }""")
    weight(model, "w", random(64, 64))
    weight(model, "bias", random(64))
    return model


def control_flow() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x, bool flag) => (float[N, 64] y) {
          y = If (flag) <
            then_branch = a () => (float[N, 64] t) { t = MatMul(x, w) },
            else_branch = b () => (float[N, 64] e) { h = MatMul(x, v)  e = Relu(h) }> }""")
    weight(model, "w", random(64, 64))
    weight(model, "v", random(64, 64))
    return model


def loop_with_weights_inside() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[2, 32] x) => (float[2, 32] y) <int64 n = {3}, bool go = {1}> {
          y = Loop (n, go, x) <body = b (int64 i, bool c, float[2, 32] s) => (bool c2, float[2, 32] r) {
            c2 = Identity(c)  h = MatMul(s, w)  r = Tanh(h) }> }""")
    weight(model, "w", random(32, 32))
    return model


def names_with_odd_characters() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("größe/輸入:0", TensorProto.FLOAT, ["batch size", 8])
    y = helper.make_tensor_value_info("a b\nc", TensorProto.FLOAT, ["batch size", 8])
    nodes = [
        helper.make_node("Relu", ["größe/輸入:0"], ["../h"], name=""),
        helper.make_node("MatMul", ["../h", "w;"], ["a b\nc"], name="$(x)"),
    ]
    graph = helper.make_graph(nodes, "graph/0", [x], [y], [numpy_helper.from_array(random(8, 8), "w;")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def metadata_and_doc_strings() -> onnx.ModelProto:
    model = parse("""<ir_version: 9, opset_import: ["": 17]>
        m (float[N, 8] x) => (float[N, 8] y) { a = Identity(x)  y = MatMul(a, w) }""")
    weight(model, "w", random(8, 8))
    model.producer_name, model.producer_version, model.domain, model.model_version = "somebody", "3", "org.some", 7
    model.doc_string = "what it is for"
    model.metadata_props.add(key="classes", value='["a", "b"]')
    model.graph.doc_string = "the graph"
    return model


def default_domain_written_out() -> onnx.ModelProto:
    model = parse("""<ir_version: 8, opset_import: ["": 17]>
        m (float[N, 64] x) => (float[N, 64] y) { a = Identity(x)  y = MatMul(a, w) }""")
    weight(model, "w", random(64, 64))
    model.opset_import[0].domain = "ai.onnx"
    return model


def _opset(version: int) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        text = f"""<ir_version: {3 if version < 9 else 8}, opset_import: ["": {version}]>
            m (float[1, 3, 16, 16] x{", float[8, 3, 3, 3] w, float[128, 10] f" if version < 9 else ""})
            => (float[1, 10] y) {{
              c = Conv(x, w)  r = Relu(c)  p = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(r)
              l = Flatten(p)  g = Gemm(l, f{", b" if version < 11 else ""})  y = Softmax(g) }}"""
        model = parse(text)
        if version < 9:
            model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [10]))
        if version >= 21:
            model.ir_version = 10
        weight(model, "w", random(8, 3, 3, 3))
        weight(model, "f", random(128, 10))
        if version < 11:
            weight(model, "b", random(10))
        return model

    build.__name__ = f"opset_{version}"
    return build


ODD_GRAPHS: tuple[Callable[[], onnx.ModelProto], ...] = (
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
    *(_opset(version) for version in range(7, onnx.defs.onnx_opset_version() + 1)),
)
