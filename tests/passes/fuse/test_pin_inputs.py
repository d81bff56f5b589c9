from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import load_model, model_bytes, save_model
from modelopt_cli.passes.fuse.pin_inputs import PinInputs
from modelopt_cli.pipeline.runner import CompressOptions, compress
from modelopt_cli.recipe.load import parse_recipe
from modelopt_cli.testing import model_from_text, op_types, run_pass


def model() -> ir.Model:
    return model_from_text(
        """g (float[batch,seq] x, float[batch,?] z, float[2] w) => (float[batch,seq] y, float[batch,k] v) {
            s = Shape(x) e = Expand(w0, s) u = Mul(x, e) y = Add(u, u) v = Relu(z) o = Neg(w) }""",
        w0=np.float32([[3]]),
    )


def shapes(found: ir.Model) -> dict[str, str]:
    return {value.name or "": str(value.shape) for value in (*found.graph.inputs, *found.graph.outputs)}


def test_a_dimension_is_fixed_wherever_its_name_occurs() -> None:
    result = run_pass(PinInputs(shapes={"x": (2, 3)}), model())
    assert shapes(result.model) == {"x": "[2,3]", "z": "[2,None]", "w": "[2]", "y": "[2,3]", "v": "[2,k]"}
    assert result.changed > 0


def test_nothing_is_pinned_by_default() -> None:
    source = model()
    result = run_pass(PinInputs(), source)
    assert result.changed == 0 and model_bytes(result.model) == model_bytes(source)


@pytest.mark.parametrize(
    ("pinned", "message"),
    [
        ({"xs": (2, 3)}, "did you mean 'x'"),
        ({"x": (2, 3, 4)}, "is batchxseq and cannot be 2x3x4"),
        ({"w": (3,)}, "is 2 and cannot be 3"),
        ({"x": (2, 3), "z": (4, 3)}, "dimension 'batch' is to be 2 and 4"),
    ],
)
def test_what_does_not_fit_is_refused(pinned: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        run_pass(PinInputs(shapes=pinned), model())
    assert message in str(refusal.value)


RECIPE = """version: 1
name: pinned
steps:
  - pass: pin-inputs
    with: {shapes: {x: [2, 3], z: [2, 4]}}
  - pass: simplify
"""


def test_the_runner_allows_it_and_runs_the_model_on_these_shapes(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.onnx")
    source = load_model(tmp_path / "m.onnx")
    result = compress(source, parse_recipe(RECIPE, "r.yaml"), CompressOptions(profile=False))
    assert shapes(result.model)["y"] == "[2,3]"
    assert "Shape" not in op_types(result.model) and "Shape" in op_types(source.model)
    with pytest.raises(UsageError, match="pinned to another shape"):
        options = CompressOptions(profile=False, shapes={"x": [1, 3]})
        compress(source, parse_recipe(RECIPE, "r.yaml"), options)
