from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from modelopt_cli.errors import ExitCode, ModelError, ProviderError, UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.profiling.session import available_providers, loadable, open_session, placement, run
from modelopt_cli.testing import model_from_text

ADD = "g (float[2] x) => (float[2] y) { h = Add(x, w) y = Relu(h) }"
X = {"x": np.array([-3, 3], np.float32)}


@pytest.fixture
def model() -> ir.Model:
    return model_from_text(ADD, w=np.array([1, 1], np.float32))


def single_node(
    op: str, domain: str = "", opset: int = 17, ir_version: int = 8, kind: int = TensorProto.FLOAT
) -> bytes:
    x, y = (helper.make_tensor_value_info(name, kind, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], domain=domain, name="n")], "g", [x], [y])
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()
    return content


def test_paths_bytes_and_graphs_are_models(model: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(model))
    for source in (path, model_bytes(model), model):
        np.testing.assert_array_equal(run(open_session(source), X)[0], [0, 4])


def test_external_data_is_found_beside_the_path(model: ir.Model, tmp_path: Path) -> None:
    ir.save(model, tmp_path / "m.onnx", external_data="m.data")
    np.testing.assert_array_equal(run(open_session(tmp_path / "m.onnx"), X)[0], [0, 4])


def test_a_graph_too_large_for_bytes_goes_through_a_file_that_is_gone_afterwards(
    model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelopt_cli.graph.mapped.MAPPED_ABOVE_BYTES", 4)
    np.testing.assert_array_equal(run(open_session(model), X)[0], [0, 4])
    with loadable(model) as source:
        assert isinstance(source, Path)
        assert source.is_file()
    assert not source.exists()


def test_what_the_runtime_runs_can_be_written(model: ir.Model, tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }"
    open_session(model_from_text(text), optimized_path=tmp_path / "o.onnx", optimize="basic")
    assert [node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node] == ["Relu"]


def test_the_runtime_is_told_to_send_nothing_before_it_is_imported() -> None:
    code = (
        "import os, sys; from modelopt_cli.profiling.session import runtime; assert 'onnxruntime' not in sys.modules;"
        "runtime(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_without_a_runtime_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, model: ir.Model) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r'pip install "modelopt-cli\[cpu\]"'):
        open_session(model)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (single_node("Foo", "my.dom"), r"operator 'Foo' of domain 'my\.dom' is not known to onnxruntime"),
        (single_node("Fooo"), r"operator 'Fooo' is not in opset 17"),
        (single_node("Relu", opset=900), r"opset 900 is newer than onnxruntime \S+ runs \(\d+\)"),
        (single_node("Relu", ir_version=99), r"IR version 99 is newer than onnxruntime \S+ reads \(\d+\)"),
        (single_node("Sigmoid", kind=TensorProto.BFLOAT16), r"no kernel for Sigmoid \(opset 13\).*node 'n'"),
        (b"", r"cannot load it: No graph was found"),
        (b"not a protobuf", r"cannot load it: Failed to load model because protobuf parsing failed"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(content: bytes, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        open_session(content)
    assert "\n" not in str(caught.value)
    assert ".cc" not in str(caught.value)


def test_what_cannot_run_is_said_in_one_line(model: ir.Model) -> None:
    session = open_session(model)
    for feeds in ({}, {"x": np.ones(3, np.float32)}, {"x": np.ones(2, np.int64)}, {**X, "z": X["x"]}):
        with pytest.raises(ModelError, match="fails when it runs: ") as caught:
            run(session, feeds)
        assert "\n" not in str(caught.value)


def test_a_provider_that_is_not_installed_is_never_silently_the_cpu(model: ir.Model) -> None:
    with pytest.raises(ProviderError, match=r"has no QNNExecutionProvider \(it has .*CPUExecutionProvider") as caught:
        open_session(model, provider="QNNExecutionProvider")
    assert caught.value.exit_code is ExitCode.PROVIDER


def test_a_provider_that_takes_no_node_is_refused(model: ir.Model) -> None:
    if "AzureExecutionProvider" not in available_providers():
        # Of the wheels only some have it, and no other loads without its hardware and then takes nothing.
        pytest.skip("this onnxruntime has no provider that loads and takes nothing")
    with pytest.raises(ProviderError, match=r"took none of the nodes \(CPUExecutionProvider 100%\)"):
        open_session(model, provider="AzureExecutionProvider")


def test_an_unknown_word_for_a_provider_is_a_usage_error(model: ir.Model) -> None:
    with pytest.raises(UsageError, match=r"no provider is called 'gpu' \(one of cpu, cuda"):
        open_session(model, provider="gpu")


def test_placement_is_the_share_of_nodes(model: ir.Model) -> None:
    assert placement(open_session(model)) == {"CPUExecutionProvider": 1.0}


def test_a_model_without_nodes_is_placed() -> None:
    text = "g () => (float[1] y) { y = Constant<value = float[1] {1}>() }"
    assert placement(open_session(model_from_text(text))) == {"CPUExecutionProvider": 1.0}


def test_a_type_that_python_cannot_hand_over_is_named() -> None:
    session = open_session(single_node("Identity", kind=TensorProto.BFLOAT16))
    with pytest.raises(ModelError, match=r"cannot be given inputs of this type: 'x' \(bfloat16\)"):
        run(session, {"x": np.ones(1, ml_dtypes.bfloat16)})
