"""``modelopt sensitivity``: a table of groups, worst first, or JSON with all of them."""

import json

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from modelopt_cli.cli.root import app
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.testing import model_from_text

TEXT = """net (float[1,8,32,32] x) => (float[1,8,32,32] y) {
    a = Conv <pads = [1,1,1,1]> (x, w1)
    r = Relu (a)
    y = Conv <pads = [1,1,1,1]> (r, w2)
}"""


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    first = (rng.standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32)
    second = (rng.standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32)
    model, calib = tmp_path / "model.onnx", tmp_path / "calib.npz"
    model.write_bytes(model_bytes(model_from_text(TEXT, w1=first, w2=second)))
    np.savez(calib, x=rng.standard_normal((4, 8, 32, 32)).astype(np.float32))
    onnx.checker.check_model(str(model))
    return str(model), str(calib)


def run(*arguments):
    return CliRunner().invoke(app, ["sensitivity", *arguments, "--quiet"])


def test_every_group_is_listed_worst_first(files):
    found = json.loads(run(files[0], "--calib", files[1], "--json").stdout)
    errors = [row["alone_db"] for row in found["groups"]]
    assert [row["ops"][0] for row in found["groups"]] == ["Conv", "Conv"]
    assert errors == sorted(errors)
    assert found["not_measured"] == 0


def test_one_group_alone_is_closer_to_float_than_all_of_them(files):
    found = json.loads(run(files[0], "--calib", files[1], "--json").stdout)
    for row in found["groups"]:
        assert row["alone_db"] > found["all_groups"]["sqnr_db"]
        assert row["without_db"] > found["all_groups"]["sqnr_db"]


def test_the_table_says_what_all_groups_cost(files):
    result = run(files[0], "--calib", files[1])
    assert result.exit_code == 0
    assert result.stdout.startswith("all groups in int8: ")
    assert "without it" in result.stdout


def test_a_missing_calibration_file_is_a_usage_error(files):
    assert run(files[0], "--calib", "absent.npz").exit_code in (2, 3)


def test_each_layer_loses_more_with_more_zeros(files):
    found = json.loads(run(files[0], "--calib", files[1], "--prune", "--json", "--levels", "0.9/0.5").stdout)
    assert found["levels"] == [0.5, 0.9]
    assert sorted(row["op"] for row in found["layers"]) == ["Conv", "Conv"]
    for row in found["layers"]:
        few, many = row["levels"]
        assert few["layer_error"] < many["layer_error"] < 1
        assert few["sqnr_db"] > many["sqnr_db"]
        assert few["accuracy"] is None
    noise = [row["levels"][-1]["sqnr_db"] for row in found["layers"]]
    assert noise == sorted(noise)
    assert (found["skipped"], found["not_measured"]) == ([], 0)


def test_the_table_of_layers(files):
    result = run(files[0], "--calib", files[1], "--prune")
    assert result.exit_code == 0
    assert "70 % zeros" in result.stdout
    assert result.stdout.count(" dB") == 6


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--levels", "0.5"], "add --prune"),
        (["--prune", "--levels", "half"], "is not a list of shares"),
        (["--prune", "--levels", "1.5"], "lies between 0 and 1"),
        (["--prune", "--samples", "2"], "too few"),
    ],
)
def test_levels_that_make_no_sense(files, flags, said, cli):
    done = cli("sensitivity", files[0], "--calib", files[1], *flags)
    assert done.code == 2
    assert said in done.err
