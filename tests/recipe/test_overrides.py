"""``--set KEY=VALUE``."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli.errors import RecipeError
from modelopt_cli.recipe.load import parse_recipe
from modelopt_cli.recipe.schema import Recipe

TWICE = """\
version: 1
name: twice
steps:
  - pass: prune-magnitude
    with: {sparsity: 0.3}
  - pass: prune-magnitude
"""


def with_set(*overrides: str) -> Recipe:
    return parse_recipe(TWICE, "r.yaml", folder=Path("/elsewhere"), overrides=overrides)


def sparsities(recipe: Recipe) -> list[object]:
    return [step.options.get("sparsity") for step in recipe.steps]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps.prune-magnitude.sparsity=0.6", [0.6, 0.6]),
        ("steps[1].sparsity=0.6", [0.3, 0.6]),
        ("steps[0].with.sparsity=6e-1", [0.6, None]),
        ("steps.prune-magnitude.with.sparsity = 0.6", [0.6, 0.6]),
    ],
)
def test_options_of_steps(override: str, expected: list[object]) -> None:
    assert sparsities(with_set(override)) == expected


def test_values_of_sections_are_yaml() -> None:
    recipe = with_set("seed=3", "target.isa=avx2", "require.min_speedup=1.2", "profile.batch=[1, 8]")
    assert (recipe.seed, recipe.target.isa, recipe.require.min_speedup, recipe.profile.batch) == (
        3,
        "avx2",
        1.2,
        (1, 8),
    )


def test_the_last_of_two_counts() -> None:
    assert sparsities(with_set("steps[0].sparsity=0.1", "steps.prune-magnitude.sparsity=0.2")) == [0.2, 0.2]


def test_a_data_path_on_the_command_line_is_seen_from_there() -> None:
    assert with_set("data.calibration.path=a.npz").calibration_path == Path.cwd() / "a.npz"
    assert with_set("data.calibration.path=/a.npz").calibration_path == Path("/a.npz")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps.prune-magnitud.sparsity=0.6", "has no step 'prune-magnitud'; did you mean 'prune-magnitude'?"),
        ("steps[2].sparsity=0.6", "the last step of the recipe is steps[1]"),
        ("steps.prune-magnitude=0.6", "expected steps.PASS.OPTION=VALUE"),
        ("steps=1", "expected steps.PASS.OPTION=VALUE"),
        ("seed", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("seed.x=3", "seed: must be a whole number"),
        ("name.x=3", "name is a value, not a section"),
        ("profile.batch[0]=3", "only steps are counted"),
        ("steps[0].include=[*head]", "needs quotes"),
        ("name=yes", "YAML readers disagree on an unquoted yes"),
        ("steps[0].sparsty=0.6", "steps[0].with.sparsty: unknown key; did you mean 'sparsity'?"),
        ("steps[0].sparsity=2", "steps[0].with.sparsity: must be less than 1 (got 2)"),
        ("requre.min_speedup=2", "requre: unknown key; did you mean 'require'?"),
        ("require.min_speed=2", "require.min_speed: unknown key; did you mean 'min_speedup'?"),
        ("target=avx2", 'target: must be a mapping (got "avx2")'),
        ("seed=", "seed: must be a whole number (got nothing)"),
    ],
)
def test_an_override_that_fits_nothing_says_so(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        with_set(override)
    assert caught.value.problems[0].startswith(f"--set {override}: ")
    assert message in caught.value.problems[0]
    assert len(caught.value.problems) == 1


def test_overrides_and_the_file_are_reported_together() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(TWICE + "sed: 1\n", "r.yaml", overrides=["seed=x", "steps.foo.bar=1"])
    assert [line.split(": ")[0] for line in caught.value.problems] == [
        "r.yaml:7:1",
        "--set steps.foo.bar=1",
        "--set seed=x",
    ]
