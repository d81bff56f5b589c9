from __future__ import annotations

import pytest

from modelopt_cli.errors import RecipeError
from modelopt_cli.recipe.load import load_recipe, parse_recipe, recipe_text

INCLUDE = """version: 1
name: mine
vars: {share: 0.4}
steps:
  - include: fuse
  - pass: prune-magnitude
    with: {sparsity: $share}
"""


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text, "r.yaml", overrides=overrides)
    return list(refused.value.problems)


def test_the_steps_of_a_built_in_stand_where_it_is_included() -> None:
    recipe = parse_recipe(INCLUDE)
    assert [step.name for step in recipe.steps] == [*(s.name for s in load_recipe("fuse").steps), "prune-magnitude"]
    assert recipe.steps[-1].options == {"sparsity": 0.4}
    assert parse_recipe(recipe_text(recipe)) == recipe  # what is written out needs neither


def test_variables_and_included_steps_can_be_overridden() -> None:
    assert parse_recipe(INCLUDE, overrides=["vars.share=0.7"]).steps[-1].options == {"sparsity": 0.7}
    text = INCLUDE.replace("include: fuse", "include: prune-50")
    changed = parse_recipe(text, overrides=["steps.prune.sparsity=0.3"])
    assert {step.options["sparsity"] for step in changed.steps if step.name == "prune"} == {0.3}


def test_a_variable_keeps_its_type_and_text_can_be_escaped() -> None:
    text = "version: 1\nname: $name\nvars: {name: my, n: 3}\nseed: $n\nsteps: [{pass: fuse}]\n"
    recipe = parse_recipe(text)
    assert (recipe.name, recipe.seed) == ("my", 3)
    assert 'got "$name"' in mistakes(text.replace("name: $name", "name: $$name"))[0]


def test_mistakes_after_an_include_keep_their_lines() -> None:
    assert mistakes(INCLUDE.replace("$share", "2"))[0].startswith("r.yaml:7:22: ")
    (unknown,) = mistakes(INCLUDE.replace("include: fuse", "include: fus"))
    assert unknown.startswith("r.yaml:5:14: ") and "did you mean 'fuse'" in unknown
    (alone,) = mistakes(INCLUDE.replace("- include: fuse", "- include: fuse\n    with: {}"))
    assert "include stands alone" in alone


def test_an_unknown_variable_is_named_with_its_place() -> None:
    (line, *rest) = mistakes(INCLUDE.replace("$share", "$shar"))
    assert line.startswith("r.yaml:7:22: ") and "did you mean 'share'" in line and not rest


@pytest.mark.parametrize("value", ["[1]", "{a: 1}", "$other"])
def test_a_variable_is_one_value(value: str) -> None:
    assert any("vars.share: must be" in line for line in mistakes(INCLUDE.replace("0.4", value)))
