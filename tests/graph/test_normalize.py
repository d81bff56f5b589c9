from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelopt_cli.errors import ModelError
from modelopt_cli.graph.edit import constant
from modelopt_cli.graph.io import model_bytes, parse_model
from modelopt_cli.graph.normalize import normalize

TEXT = """<ir_version: 8, opset_import: ["": 17]>
m (float[N, 4] x) => (float[N, 2] y) { y = MatMul(x, w) }"""
DENSE = np.zeros((4, 2), np.float32)
DENSE[0, 1], DENSE[3, 0] = 0.5, -1.0


def sparse(indices: np.ndarray) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([0.5, -1.0], np.float32), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(indices, "i"), [4, 2])


@pytest.mark.parametrize("indices", [[1, 6], [[0, 1], [3, 0]]], ids=["flat", "coordinates"])
@pytest.mark.parametrize("kind", ["initializer", "constant"])
def test_sparse_weights_become_dense_ones(kind: str, indices: list) -> None:
    model = onnx.parser.parse_model(TEXT)
    tensor = sparse(np.array(indices, np.int64))
    if kind == "initializer":
        model.graph.sparse_initializer.append(tensor)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=tensor))
    loaded = parse_model(model.SerializeToString()).model
    (product,) = [node for node in loaded.graph if node.op_type == "MatMul"]
    found = constant(product.inputs[1])
    np.testing.assert_array_equal(found, DENSE)
    onnx.checker.check_model(model_bytes(loaded), full_check=True)


def test_a_sparse_weight_with_an_index_outside_is_refused() -> None:
    model = onnx.parser.parse_model(TEXT)
    model.graph.sparse_initializer.append(sparse(np.array([1, 8], np.int64)))
    with pytest.raises(ModelError, match="index outside"):
        parse_model(model.SerializeToString())


def test_the_default_domain_written_out_means_the_same() -> None:
    model = onnx.parser.parse_model(TEXT.replace("MatMul(x, w)", "Concat<axis = 1>(x, x)").replace("N, 2", "N, 8"))
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    loaded = parse_model(model.SerializeToString()).model
    assert dict(loaded.opset_imports) == {"": 17}
    assert [node.domain for node in loaded.graph] == [""]


def test_what_is_normal_stays_as_it_is() -> None:
    model = onnx.parser.parse_model(TEXT)
    before = model.SerializeToString()
    assert not normalize(model)
    assert model.SerializeToString() == before


def test_map_types_are_refused_with_the_way_out() -> None:
    maps = helper.make_map_type_proto(onnx.TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    output = helper.make_value_info("maps", helper.make_sequence_type_proto(maps))
    node = helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    inputs = [helper.make_tensor_value_info("x", 1, ["N", 2])]
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(helper.make_graph([node], "m", inputs, [output]), opset_imports=opsets, ir_version=8)
    with pytest.raises(ModelError, match="Map types") as refused:
        parse_model(model.SerializeToString())
    assert "zipmap=False" in refused.value.hint
