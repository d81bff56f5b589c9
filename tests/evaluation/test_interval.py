import numpy as np
import pytest

from modelopt_cli.evaluation.interval import difference_interval
from modelopt_cli.evaluation.metrics import MeanAbsoluteError, TopK


def answers(hits):
    return np.stack([np.asarray(hits, float), np.ones(len(hits))], axis=1)


def test_no_changed_answer_still_has_a_width():
    low, high = difference_interval(TopK(), answers([1] * 200), answers([1] * 200))
    assert low == -high and 0 < high < 0.02


def test_many_lost_answers_leave_zero_out():
    low, high = difference_interval(TopK(), answers([1] * 200), answers([0] * 30 + [1] * 170))
    assert 0.08 < low < 0.15 < high < 0.22


@pytest.mark.parametrize("drop", [0.0, 0.02])
def test_matched_proportions_cover_the_truth(drop):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        original = rng.random(500) < 0.9
        result = np.where(rng.random(500) < 0.03, ~original, original) & ~(rng.random(500) < drop)
        low, high = difference_interval(TopK(), answers(original), answers(result))
        # flips at 3 %: 0.9 -> 0.9 * 0.97 + 0.1 * 0.03, then the drop
        covered += low <= 0.9 - (0.9 * 0.97 + 0.1 * 0.03) * (1 - drop) <= high
    assert 0.92 <= covered / 400 <= 0.99


def test_bootstrap_of_a_paired_error():
    rng = np.random.default_rng(0)
    base = rng.random(300)
    first = np.stack([base, np.ones(300)], axis=1)
    second = np.stack([base + 0.1 + 0.05 * rng.standard_normal(300), np.ones(300)], axis=1)
    low, high = difference_interval(MeanAbsoluteError(), first, second)
    # the pairing cancels the spread of `base`: the interval is that of the differences
    assert -0.11 < low < -0.1 + 0.005 and -0.1 - 0.005 < high < -0.09
    assert (low, high) == difference_interval(MeanAbsoluteError(), first, second)
