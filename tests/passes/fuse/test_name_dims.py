from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from pydantic import ValidationError

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import load_model, model_bytes, save_model
from modelopt_cli.passes.fuse.name_dims import NameDims
from modelopt_cli.pipeline.runner import CompressOptions, compress
from modelopt_cli.recipe.load import parse_recipe
from modelopt_cli.testing import model_from_text, run_pass


def model() -> ir.Model:
    return model_from_text(
        """g (float[unk_1,unk_2] x, float[unk_3,?] z, float[2] w) => (float[unk_1,unk_2] y, float[k,l] v) {
            y = Abs(x) v = Relu(z) o = Neg(w) }"""
    )


def shapes(found: ir.Model) -> dict[str, str]:
    return {value.name or "": str(value.shape) for value in (*found.graph.inputs, *found.graph.outputs)}


def test_a_name_is_changed_wherever_it_occurs_and_given_where_there_was_none() -> None:
    result = run_pass(NameDims(inputs={"x": ("batch", "seq"), "z": ("batch", "seq"), "w": (2,)}), model())
    expected = {"x": "[batch,seq]", "z": "[batch,seq]", "w": "[2]", "y": "[batch,seq]", "v": "[k,l]"}
    assert shapes(result.model) == expected
    assert result.changed > 0


def test_nothing_is_named_by_default() -> None:
    source = model()
    result = run_pass(NameDims(), source)
    assert result.changed == 0 and model_bytes(result.model) == model_bytes(source)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"xs": ("a", "b")}, "did you mean 'x'"),
        ({"x": ("a", "b", "c")}, "is unk_1xunk_2 and cannot be axbxc"),
        ({"w": (3,)}, "is 2 and cannot be 3"),
        ({"w": ("a",)}, "is 2 and cannot be a"),
        ({"x": ("a", 3)}, "dimension 'unk_2' of input 'x' is dynamic and cannot be named 3"),
    ],
)
def test_what_does_not_fit_is_refused(inputs: dict[str, tuple[str | int, ...]], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        run_pass(NameDims(inputs=inputs), model())
    assert message in str(refusal.value)


def test_one_dimension_has_one_name() -> None:
    text = "g (float[n] x, float[n] z) => (float[n] y) { y = Add(x, z) }"
    with pytest.raises(UsageError, match="dimension 'n' is to be a and b"):
        run_pass(NameDims(inputs={"x": ("a",), "z": ("b",)}), model_from_text(text))


@pytest.mark.parametrize("word", ["1a", "a b", "", "a-b"])
def test_a_name_is_a_word(word: str) -> None:
    with pytest.raises(ValidationError):
        NameDims(inputs={"x": (word,)})


RECIPE = """version: 1
name: named
steps:
  - pass: name-dims
    with: {inputs: {x: [batch, seq], z: [batch, seq]}}
  - pass: simplify
"""


def test_the_runner_allows_other_names(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.onnx")
    source = load_model(tmp_path / "m.onnx")
    result = compress(source, parse_recipe(RECIPE, "r.yaml"), CompressOptions(profile=False))
    assert shapes(result.model)["z"] == "[batch,seq]"
