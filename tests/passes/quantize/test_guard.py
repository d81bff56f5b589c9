"""No group collapses the output: boxes and scores in one tensor keep both, whatever makes one of them coarse."""

import math

import numpy as np
import pytest

from modelopt_cli.calibration.ranges import RangeRules
from modelopt_cli.passes.quantize import calibrated
from modelopt_cli.passes.quantize.builder import Built
from modelopt_cli.passes.quantize.calibrated import _adopt, _with_ranges_anew, samples_each
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.guard import Kept, Limits, keep_within
from modelopt_cli.passes.quantize.output_error import BandError, OutputError, OutputJudge
from modelopt_cli.passes.quantize.plan import Plan
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.passes.quantize.quantize_dynamic import QuantizeDynamic
from modelopt_cli.passes.quantize.quantize_static import QuantizeStatic
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.passes.quantize.search import Search
from modelopt_cli.passes.quantize.sensitivity import GroupError
from modelopt_cli.testing import ArrayDataset, model_from_text, run_model, run_pass

HEADS = """net (float[1,8,64,64] x) => (float[1,14,4096] y, float[1,4,64,64] z) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (a)
    b = Conv (r, wb)
    c = Conv (r, wc)
    s = Sigmoid (c)
    joined = Concat <axis = 1> (b, s)
    y = Reshape (joined, shape)
    z = Conv (joined, wz)
}"""
ONE_HEAD = """net (float[1,8,64,64] x) => (float[1,14,4096] y) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (a)
    h = Conv (r, wh)
    y = Reshape (h, shape)
}"""
SHAPE = np.array([1, 14, 4096])


def weights(**shapes):
    rng = np.random.default_rng(0)
    return {name: (rng.standard_normal(shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}


def samples(count=8):
    return ArrayDataset({"x": np.random.default_rng(1).standard_normal((count, 8, 64, 64)).astype(np.float32)})


def two_heads(box_size):
    made = weights(w=(16, 8, 3, 3), wb=(4, 16, 1, 1), wc=(10, 16, 1, 1), wz=(4, 14, 1, 1))
    return model_from_text(HEADS, **made | {"wb": made["wb"] * np.float32(box_size)}, shape=SHAPE)


def one_head(box_size):
    made = weights(w=(16, 8, 3, 3), wh=(14, 16, 1, 1))
    size = np.where(np.arange(14) < 4, box_size, 0.3).astype(np.float32).reshape(-1, 1, 1, 1)
    return model_from_text(ONE_HEAD, w=made["w"], wh=made["wh"] * size, shape=SHAPE)


def scores_sqnr(model, result):
    feeds = dict(next(iter(samples())))
    exact, found = (run_model(each, feeds)["y"][:, 4:] for each in (model, result))
    return 10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum())


@pytest.mark.parametrize("make", [Quantize, QuantizeStatic])
def test_a_concat_of_coordinates_and_scores_stays_float_by_its_ranges(make):
    model = two_heads(100)
    result = run_pass(make(budget=0), model, calibration=samples())
    assert any("very different ranges" in line for line in result.details["decisions"])
    assert scores_sqnr(model, result.model) > 25
    assert result.details["integer_ops"]["Conv"] == 4


def test_a_concat_of_like_ranges_is_integer():
    result = run_pass(QuantizeStatic(budget=0), two_heads(0.2), calibration=samples())
    assert result.details["integer_ops"]["Concat"] == 1


def test_one_product_that_makes_both_goes_back_to_float_by_the_error_at_the_output():
    model = one_head(640)
    result = run_pass(QuantizeStatic(budget=0), model, calibration=samples())
    assert any("1 groups in float" in line for line in result.details["decisions"])
    assert result.details["integer_ops"]["Conv"] == 1
    assert scores_sqnr(model, result.model) > 25


def test_one_product_of_like_outputs_stays_integer():
    result = run_pass(QuantizeStatic(budget=0), one_head(0.3), calibration=samples())
    assert result.details["integer_ops"]["Conv"] == 2


def test_a_plan_that_is_replayed_needs_no_guard():
    model = one_head(640)
    first = run_pass(QuantizeStatic(budget=0), model, calibration=samples())
    again = run_pass(QuantizeStatic(plan=first.details["plan"]), model, calibration=samples())
    assert again.details["integer_ops"] == first.details["integer_ops"]
    assert scores_sqnr(model, again.model) == pytest.approx(scores_sqnr(model, first.model))


@pytest.mark.parametrize(("wanted", "convs"), [(10.0, 2), (60.0, 0)])
def test_decibels_that_are_asked_for_are_kept_by_as_many_groups_as_it_takes(wanted, convs):
    model = one_head(0.3)
    result = run_pass(QuantizeStatic(budget=0, min_sqnr=wanted), model, calibration=samples())
    assert result.details["integer_ops"].get("Conv", 0) == convs


def test_the_result_that_comes_closest_is_kept_when_nothing_is_good_enough():
    result = run_pass(QuantizeStatic(budget=0, min_sqnr=199.0), one_head(0.3), calibration=samples())
    assert result.details["limits_hold"] is False


def test_bands_are_cut_between_coordinates_and_scores_only():
    apart = OutputJudge(one_head(640), samples()).judge(one_head(640))
    assert [band.band for band in apart.bands] == ["", "axis 1: 0-3", "axis 1: 4-13"]
    assert [band.band for band in OutputJudge(one_head(0.3), samples()).judge(one_head(0.3)).bands] == [""]


@pytest.mark.parametrize(("share", "rows", "missed"), [(0.9, 10, False), (0.9, 1000, True), (0.96, 1000, False)])
def test_agreement_is_missed_when_chance_does_not_explain_it(share, rows, missed):
    error = OutputError((BandError("y", "", 30.0),), share, rows)
    assert bool(Limits().missed(error)) == missed
    assert (Limits().shortfall(error) > 0) == missed


@pytest.mark.parametrize(("late", "products"), [(30.0, set()), (5.0, {"m"})])
def test_float_comes_after_ranges_at_run_time(late, products):
    group, start = Group("m", ("MatMul", "Reshape"), ("m", "r"), "static"), Plan(frozenset({"MatMul", "Reshape"}))

    def judged(plan):
        decibel = 30.0 if plan.float_products else late if plan.float_nodes else 5.0
        return OutputError((BandError("y", "", decibel),))

    def measured():
        return [GroupError(group, OutputError((BandError("y", "", 5.0),)))]

    kept = keep_within(Limits(), start, start, judged, lambda plan: plan, measured, deadline=math.inf)
    assert kept.holds and kept.plan.float_nodes == {"m", "r"} and kept.plan.float_products == products


def test_a_product_without_a_name_ends_in_float_when_nothing_else_is_good_enough():
    result = run_pass(Quantize(budget=0, min_sqnr=199), fed_product(), calibration=samples())
    assert result.details["dynamic"]["changed"] == 0 and result.details["plan"]["float_products"] == ["y"]
    assert any("2 groups in float" in line and line.endswith("a, y") for line in result.details["decisions"])


def test_what_went_back_to_ranges_at_run_time_is_said():
    plan = Plan(frozenset())
    built = Built(run_pass(QuantizeDynamic(), fed_product()).model, Regions({}, ()), ())
    groups = (Group("a", ("Conv", "Reshape"), ("a", "f"), "static"), Group("y", ("MatMul",), ("y",), "static"))
    search = Search(built, plan)
    _adopt(search, Kept(built, plan, OutputError(()), groups, True))
    assert [line.split(",")[0] for line in search.log[1:]] == ["1 groups with ranges at run time", "1 groups in float"]


def fed_product():
    text = """net (float[1,8,64,64] x) => (float[1,4096,64] y) {
        a = Conv <pads = [1,1,1,1]> (x, w)
        r = Relu (a)
        f = Reshape (r, shape)
        t = Transpose <perm = [0,2,1]> (f)
        y = MatMul (t, wm)
    }"""
    return model_from_text(text, **weights(w=(16, 8, 3, 3), wm=(16, 64)), shape=np.array([1, 16, 4096]))


def test_the_samples_that_a_variant_errs_most_on_are_found():
    model, data = two_heads(1), samples()
    judge = OutputJudge(model, data)
    other = run_pass(QuantizeStatic(budget=0), model, calibration=samples(2)).model
    alone = [judge.judge(other, only=[index]).worst.sqnr_db for index in range(len(judge))]
    worst = judge.noisiest(other, 3)
    assert len(judge) == 8 and worst == sorted(worst)
    assert judge.judge(other, only=range(8)) == judge.judge(other)
    assert judge.judge(other, only=worst).worst.sqnr_db < judge.judge(other).worst.sqnr_db
    assert int(np.argmin(alone)) in worst


@pytest.mark.parametrize(
    ("most_s", "expected"), [(10.0, 64), (0.9, 64), (0.605, 40), (0.28, 8), (0.01, 8), (0.0, 8), (-1.0, 8)]
)
def test_groups_are_measured_on_fewer_samples_where_time_is_short(most_s, expected):
    """Or a model of many groups would be measured until no time is left to put any back: it ended all in float."""
    times = 0.2 + 8 * 0.01, 0.2 + 64 * 0.01  # a session takes 0.2 s, a sample 10 ms
    assert samples_each(times, (8, 64), most_s) == expected
    assert samples_each((0.3, 0.3), (5, 5), most_s) == 5


@pytest.mark.parametrize(("found_db", "observer"), [(18.0, "minmax"), (3.0, "mse")])
def test_ranges_are_chosen_again_without_the_groups_that_went_back(found_db, observer, monkeypatch):
    def chosen(judge, builder, plan, log):
        log.append("ranges by minmax: 18.0 dB")
        return "minmax"

    class Builds:
        def build(self, plan, final):
            return plan

    monkeypatch.setattr(calibrated, "choose_observer", chosen)
    plan = Plan(frozenset({"Conv"}), ranges=RangeRules("mse"))
    kept = Kept(plan, plan, OutputError((BandError("y", "", 11.0),)), (Group("a", ("Conv",), ("a",), "static"),), True)
    log = []
    again = _with_ranges_anew(
        Limits(), kept, None, Builds(), lambda _: OutputError((BandError("y", "", found_db),)), log
    )
    assert again.plan.ranges.observer == observer
    assert again.reverted == kept.reverted and again.holds
    assert bool(log) == (observer == "minmax")
