from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.graph import edit
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types, run_model

CHAIN = """m (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
  a = Relu (x)
  y = Neg (a)
  z = Add (a, w)
}"""
FEEDS = {"x": np.array([[-1, 2, 3], [4, -5, 6]], np.float32)}


def chain() -> ir.Model:
    return model_from_text(CHAIN, w=np.ones(3, np.float32))


def test_constant_reads_initializers_and_constant_nodes_only() -> None:
    model = model_from_text(
        """m (float[2] x) => (float[2] y) {
          c = Constant <value = float[2] {1.0, 2.0}> ()
          s = Add (x, c)
          y = Mul (s, w) }""",
        w=np.array([3, 4], np.float32),
    )
    add, mul = [node for node in model.graph if node.op_type in ("Add", "Mul")]
    assert np.array_equal(edit.constant(add.inputs[1]), [1, 2])
    assert np.array_equal(edit.constant(mul.inputs[1]), [3, 4])
    assert edit.constant(add.inputs[0]) is None
    assert edit.constant(mul.inputs[0]) is None
    assert edit.constant(None) is None


@pytest.mark.parametrize(("array", "number"), [(np.array(2.5), 2.5), (np.array([[7]]), 7.0), (np.ones(2), None)])
def test_scalar_is_a_constant_of_one_element(array: np.ndarray, number: float | None) -> None:
    model = model_from_text("m (float[2] x) => (float[2] y) { y = Mul (x, w) }", w=array.astype(np.float32))
    assert edit.scalar(next(iter(model.graph)).inputs[1]) == number


def test_names_are_fresh_also_after_an_edit() -> None:
    model = chain()
    assert edit.fresh_name(model.graph, "new") == "new"
    assert edit.fresh_name(model.graph, "new") == "new_2"
    assert edit.fresh_name(model.graph, "a") not in {"a", "x", "y", "z", "w"}


def test_replacing_a_weight_leaves_the_old_array_alone() -> None:
    model = chain()
    clone = model.clone()
    edit.replace_weight(clone.graph.initializers["w"], np.full(3, 5, np.float32))
    assert np.array_equal(edit.constant(model.graph.initializers["w"]), [1, 1, 1])
    assert np.array_equal(run_model(clone, FEEDS)["z"] - run_model(model, FEEDS)["z"], np.full((2, 3), 4))


def test_an_added_node_and_weight_make_a_valid_model() -> None:
    model = chain()
    add = next(node for node in model.graph if node.op_type == "Add")
    weight = edit.add_weight(model.graph, "w", np.full(3, 2, np.float32))
    scaled = edit.add_node(model.graph, add, "Mul", [add.inputs[0], weight], stem="scaled")
    add.replace_input_with(0, scaled)
    onnx.checker.check_model(model_bytes(model), full_check=True)
    assert np.allclose(run_model(model, FEEDS)["z"], 2 * np.maximum(FEEDS["x"], 0) + 1, rtol=0, atol=1e-6)


def test_a_replaced_graph_output_keeps_its_public_name() -> None:
    model = model_from_text("m (float[2, 3] x) => (float[2, 3] y) { a = Relu (x)  y = Identity (a) }")
    before = model.clone()
    identity = next(node for node in model.graph if node.op_type == "Identity")
    source = identity.inputs[0]
    assert source is not None
    edit.replace_output(identity.outputs[0], source)
    edit.remove_dead(model.graph, [identity])
    assert op_types(model) == ["Relu"]
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert_same_outputs(before, model, FEEDS, rtol=0, atol=0)


def test_dead_producers_go_with_their_reader_and_living_ones_stay() -> None:
    model = model_from_text("m (float[2] x) => (float[2] y) { a = Relu (x)  b = Neg (a)  c = Abs (b)  y = Exp (a) }")
    edit.remove_dead(model.graph, [node for node in model.graph if node.op_type == "Abs"])
    assert op_types(model) == ["Relu", "Exp"]


def test_only_reader_wants_exactly_one_use() -> None:
    model = chain()
    relu = next(iter(model.graph))
    assert edit.only_reader(relu.outputs[0]) is None  # two readers
    neg = next(node for node in model.graph if node.op_type == "Neg")
    assert edit.only_reader(neg.outputs[0]) is None  # a graph output
    single = model_from_text("m (float[2] x) => (float[2] y) { a = Relu (x)  y = Neg (a) }")
    first, second = single.graph
    assert edit.only_reader(first.outputs[0]) is second


def test_all_graphs_are_those_of_every_body_the_outer_ones_first() -> None:
    nested = model_from_text("""g (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
          then_branch = a () => (float[2] t) { t = If (c) <
            then_branch = d () => (float[2] p) { p = Relu(x) },
            else_branch = e () => (float[2] q) { q = Neg(x) }> },
          else_branch = b () => (float[2] u) { u = Abs(x) }> }""")
    found = edit.all_graphs(nested)
    assert sorted(graph.name or "" for graph in found) == ["a", "b", "d", "e", "g"]
    assert found == list(nested.graphs())
