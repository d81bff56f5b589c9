"""Recurrent layers of which only the last state is read, as `fuse` leaves them, are pruned like all others."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.files import open_dataset
from modelopt_cli.graph.io import load_model, model_bytes
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.passes.prune.layer_study import study_layers
from modelopt_cli.passes.prune.prune import Prune
from modelopt_cli.passes.prune.states import all_states
from modelopt_cli.progress import Silent
from modelopt_cli.testing import run_pass


@pytest.fixture(scope="module")
def fused(samples: Path) -> ir.Model:
    model = load_model(samples / "digits_lstm" / "model.onnx").model
    for step in (Simplify(), Fuse()):
        model = run_pass(step, model).model
    assert states(model).name == ""
    return model


@pytest.fixture(scope="module")
def data(samples: Path, fused: ir.Model) -> Dataset:
    return bind(open_dataset(str(samples / "digits_lstm" / "calib.npz")), fused).take(16)


def states(model: ir.Model) -> ir.Value:
    return next(node for node in model.graph if node.op_type == "LSTM").outputs[0]


def test_they_are_named_for_a_while(fused: ir.Model) -> None:
    before = model_bytes(fused)
    with all_states(fused) as names:
        assert [states(fused).name] == names
    assert model_bytes(fused) == before


def test_what_fails_inside_leaves_the_model_as_it_was(fused: ir.Model) -> None:
    before = model_bytes(fused)
    with pytest.raises(RuntimeError), all_states(fused):
        raise RuntimeError
    assert model_bytes(fused) == before


def test_their_weights_are_pruned(fused: ir.Model, data: Dataset) -> None:
    done = run_pass(Prune(sparsity=0.5), fused, calibration=data)
    node = next(node for node in done.model.graph if node.op_type == "LSTM")
    for value in node.inputs[1:3]:
        assert value is not None and value.const_value is not None
        assert (value.const_value.numpy() == 0).mean() > 0.3
    assert states(done.model).name == ""


def test_their_sensitivity_is_studied(fused: ir.Model, data: Dataset) -> None:
    study = study_layers(fused, data, [0.5], None, deadline=float("inf"), progress=Silent())
    assert "LSTM" in [layer.op_type for layer in study.layers]
