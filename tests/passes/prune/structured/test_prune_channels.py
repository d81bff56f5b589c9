"""The passes as a whole: budgets, recovery, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from channel_models import attention, ints, named, w
from pydantic import ValidationError

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import load_model, model_bytes
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.prune.structured.budget import Choice, distribute
from modelopt_cli.passes.prune.structured.candidates import finer, keep_counts
from modelopt_cli.passes.prune.structured.elimination import Reader, eliminate
from modelopt_cli.passes.prune.structured.groups import Group
from modelopt_cli.passes.prune.structured.prune_channels import PruneChannels
from modelopt_cli.passes.prune.structured.prune_heads import PruneHeads
from modelopt_cli.passes.prune.structured.survey import Candidate
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, run_model, run_pass


def images(count: int = 16) -> ArrayDataset:
    return ArrayDataset({"x": np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)})


def network(channels: int = 32) -> ir.Model:
    """Two convolutions with a residual branch, channels drawn from few sources: many can be made up for."""
    rng = np.random.default_rng(0)
    mixed = (rng.standard_normal((channels, 6)) @ rng.standard_normal((6, 27)) / 9).reshape(channels, 3, 3, 3)
    text = """m (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1, b1)  r = LeakyRelu (a)  b = Conv <pads=[1,1,1,1]> (r, w2, b2)
        c = Conv (x, w3, b3)  s = Add (b, c)  t = Relu (s)  p = GlobalAveragePool (t)  f = Flatten (p)
        y = Gemm <transB=1> (f, w4, b4) }"""
    weights = {"w1": mixed.astype(np.float32), "b1": w(channels), "w2": w(channels, channels, 3, 3) / 8}
    weights |= {"b2": w(channels), "w3": w(channels, 3, 1, 1), "b3": w(channels), "w4": w(5, channels), "b4": w(5)}
    return named(model_from_text(text, **weights))


def narrow() -> ir.Model:
    """A layer of one block of channels before one of four."""
    text = """m (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1, b1)  r = Relu (a)  b = Conv <pads=[1,1,1,1]> (r, w2, b2)
        t = Relu (b)  p = GlobalAveragePool (t)  f = Flatten (p)  y = Gemm <transB=1> (f, w3, b3) }"""
    weights = {"w1": w(16, 3, 3, 3), "b1": w(16), "w2": w(64, 16, 3, 3), "b2": w(64), "w3": w(5, 64), "b3": w(5)}
    return named(model_from_text(text, **weights))


def error(model: ir.Model, result: ir.Model, data: ArrayDataset) -> float:
    gaps, sizes = [], []
    for feeds in data:
        before, after = run_model(model, feeds), run_model(result, feeds)
        gaps.append(sum(float(np.square(before[name] - after[name]).sum()) for name in before))
        sizes.append(sum(float(np.square(array).sum()) for array in before.values()))
    return sum(gaps) / sum(sizes)


def test_a_budget_of_macs_is_met_in_whole_blocks() -> None:
    result = run_pass(PruneChannels(macs=0.6, seconds=0), network(), calibration=images(), target=Target())
    assert result.details["macs"] <= 0.6
    assert all(after % 16 == 0 for _, after in result.details["groups"].values())


def test_a_budget_of_parameters_is_met() -> None:
    before = network()
    result = run_pass(PruneChannels(parameters=0.5, seconds=0), before, calibration=images())
    sizes = [sum(v.const_value.size for v in m.graph.initializers.values()) for m in (before, result.model)]
    assert sizes[1] <= 0.5 * sizes[0]


@pytest.mark.slow
def test_a_budget_of_latency_is_met_by_the_clock_or_said_to_be_missed() -> None:
    result = run_pass(PruneChannels(latency=0.8, seconds=0.2), network(48), calibration=images(16))
    missed = any(notice["code"] == "budget-missed" for notice in result.details.get("notices", ()))
    assert result.changed > 0 or missed


def test_finer_counts_are_used_where_blocks_do_not_reach() -> None:
    result = run_pass(PruneChannels(macs=0.15, seconds=0, blocks=False), network(), calibration=images())
    assert result.details["macs"] <= 0.15
    assert any(after % 16 for _, after in result.details["groups"].values())


@pytest.mark.parametrize(
    ("size", "block", "counts"), [(32, 16, (32, 16, 8)), (16, 16, (16, 8)), (64, 16, (64, 48, 32, 16)), (32, None, ())]
)
def test_finer_counts_begin_below_a_block(size: int, block: int | None, counts: tuple[int, ...]) -> None:
    group = Group("a", "channels", tuple(range(size)), ("a",), ())
    (found,) = finer([Candidate(group, (), keep_counts(size, 16))], 8, block)
    assert found.keeps == (counts or (32, 24, 16, 8))


def test_a_group_of_one_block_shrinks_only_where_the_budget_asks_for_it() -> None:
    for macs, skipped in ((0.6, True), (0.2, False)):
        options = PruneChannels(macs=macs, seconds=0, blocks=False)
        result = run_pass(options, narrow(), calibration=images(), target=Target())
        assert result.details["macs"] <= macs
        assert [skip.node for skip in result.skipped if "no faster" in skip.reason] == (["a"] if skipped else [])


def test_what_cannot_be_reached_is_said() -> None:
    result = run_pass(PruneChannels(macs=0.01, seconds=0, blocks=False), network(), calibration=images())
    assert [notice["code"] for notice in result.details["notices"]] == ["budget-missed"]


def test_recovery_makes_up_for_most_of_the_loss() -> None:
    model, data = network(), images(48)
    options = {"macs": 0.6, "seconds": 0.0}
    with_fit, without = (
        run_pass(PruneChannels(**options, recover=recover), model, calibration=data).model for recover in (True, False)
    )
    fresh = ArrayDataset({"x": np.random.default_rng(9).standard_normal((32, 3, 8, 8)).astype(np.float32)})
    assert error(model, with_fit, fresh) < 0.2 * error(model, without, fresh)


def test_heads_leave_only_when_asked_for() -> None:
    rng = np.random.default_rng(4)
    data = ArrayDataset({"x": rng.standard_normal((16, 6, 8)).astype(np.float32)})
    model = attention(heads=8)
    kept = run_pass(PruneChannels(macs=0.8, align=1, seconds=0, blocks=False), model, calibration=data)
    assert set(kept.details["groups"]) == {"u"}
    heads = run_pass(PruneHeads(macs=0.8, seconds=0), model, calibration=data)
    assert set(heads.details["groups"]) == {"q0"}
    assert any(skip.reason == "channels: another pass prunes them" for skip in heads.skipped)


def test_lstm_units_leave_and_gates_are_fitted() -> None:
    rng = np.random.default_rng(4)
    data = ArrayDataset({"x": rng.standard_normal((24, 5, 3)).astype(np.float32)})
    model = named(model_from_text(
        """m (float[N,5,3] x) => (float[N,5,4] y) { s = Transpose <perm=[1,0,2]> (x)
        l = LSTM <hidden_size=6> (s, w1, r1, b1)  t = Transpose <perm=[2,0,1,3]> (l)  f = Reshape (t, to)
        y = MatMul (f, wy) }""",
        w1=w(1, 24, 3), r1=w(1, 24, 6), b1=w(1, 48), wy=w(6, 4), to=ints(0, 0, 6),
    ))  # fmt: skip
    options = {"parameters": 0.7, "align": 1, "seconds": 0.0}
    fitted, plain = (
        run_pass(PruneChannels(**options, recover=recover), model, calibration=data).model for recover in (True, False)
    )
    assert error(model, fitted, data) < 0.8 * error(model, plain, data)


def test_an_lstm_whose_last_state_alone_is_read_is_fitted_and_stores_no_other_afterwards() -> None:
    data = sequences()
    model = named(model_from_text(
        """m (float[N,5,3] x) => (float[N,4] y) { s = Transpose <perm=[1,0,2]> (x)
        every, last = LSTM <hidden_size=6> (s, w1, r1, b1)  f = Squeeze (last, at)  y = MatMul (f, wy) }""",
        w1=w(1, 24, 3), r1=w(1, 24, 6), b1=w(1, 48), wy=w(6, 4), at=ints(0),
    ))  # fmt: skip
    model.graph[1].outputs[0].name = ""
    options = {"parameters": 0.7, "align": 1, "seconds": 0.0}
    fitted, plain = (
        run_pass(PruneChannels(**options, recover=recover), model, calibration=data).model for recover in (True, False)
    )
    assert error(model, fitted, data) < 0.8 * error(model, plain, data)
    assert [output.name for output in fitted.graph[1].outputs] == ["", "last"]


def test_globs_choose_groups_and_typing_errors_are_told() -> None:
    result = run_pass(PruneChannels(macs=0.6, seconds=0, exclude=("a",)), network(), calibration=images())
    assert "a" not in result.details["groups"]
    assert any(skip.node == "a" and skip.reason == "in exclude" for skip in result.skipped)
    with pytest.raises(UsageError, match="matches no node that makes channels"):
        run_pass(PruneChannels(include=("nothing",)), network(), calibration=images())


def test_two_budgets_are_one_too_many() -> None:
    with pytest.raises(ValidationError, match="give one"):
        PruneChannels(macs=0.5, latency=0.5)


def test_a_model_without_channels_is_left_alone() -> None:
    model = model_from_text("m (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Sigmoid (x) }")
    result = run_pass(PruneChannels(), model, calibration=images())
    assert (result.changed, model_bytes(result.model)) == (0, model_bytes(model))


@pytest.mark.slow
def test_the_sample_resnet_loses_a_third_of_its_arithmetic_and_little_else(samples: Path) -> None:
    with np.load(samples / "digits_resnet" / "calib.npz") as arrays:
        data = ArrayDataset({"image": arrays["image"][:64].astype(np.float32)})
    with np.load(samples / "eval.npz") as arrays:
        inputs, labels = arrays["image"][:500].astype(np.float32), arrays["labels"][:500]
    source = load_model(samples / "digits_resnet" / "model.onnx").model
    result = run_pass(PruneChannels(macs=0.7, seconds=0), source, calibration=data)
    right = [
        float((run_model(m, {"image": inputs})["logits"].argmax(1) == labels).mean()) for m in (source, result.model)
    ]
    assert right[1] >= right[0] - 0.015


@pytest.mark.parametrize(("size", "multiple", "counts"), [(32, 16, (32, 16)), (40, 16, (40, 32, 16)), (12, 16, (12,))])
def test_counts_are_multiples_below_the_whole(size: int, multiple: int, counts: tuple[int, ...]) -> None:
    assert keep_counts(size, multiple) == counts


def test_the_budget_goes_where_it_hurts_least() -> None:
    choices = [Choice((8, 4), (0.0, 5.0)), Choice((8, 4), (0.0, 1.0)), Choice((8, 4), (0.0, 3.0))]
    levels, met = distribute(choices, sum, 20)
    assert (levels, met) == ([0, 1, 0], True)
    assert distribute(choices, sum, 5) == ([1, 1, 1], False)


def test_columns_that_others_make_up_for_leave_first() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 4))
    x = np.concatenate([x, x[:, :1] + x[:, 1:2]], axis=1)  # the last follows from the first two
    weights = rng.standard_normal((3, 5)) + 2
    (level,) = eliminate([Reader(x.T @ x / 400, weights, np.arange(5))], 5, [4])
    assert level.gone[0] in (0, 1, 4)
    assert level.error < 0.01


def test_as_small_as_a_limit_on_the_outputs_allows() -> None:
    model, data = network(), images(48)
    found = {db: run_pass(PruneChannels(min_sqnr=db, seconds=0), model, calibration=data) for db in (28.0, 35.0)}
    assert 0 < found[28.0].details["macs"] < found[35.0].details["macs"] < 1
    fresh = ArrayDataset({"x": np.random.default_rng(9).standard_normal((32, 3, 8, 8)).astype(np.float32)})
    assert error(model, found[35.0].model, fresh) < 10**-3.3
    capped = run_pass(PruneChannels(min_sqnr=28.0, macs=0.8, seconds=0), model, calibration=data)
    assert 0.5 < capped.details["macs"] <= 0.8


def test_where_no_cut_keeps_the_limit_nothing_leaves() -> None:
    model = network()
    done = PruneChannels(max_accuracy_drop=0.01, seconds=0).apply(
        model.clone(), PassContext(Target(), calibration=images(), accuracy_drop=lambda _: 1.0)
    )
    assert done.changed == 0
    assert done.skipped[-1].reason == "no cut keeps the limits"
    assert model_bytes(done.model) == model_bytes(model)
    with pytest.raises(UsageError, match="needs labelled evaluation data"):
        run_pass(PruneChannels(max_accuracy_drop=0.01), model, calibration=images())


def gru(direction: str = "forward") -> ir.Model:
    ways = 2 if direction == "bidirectional" else 1
    text = f"""m (float[N,5,3] x) => (float[5,N,4] y) {{ s = Transpose <perm=[1,0,2]> (x)
        g, last = GRU <hidden_size=32, linear_before_reset=1, direction="{direction}"> (s, w1, r1, b1)
        t = Transpose <perm=[0,2,1,3]> (g)  f = Reshape (t, to)  y = MatMul (f, wy) }}"""
    weights = {"w1": w(ways, 96, 3), "r1": w(ways, 96, 32) / 4, "b1": w(ways, 192), "wy": w(32 * ways, 4)}
    return named(model_from_text(text, **weights, to=ints(0, 0, 32 * ways)))


def upsampling() -> ir.Model:
    text = """m (float[N,3,8,8] x) => (float[N,5,16,16] y) {
        a = Conv (x, w1, b1)  r = Relu (a)  u = ConvTranspose <strides=[2,2]> (r, w2)
        s = Relu (u)  y = Conv (s, w3) }"""
    return named(model_from_text(text, w1=w(32, 3, 1, 1), b1=w(32), w2=w(32, 48, 2, 2), w3=w(5, 48, 1, 1)))


def shared() -> ir.Model:
    text = """m (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv (x, w1, b1)  r = Relu (a)  b = Conv (r, w2)  s = Relu (b)  c = Conv (s, w2)
        p = GlobalAveragePool (c)  f = Flatten (p)  y = Gemm <transB=1> (f, w4) }"""
    return named(model_from_text(text, w1=w(32, 3, 1, 1), b1=w(32), w2=w(32, 32, 1, 1) / 4, w4=w(5, 32)))


def sequences() -> ArrayDataset:
    return ArrayDataset({"x": np.random.default_rng(2).standard_normal((16, 5, 3)).astype(np.float32)})


@pytest.mark.parametrize("saliency", ["refit", "activation", "l2", "quiet"])
@pytest.mark.parametrize(
    "build",
    [gru, lambda: gru("bidirectional"), upsampling, shared],
    ids=["GRU", "bidirectional GRU", "ConvTranspose", "shared weights"],
)
def test_what_cannot_be_fitted_again_can_shrink_all_the_same(build: Callable[[], ir.Model], saliency: str) -> None:
    model = build()
    data = sequences() if len(model.graph.inputs[0].shape or ()) == 3 else images()
    result = run_pass(PruneChannels(parameters=0.7, seconds=0, saliency=saliency), model, calibration=data)
    assert result.changed
    assert result.details["parameters"] <= 0.7
    before, after = (run_model(each, next(iter(data)))["y"] for each in (model, result.model))
    assert after.shape == before.shape
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.5
