"""What a recipe means once it is read: round trips, defaults, families, dialect."""

from __future__ import annotations

import json
from typing import ClassVar

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.errors import RecipeError, UsageError
from modelopt_cli.passes import registry
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.prune.prune_magnitude import PruneMagnitude
from modelopt_cli.recipe.load import parse_recipe, recipe_text
from modelopt_cli.recipe.schema import Recipe

SHARES = st.floats(0.001, 0.999)
WORDS = st.text(min_size=1, max_size=8)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,10}\Z")


def section(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=fields)


STEPS = st.builds(
    lambda options: {"pass": "prune-magnitude", "with": options},
    section(
        sparsity=SHARES, scope=st.sampled_from(["layer", "global"]), include=st.lists(WORDS), exclude=st.lists(WORDS)
    ),
)
RECIPES = st.builds(
    lambda required, rest: Recipe.model_validate_json(json.dumps({"version": 1, **required, **rest})),
    st.fixed_dictionaries({"name": NAMES, "steps": st.lists(STEPS, min_size=1, max_size=3)}),
    section(
        seed=st.integers(0, 2**63 - 1),
        target=section(isa=st.sampled_from(["auto", "avx2"]), max_opset=st.none() | st.integers(7, 30)),
        data=section(calibration=section(path=WORDS, samples=st.integers(1, 9999)), evaluation=section(metric=WORDS)),
        profile=section(batch=st.lists(st.integers(1, 64), min_size=1), seconds=st.floats(1e-6, 1e6)),
        require=section(max_accuracy_drop=SHARES, min_speedup=SHARES, min_sqnr=st.floats(-1e9, 1e9)),
    ),
)


@given(RECIPES)
def test_text_and_back(recipe: Recipe) -> None:
    text = recipe_text(recipe)
    assert parse_recipe(text) == recipe
    assert recipe_text(parse_recipe(text)) == text


@pytest.mark.parametrize("word", ["$A", "$$A", "$$$a-b", "$", "a$A", "$A b"])
def test_text_that_looks_like_a_variable_stays_text(word: str) -> None:
    step = {"pass": "prune-magnitude", "with": {"exclude": [word]}}
    recipe = Recipe.model_validate_json(json.dumps({"version": 1, "name": "a", "steps": [step]}))
    assert parse_recipe(recipe_text(recipe)) == recipe
    assert parse_recipe(json.dumps(recipe.resolved())).passes() == recipe.passes()


@given(RECIPES)
def test_a_resolved_recipe_is_a_recipe_of_the_same_passes(recipe: Recipe) -> None:
    again = parse_recipe(json.dumps(recipe.resolved()))
    assert again.passes() == recipe.passes()
    assert again.resolved() == recipe.resolved()


class Quantizing(Pass):
    """Stand in for a pass of the quantize family."""

    name = "quantize"
    family = "quantize"
    effect = "lossy"
    bits: int = 8
    instances: ClassVar[int] = 0

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        return PassResult(model, 0)


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(registry.BUILTIN, "quantize", f"{__name__}:Quantizing")
    return parse_recipe("version: 1\nname: both\nsteps: [{pass: prune-magnitude}, {pass: quantize}]\n")


def test_defaults_of_passes_are_in_the_resolved_recipe(two_families: Recipe) -> None:
    resolved = two_families.resolved()
    assert resolved["steps"] == [
        {"pass": "prune-magnitude", "with": {"sparsity": 0.5, "scope": "layer", "include": [], "exclude": []}},
        {"pass": "quantize", "with": {"bits": 8}},
    ]
    assert resolved["seed"] == 0
    assert resolved["data"]["calibration"] == {"path": None, "samples": 256}


def test_a_family_is_the_recipe_with_its_steps_only(two_families: Recipe) -> None:
    assert two_families.family("prune").passes() == [PruneMagnitude()]
    assert [step.name for step in two_families.family("quantize").steps] == ["quantize"]
    with pytest.raises(UsageError, match=r"recipe both: has no fuse step \(it has: prune-magnitude, quantize"):
        two_families.family("fuse")


def test_the_dialect_follows_from_steps_and_provider_unless_written(two_families: Recipe) -> None:
    text = recipe_text(two_families)
    assert two_families.dialect == "onnxruntime"
    assert two_families.family("prune").dialect == "onnx"
    assert parse_recipe(text, overrides=["target.provider=openvino"]).dialect == "onnx"
    assert parse_recipe(text, overrides=["target.dialect=onnx"]).dialect == "onnx"
    assert two_families.resolved()["target"]["dialect"] == "onnxruntime"


def test_a_family_keeps_the_folder_of_its_data(two_families: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    text = recipe_text(two_families) + "data: {calibration: {path: c.npz}}\n"
    assert parse_recipe(text, folder=folder).family("prune").calibration_path == folder / "c.npz"


def test_a_recipe_made_in_python_is_checked_when_its_passes_are_asked_for() -> None:
    recipe = Recipe.model_validate(
        {"version": 1, "name": "x", "steps": [{"pass": "prune-magnitude", "with": {"a": 1}}]}
    )
    with pytest.raises(RecipeError, match=r"^steps\[0\].with.a: unknown key"):
        recipe.passes()
