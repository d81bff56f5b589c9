"""Recurrent layers whose states nothing reads but the last: pruned and fitted like those whose states are read."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from modelopt_cli.graph.io import load_model
from modelopt_cli.passes.prune.structured.recovery import with_first_outputs


@pytest.fixture
def fused(samples: Path) -> ir.Model:
    """The sample LSTM as `fuse` leaves it: without its first output."""
    model = load_model(samples / "digits_lstm" / "model.onnx").model
    recurrent(model).outputs[0].name = ""
    return model


def recurrent(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "LSTM")


def test_the_first_output_is_there_again_in_a_clone(fused: ir.Model) -> None:
    named = with_first_outputs(fused)
    assert recurrent(named).outputs[0].name
    assert recurrent(fused).outputs[0].name == ""


def test_other_models_are_left_alone(samples: Path) -> None:
    model = load_model(samples / "digits_resnet" / "model.onnx").model
    assert with_first_outputs(model) is model
