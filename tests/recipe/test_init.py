from __future__ import annotations

import re

import numpy as np
import pytest

from modelopt_cli.recipe.builtin import builtin_recipes
from modelopt_cli.recipe.init import first_recipe
from modelopt_cli.recipe.json_schema import recipe_json_schema
from modelopt_cli.recipe.load import load_recipe, parse_recipe
from modelopt_cli.testing import model_from_text

CONV = model_from_text(
    "g (float[n,3,8,8] x) => (float[n,4,6,6] y) { y = Conv(x, w) }", w=np.zeros((4, 3, 3, 3), np.float32)
)
PRODUCT = model_from_text("g (float[n,4] x) => (float[n,4] y) { y = MatMul(x, w) }", w=np.zeros((4, 4), np.float32))
QUANTIZED = model_from_text(
    "g (float[n,4] x) => (float[n,4] y) <float s = {0.1}, uint8 z = {0}>"
    "{ q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }"
)
POINTWISE = model_from_text("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }")


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        (CONV, ["simplify", "fuse", "quantize"]),
        (PRODUCT, ["simplify", "fuse", "quantize-dynamic"]),
        (QUANTIZED, ["simplify", "fuse"]),
        (POINTWISE, ["simplify", "fuse"]),
    ],
    ids=["conv", "product", "quantized", "pointwise"],
)
def test_the_steps_suit_the_model(model, steps: list[str]) -> None:
    text = first_recipe(model, "mine")
    assert [step.name for step in parse_recipe(text).steps] == steps
    assert "# Inputs: x float32[n, " in text
    assert ("images:" in text) == (model is CONV)
    assert all(len(line) <= 120 for line in text.splitlines())


def test_what_is_commented_out_can_be_switched_on() -> None:
    text = re.sub(r"^( *)# (?=data:|  \w+: \{|require|- pass|  with)", r"\1", first_recipe(CONV, "mine"), flags=re.M)
    recipe = parse_recipe(text)
    assert recipe.data.images is not None and recipe.data.images.crop == 224
    assert recipe.require.max_size_ratio == 0.5 and recipe.steps[-1].name == "prune"


def test_every_built_in_is_valid_and_the_schema_knows_what_it_says() -> None:
    schema = recipe_json_schema()
    passes = {
        option["properties"]["pass"]["const"]: option["properties"]["with"]["properties"]
        for option in schema["$defs"]["Step"]["anyOf"]
        if "pass" in option["properties"]
    }
    for name in builtin_recipes():
        for step in load_recipe(name).steps:
            assert step.options.keys() <= passes[step.name].keys()
    assert {"version", "name", "vars", "steps", "data"} <= schema["properties"].keys()
    assert "max-accuracy" in builtin_recipes() and "min-size" in builtin_recipes()
