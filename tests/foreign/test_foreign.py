"""Other exporters' models: every command works or refuses in one line; nothing crashes or writes an invalid model."""

from __future__ import annotations

import pytest

from benchmarks.foreign import COMMANDS, Foreign, Outcome, try_model
from benchmarks.foreign_models import WHEELS, backend_models, odd_models, wheel_models

QUICK = ("fuse",)
ODD = list(odd_models())
ONE_EACH = [model for model in ODD if not model.name.startswith("opset")]
WHEEL_MODELS = list(wheel_models())
REFUSED = {  # group odd; everything else must work
    "sequence input": "is of type sequence: only tensors can be fed",
    "map output": "Map types are not supported",
    "no declared shapes": "declares no shape",
    "unknown rank input": "declares no shape",
    "custom operator": "operator 'Secret' of domain 'com.nobody' is not known",
}


def hold(outcomes: list[Outcome]) -> None:
    assert not [(each.command, each.broken) for each in outcomes if each.broken]


@pytest.mark.parametrize("model", ONE_EACH, ids=lambda model: model.name)
def test_odd_model(model: Foreign) -> None:
    (outcome,) = try_model(model, QUICK)
    hold([outcome])
    if model.name in REFUSED:
        assert outcome.code and REFUSED[model.name] in outcome.said
    else:
        assert outcome.code == 0, outcome.said


@pytest.mark.slow
@pytest.mark.parametrize("model", ODD, ids=lambda model: model.name)
def test_odd_model_with_every_command(model: Foreign) -> None:
    hold(try_model(model))


@pytest.mark.slow
@pytest.mark.skipif(not WHEEL_MODELS, reason=f"the wheels' models are not in {WHEELS.name}: make foreign")
@pytest.mark.parametrize("model", WHEEL_MODELS, ids=lambda model: model.name)
def test_every_command_succeeds_on_the_models_of_the_wheels(model: Foreign) -> None:
    outcomes = try_model(model)
    hold(outcomes)
    assert [each.code for each in outcomes] == [0] * len(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("model", list(backend_models("simple")), ids=lambda model: model.name)
def test_model_of_the_onnx_project(model: Foreign) -> None:
    hold(try_model(model))
