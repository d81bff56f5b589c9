"""`modelopt inspect`: facts of one model, of two, of a pipe."""

from __future__ import annotations

from pathlib import Path

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.testing import model_from_text

TEXT = """<ir_version: 8, opset_import: ["": 17]>
tiny (float[N, 4] x) => (float[N, 4] y) <float[4] w = {0.0, 1.0, 2.0, 3.0}> { h = Mul(x, w)  y = Relu(h) }"""


def tiny(folder: Path, name: str = "tiny.onnx") -> Path:
    path = folder / name
    path.write_bytes(model_bytes(model_from_text(TEXT)))
    return path


def test_one_model(cli, golden, tmp_path: Path) -> None:
    golden("inspect-one", cli("inspect", "-", stdin=tiny(tmp_path).read_bytes()))


def test_two_side_by_side(cli, golden, samples: Path) -> None:
    paths = [samples / name / "model.onnx" for name in ("digits_resnet", "digits_lstm")]
    golden("inspect-two", cli("inspect", *paths))


def test_json_of_a_pipe(cli, tmp_path: Path) -> None:
    facts = cli("inspect", "-", "--json", stdin=tiny(tmp_path).read_bytes()).json
    assert facts["model"] == "<stdin>"
    assert facts["inputs"] == [{"name": "x", "type": "float32", "shape": ["N", 4]}]
    assert facts["ops"] == {"Mul": 1, "Relu": 1}
    assert (facts["parameters"], facts["nonzero_parameters"], facts["sparsity"]) == (4, 3, 0.25)
    assert facts["opsets"] == {"": 17}


def test_a_shell_pipe_is_no_plain_file(process, tmp_path: Path) -> None:
    run = process("inspect", "/dev/stdin", "--json", stdin=tiny(tmp_path).read_bytes())
    assert run.json["file_bytes"] == tiny(tmp_path).stat().st_size
