import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.evaluation.agreement import AgreementMeter, are_scores, unsteady


def meter(pairs, **options):
    found = AgreementMeter("out", **options)
    for reference, got in pairs:
        found.update(reference, got)
    return found.result()


@given(st.integers(0, 2**32 - 1))
def test_figures_are_those_of_all_samples_together(seed):
    rng = np.random.default_rng(seed)
    ref = rng.standard_normal((9, 1, 6)).astype(np.float32)
    got = ref + 0.3 * rng.standard_normal(ref.shape).astype(np.float32)
    found = meter(zip(ref, got, strict=True), mask_threshold=0.2)
    a, b = ref.astype(np.float64), got.astype(np.float64)
    assert found.sqnr_db == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert found.max_abs_error == pytest.approx(np.abs(a - b).max())
    assert found.top1 == pytest.approx((a.argmax(-1) == b.argmax(-1)).mean())
    cosines = [(x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    assert found.cosine == pytest.approx(np.mean(cosines))
    assert found.mask_iou == pytest.approx(((a > 0.2) & (b > 0.2)).sum() / ((a > 0.2) | (b > 0.2)).sum())


def test_equal_outputs():
    x = np.array([[1.0, -np.inf, 3.0]])
    found = meter([(x, x.copy())])
    assert (found.sqnr_db, found.cosine, found.max_abs_error, found.top1, found.nonfinite) == (200, 1, 0, 1, 0)


def test_outputs_of_zeros():
    assert meter([(np.zeros((1, 3)), np.zeros((1, 3)))]).cosine == 1
    lost = meter([(np.ones((1, 3)), np.zeros((1, 3)))])
    assert (lost.sqnr_db, lost.cosine) == (0, 0)


def test_an_output_that_stops_being_finite_has_no_quality_left():
    found = meter([(np.ones((1, 3)), np.array([[1, np.nan, 1]]))])
    assert (found.nonfinite, found.sqnr_db) == (1, -200)


def test_another_shape_is_no_agreement_at_all():
    x = np.eye(2)
    found = meter([(x, x), (x, x[:1])])
    assert (found.shape_mismatches, found.top1, found.cosine) == (1, 0.5, 0.5)
    assert found.sqnr_db == pytest.approx(10 * np.log10(2))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 8, 8)])
def test_top1_is_for_scores_only(shape):
    x = np.ones(shape, np.float32)
    assert meter([(x, x)]).top1 is None


@pytest.mark.parametrize(
    ("shape", "scores"),
    [
        (["N", 10], None),
        ([1, 1000], None),
        (["N", "tokens", 9], True),  # the tokens of the input
        (["N", "frames", 6625], None),
        (["N", None, 30000], None),
        (["N", 14, 256], False),  # a detector: boxes and scores by cell
        (["N", 1, "h", "w"], False),
        ([], False),
    ],
)
def test_only_a_set_of_classes_is_ranked(shape: list[int | str | None], scores: bool | None) -> None:
    assert are_scores(shape, {"tokens", 224, None}) is scores


def test_an_embedding_has_no_answer_and_a_classifier_has() -> None:
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((200, 384)).astype(np.float32)
    assert meter([(embedding, embedding)], scores=None).top1 is None
    logits = rng.standard_normal((200, 100)).astype(np.float32) - 12  # what all classes share decides nothing
    logits[np.arange(200), rng.integers(0, 100, 200)] += 6
    assert meter([(logits, logits)], scores=None).top1 == 1
    assert unsteady(embedding) > 10 > 2 > unsteady(logits)


@pytest.mark.parametrize(
    ("shape", "probabilities", "ranked"),
    [((1, 84, 2100), False, False), ((1, 40, 6625), True, True), ((1, 200, 30), False, True)],
    ids=["cells of a detector", "frames of probabilities", "more frames than classes"],
)
def test_what_is_not_declared_is_told_by_the_values(shape, probabilities, ranked) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, shape).astype(np.float32)
    np.put_along_axis(scores, rng.integers(0, shape[2], (*shape[:2], 1)), 40 * scores.shape[2] ** 0.5, axis=2)
    if probabilities:
        scores /= scores.sum(axis=-1, keepdims=True)
    assert (meter([(scores, scores)], scores=None).top1 == 1) is ranked


def test_a_map_of_cells_has_no_top1() -> None:
    meter = AgreementMeter("detections", scores=False)
    meter.update(np.ones((1, 14, 256), np.float32), np.ones((1, 14, 256), np.float32))
    assert meter.result().top1 is None
