"""The recipes that come with the program: they load, and each says what it is."""

from __future__ import annotations

import pytest

from modelopt_cli.recipe.builtin import builtin_recipes
from modelopt_cli.recipe.load import load_recipe

STEPS = {
    "codebook-4": ["simplify", "fuse", "codebook"],
    "fp16": ["simplify", "fuse", "convert-float16"],
    "fuse": ["simplify", "fuse"],
    "int4-weights": ["simplify", "fuse", "quantize-weights"],
    "int8": ["simplify", "fuse", "quantize"],
    "int8-dynamic": ["simplify", "fuse", "quantize-dynamic"],
    "int8-weights": ["simplify", "fuse", "quantize-weights"],
    "max-accuracy": ["simplify", "fuse", "quantize"],
    "min-size": ["simplify", "fuse", "prune", "quantize"],
    "prune-30-macs": ["simplify", "fuse", "prune-channels"],
    "prune-50": ["simplify", "fuse", "prune"],
    "prune-int8": ["simplify", "fuse", "prune", "quantize"],
    "prune-packed": ["simplify", "fuse", "prune", "quantize-weights", "pack-sparse"],
    "smallest": ["simplify", "fuse", "codebook"],
}


def test_there_are_these() -> None:
    assert list(builtin_recipes()) == list(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_it_loads_under_its_own_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert [step.name for step in recipe.steps] == STEPS[name]
    in_few_bits = any("quantize" in step or step in ("codebook", "convert-float16") for step in STEPS[name])
    assert recipe.dialect == ("onnxruntime" if in_few_bits else "onnx")


@pytest.mark.parametrize("name", STEPS)
def test_it_opens_with_a_description(name: str) -> None:
    recipe = builtin_recipes()[name]
    assert recipe.path.read_text().startswith(f"# {recipe.description}\n")
    assert len(recipe.description) > 30
