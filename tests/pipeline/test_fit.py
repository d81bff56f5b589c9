"""No result is larger than its source: the stamp and the types of inner tensors give way, in that file only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli import CompressOptions, compress, load_model, load_recipe, open_dataset
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.pipeline.fit import fitted
from modelopt_cli.pipeline.provenance import FIELDS
from modelopt_cli.testing import model_from_text

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
TINY = {
    "relu": ("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }", {}, (8, 4)),
    "product": ("g (float[1,8] x) => (float[1,8] y) { h = MatMul(x, w) y = Relu(h) }", {"w": (8, 8)}, (8, 8)),
    "two products": (
        "g (float[n,32] x) => (float[n,32] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }",
        {"w": (32, 32), "v": (32, 32)},
        (8, 32),
    ),
}
RECIPES = ("fuse", "int8", "codebook-4", "fp16", "prune-int8")


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", TINY)
def test_no_result_is_larger_than_its_source(name: str, recipe: str, tmp_path: Path) -> None:
    text, weights, samples = TINY[name]
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(HEAD + text)
    for key, shape in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), key))
    onnx.save(proto, tmp_path / "net.onnx")
    np.savez(tmp_path / "calib.npz", x=rng.standard_normal(samples).astype(np.float32))
    source = load_model(tmp_path / "net.onnx")
    unmeasured = ["steps.quantize.budget=0"] if recipe.endswith("int8") else []
    done = compress(
        source,
        load_recipe(recipe, overrides=unmeasured),
        CompressOptions(calibration=open_dataset(tmp_path / "calib.npz"), profile=False),
    )
    assert done.content is not None
    assert len(done.content) <= source.file_bytes
    stamped = any(key.startswith("modelopt.") for key in done.model.metadata_props)
    told = [each.code for each in done.report.notices if each.code == "stamp-shortened"]
    assert bool(told) or stamped


def _stamped(model: ir.Model, count: int = len(FIELDS)) -> ir.Model:
    for name in FIELDS[:count]:
        model.metadata_props[f"modelopt.{name}"] = "x" * 50
    return model


def _two_nodes() -> ir.Model:
    return model_from_text(HEAD + "g (float[1,4] x) => (float[1,4] y) { h = Relu(x) y = Neg(h) }")


@pytest.mark.parametrize("count", range(len(FIELDS) + 1))
def test_the_stamp_keeps_as_much_as_fits(count: int) -> None:
    largest = len(model_bytes(_stamped(_two_nodes(), count)))
    content, left_out = fitted(_stamped(_two_nodes()), largest)
    assert left_out == FIELDS[count:]
    assert content.size == largest
    assert {p.key for p in onnx.load_from_string(content.join()).metadata_props} == {
        f"modelopt.{n}" for n in FIELDS[:count]
    }


def test_a_file_that_is_much_larger_anyway_keeps_its_stamp_where_it_is_small_beside_it() -> None:
    model = model_from_text(
        HEAD + "g (float[1,400] x) => (float[1,400] y) { y = MatMul(x, w) }", w=np.ones((400, 400), np.float32)
    )
    content, left_out = fitted(_stamped(model), 600_000)
    assert left_out == () and content.join() == model_bytes(model)
    assert fitted(model, 9_000)[1] == FIELDS[1:]


def test_types_of_inner_tensors_go_where_that_is_enough() -> None:
    proto = onnx.parser.parse_model(HEAD + "g (float[1,4] x) => (float[1,4] y) { h = Relu(x) y = Neg(h) }")
    typed = onnx.shape_inference.infer_shapes(proto)
    content, left_out = fitted(_stamped(ir.from_proto(typed)), proto.ByteSize())
    assert left_out == FIELDS and not onnx.load_from_string(content.join()).graph.value_info
    in_vain, _ = fitted(_stamped(ir.from_proto(typed)), 20)
    assert onnx.load_from_string(in_vain.join()).graph.value_info
