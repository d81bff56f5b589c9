from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.data.files import FileDataset, open_dataset
from modelopt_cli.errors import ModelError, PassError, UsageError
from modelopt_cli.graph.io import load_model, model_bytes, save_model
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.pipeline.check import check_result, check_structure
from modelopt_cli.pipeline.runner import CompressOptions, compress
from modelopt_cli.pipeline.steps import run_steps
from modelopt_cli.pipeline.write import make_rule, write_result
from modelopt_cli.recipe.load import load_recipe, parse_recipe
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text

QUICK = 0.2  # seconds of timing: these tests look at what is reported, not at how fast it is
NET = """
net (float[N, 4] x) => (float[N, 3] y) {
  h = MatMul(x, w)
  r = Relu(h)
  y = MatMul(r, v)
}
"""


def small_net(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((4, 8), np.float32), rng.standard_normal((8, 3), np.float32)
    path = tmp_path / "net.onnx"
    save_model(model_from_text(NET, w=w, v=v), path)
    return path


def data(tmp_path: Path, **arrays: np.ndarray) -> FileDataset:
    path = tmp_path / "data.npz"
    np.savez(path, **(arrays or {"x": np.random.default_rng(1).standard_normal((12, 4), np.float32)}))
    return open_dataset(path)


def test_prunes_and_reports_both_sides(tmp_path: Path) -> None:
    source = load_model(small_net(tmp_path))
    result = compress(source, load_recipe("prune-50"), CompressOptions(calibration=data(tmp_path), budget_s=QUICK))
    report = result.report
    assert report.original.sparsity == 0.0
    assert report.result.sparsity == pytest.approx(0.5)
    assert [step.name for step in report.steps] == ["simplify", "fuse", "prune"]
    assert report.latency[0].original.runs > 0
    assert report.fidelity is not None and report.fidelity.samples == 12
    assert report.fidelity.accuracy is None


def test_labels_make_it_accuracy(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((40, 4), np.float32)
    source = load_model(small_net(tmp_path))
    labelled = data(tmp_path, x=x, labels=np.zeros(40, np.int64))
    report = compress(source, load_recipe("fuse"), CompressOptions(evaluation=labelled, budget_s=QUICK)).report
    assert report.fidelity is not None and report.fidelity.accuracy is not None
    assert report.fidelity.accuracy.drop == 0.0
    assert report.fidelity.accuracy.samples == 40


def test_same_input_gives_same_bytes_and_leaves_the_source_alone(tmp_path: Path) -> None:
    path = small_net(tmp_path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    runs = [compress(load_model(path), load_recipe("prune-50"), CompressOptions(profile=False)) for _ in range(2)]
    assert runs[0].content == runs[1].content
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_stamps_the_model_without_paths_or_time(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("version: 1\nname: mine\ndata: {calibration: {path: data.npz}}\nsteps: [{pass: simplify}]\n")
    # Of a file that shrinks: others lose what of the stamp would make them larger.
    net = NET.replace("h = ", "dead = Neg(u) h = ")
    spare = model_from_text(
        net, w=np.ones((4, 8), np.float32), v=np.ones((8, 3), np.float32), u=np.ones(2000, np.float32)
    )
    save_model(spare, tmp_path / "net.onnx")
    content = compress(
        load_model(tmp_path / "net.onnx"), load_recipe(str(recipe)), CompressOptions(profile=False)
    ).content
    assert content is not None
    props = {p.key: p.value for p in onnx.load_from_string(content).metadata_props}
    assert '"name":"mine"' in props["modelopt.recipe"]
    assert "data.npz" not in props["modelopt.recipe"]
    assert str(tmp_path) not in str(props)
    hashes, where = json.loads(props["modelopt.sha256"]), json.loads(props["modelopt.environment"])
    assert hashes["model"] == hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    assert set(hashes) == {"model", "recipe"}  # and the calibration data, where there is some
    assert {"onnx", "numpy", "runtime", "isa", "cpu_flags"} <= set(where)
    assert "platform" not in where


def test_a_step_without_its_data_is_refused_before_any_work(tmp_path: Path) -> None:
    recipe = parse_recipe("version: 1\nname: s\nsteps: [{pass: quantize-static}]\n", "s.yaml")
    with pytest.raises(UsageError, match="needs calibration data"):
        compress(load_model(small_net(tmp_path)), recipe)


def test_random_calibration_is_stamped(tmp_path: Path) -> None:
    options = CompressOptions(allow_random_calibration=True, profile=False)
    report = compress(load_model(small_net(tmp_path)), load_recipe("fuse"), options).report
    assert report.notices[0].code == "random-calibration"
    assert report.fidelity is not None and report.fidelity.random_inputs


def test_an_assumed_shape_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "free.onnx"
    save_model(model_from_text("g (float[N, T] x) => (float[N, T] y) { y = Relu(x) }"), path)
    report = compress(load_model(path), load_recipe("fuse"), CompressOptions(profile=False)).report
    assert [notice.code for notice in report.notices if notice.code != "stamp-shortened"] == ["assumed-shape"]
    assert "x.T=128" in report.notices[0].message


class _Breaks(Pass):
    """Leaves a node that reads nothing."""

    name = "breaks"
    family = "fuse"
    effect = "lossy"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        next(iter(model.graph)).replace_input_with(0, ir.Value(name="nowhere"))
        return PassResult(model, 1)


class _Lies(Pass):
    """Says exact and doubles a weight."""

    name = "lies"
    family = "fuse"
    effect = "exact"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        weight = model.graph.initializers["w"]
        assert weight.const_value is not None
        weight.const_value = ir.Tensor(weight.const_value.numpy() * 2, name="w")
        return PassResult(model, 1)


def test_names_the_step_that_wrote_an_invalid_graph(tmp_path: Path) -> None:
    source = load_model(small_net(tmp_path))
    with pytest.raises(PassError, match=r"breaks: wrote an invalid graph: .*nowhere"):
        run_steps(source.model, [_Breaks()], PassContext(Target()), {"x": np.ones((1, 4), np.float32)})


def test_undoes_a_step_that_promised_exactness_and_drifted(tmp_path: Path) -> None:
    source = load_model(small_net(tmp_path))
    done = run_steps(source.model, [_Lies()], PassContext(Target()), {"x": np.ones((1, 4), np.float32)})
    assert model_bytes(done.model) == model_bytes(source.model)
    assert [notice.code for notice in done.notices] == ["pass-undone"]
    assert done.steps[0].changed == 0


def test_a_target_below_the_needed_opset_is_an_error(tmp_path: Path) -> None:
    class _Newer(_Lies):
        """Needs a newer opset."""

        min_opset = 18

    source = load_model(small_net(tmp_path))
    with pytest.raises(ModelError, match=r"above target\.max_opset 17"):
        run_steps(source.model, [_Newer()], PassContext(Target(max_opset=17)), {"x": np.ones((1, 4), np.float32)})


def test_refuses_a_result_with_another_interface(tmp_path: Path) -> None:
    source = load_model(small_net(tmp_path)).model
    other = source.clone()
    other.graph.outputs[0].name = "z"
    with pytest.raises(PassError, match="not the source's"):
        check_result(model_bytes(other), other, source, {"x": np.ones((1, 4), np.float32)})


def test_refuses_a_result_that_is_not_finite(tmp_path: Path) -> None:
    source = load_model(small_net(tmp_path)).model
    broken = source.clone()
    broken.graph.initializers["w"].const_value = ir.Tensor(np.full((4, 8), np.inf, np.float32), name="w")
    check_structure(broken, "any")  # a valid graph, all the same
    with pytest.raises(PassError, match="not finite"):
        check_result(model_bytes(broken), broken, source, {"x": np.ones((1, 4), np.float32)})


def test_writes_model_report_and_depfile(tmp_path: Path) -> None:
    path = small_net(tmp_path)
    result = compress(load_model(path), load_recipe("fuse"), CompressOptions(profile=False))
    out, told, rule = (tmp_path / name for name in ("out.onnx", "out.json", "out.d"))
    report = write_result(result, out, reports=[told], depfile=rule, depends_on=[path])
    assert report.output == str(out)
    assert out.read_bytes() == result.content
    assert '"schema": "modelopt.report/1"' in told.read_text()
    assert rule.read_text() == f"{out}: {path}\n\n{path}:\n"
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


def test_make_rule_escapes_what_make_reads() -> None:
    assert make_rule(Path("a b.onnx"), [Path("c$d.onnx")]) == "a\\ b.onnx: c$$d.onnx\n\nc$$d.onnx:\n"


def test_threads_and_batch_take_effect(tmp_path: Path) -> None:
    source = load_model(small_net(tmp_path))
    options = CompressOptions(calibration=data(tmp_path), threads=2, batch=3, budget_s=QUICK)
    (timing,) = compress(source, load_recipe("fuse"), options).report.latency
    assert (timing.threads, timing.batch, timing.shapes) == (2, 3, {"x": [3, 4]})


def test_infinite_where_the_source_is_infinite_is_no_failure() -> None:
    text = "g (float[1, 4] x) => (float[1, 4] y) { a = Identity(x)  y = Add(a, mask) }"
    model = model_from_text(text, mask=np.array([0, -np.inf, 0, 0], np.float32))
    check_result(model_bytes(model), model, model, {"x": np.zeros((1, 4), np.float32)})
    finite = model_from_text(text, mask=np.zeros(4, np.float32))
    with pytest.raises(PassError, match="'y' is not finite"):
        check_result(model_bytes(model), model, finite, {"x": np.zeros((1, 4), np.float32)})


def test_what_the_full_checker_holds_against_the_source_is_not_held_against_the_result() -> None:
    text = "g (float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) { a = Identity(x)  y = MeanVarianceNormalization(a) }"
    model = model_from_text(text)
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        onnx.checker.check_model(model_bytes(model), full_check=True)
    check_result(model_bytes(model), model, model, {"x": np.ones((1, 3, 4, 4), np.float32)})
