"""The pieces of a file are what protobuf itself would write, to the byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.graph.io import load_model
from modelopt_cli.graph.serialize import serialize
from modelopt_cli.testing import model_from_text

LARGE, SMALL = (130, 130), (3, 4)
HEAD = '<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 4]>\n'
TYPES = [np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32, np.int64, np.bool_]


def whole(model: ir.Model) -> bytes:
    """As protobuf writes it, without the types of initializers, which onnx_ir repeats."""
    proto = ir.to_proto(model)
    known = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.value_info if value.name not in known]
    proto.graph.ClearField("value_info")
    proto.graph.value_info.extend(kept)
    return proto.SerializeToString(deterministic=True)


@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.booleans(), st.booleans()), max_size=4),
    st.booleans(),
)
def test_every_byte_is_protobufs(tensors: list[tuple[type, bool, bool]], described: bool) -> None:
    model = model_from_text(HEAD + "g (float[1,4] x) => (float[1,4] y) { h = Relu(x) y = Neg(h) }")
    for index, (dtype, large, documented) in enumerate(tensors):
        array = np.arange(np.prod(LARGE if large else SMALL)).reshape(LARGE if large else SMALL).astype(dtype)
        tensor = ir.Tensor(array, name=f"t{index}", doc_string="about it" if documented else None)
        if documented:
            tensor.metadata_props["origin"] = "a test"
        model.graph.initializers[f"t{index}"] = ir.Value(
            name=f"t{index}", const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype)
        )
    if described:
        model.doc_string, model.graph.doc_string, model.producer_name = "a model", "a graph", "tests"
        model.metadata_props["key"] = "value"
    expected = whole(model)
    found = serialize(model)
    assert found.join() == expected
    assert found.size == len(expected)
    assert {
        name for name, v in model.graph.initializers.items() if isinstance(v.const_value, ir.ExternalTensor)
    } == set()


def test_external_weights_are_read_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in (("w", LARGE), ("v", (130, 3)))}
    model = model_from_text(
        HEAD + "g (float[1,130] x) => (float[1,3] y) { h = MatMul(x, w) y = MatMul(h, v) }", **weights
    )
    inside = serialize(model).join()
    onnx.save(
        onnx.load_from_string(inside),
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    source = load_model(tmp_path / "net.onnx")
    assert source.uses_external_data
    assert serialize(source.model).join() == inside
    assert source.uses_external_data  # still


def test_a_tensor_that_two_initializers_share_is_written_under_both_names() -> None:
    array = np.random.default_rng(0).standard_normal(LARGE).astype(np.float32)
    text = HEAD + "g (float[1,130] x) => (float[1,130] y) { h = MatMul(x, w) y = MatMul(h, v) }"
    model = model_from_text(text, w=array, v=array)
    shared = ir.Tensor(array, name="neither")
    for value in model.graph.initializers.values():
        value.const_value = shared
    assert serialize(model).join() == whole(model)
    read = onnx.load_from_string(serialize(model).join()).graph.initializer
    assert [tensor.name for tensor in read] == ["w", "v"]
    assert all(np.array_equal(onnx.numpy_helper.to_array(tensor), array) for tensor in read)


def test_types_of_inner_tensors_can_be_left_out() -> None:
    proto = onnx.parser.parse_model(HEAD + "g (float[1,4] x) => (float[1,4] y) { h = Relu(x) y = Neg(h) }")
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    assert onnx.load_from_string(serialize(model).join()).graph.value_info
    assert not onnx.load_from_string(serialize(model, types=False).join()).graph.value_info


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_an_array_in_memory_does_not_matter(order: str) -> None:
    array = np.asarray(np.arange(130 * 130, dtype=np.float32).reshape(LARGE), order=order)
    model = model_from_text(HEAD + "g (float[1,130] x) => (float[1,130] y) { y = MatMul(x, w) }", w=array)
    read = onnx.load_from_string(serialize(model).join())
    assert np.array_equal(onnx.numpy_helper.to_array(read.graph.initializer[0]), array)
