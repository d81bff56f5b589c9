import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.errors import DataError, UsageError
from modelopt_cli.evaluation.metrics import F1Detection, MaskIoU, MeanIoU, TopK, find_metric

seeds = st.integers(0, 2**32 - 1)


def measure(metric, outputs, truths):
    return float(metric.value(np.sum([metric.sums(o, t) for o, t in zip(outputs, truths, strict=True)], axis=0)))


@given(seeds, st.sampled_from([1, 5]))
def test_top_k_is_that_of_a_sort(seed, k):
    rng = np.random.default_rng(seed)
    outputs, labels = rng.standard_normal((20, 8)).astype(np.float32), rng.integers(0, 8, 20)
    pairs = zip(outputs, labels, strict=True)
    naive = np.mean([label in sorted(range(8), key=lambda c: -row[c])[:k] for row, label in pairs])
    assert measure(find_metric(f"top{k}"), outputs, labels) == pytest.approx(naive)


def test_ties_go_to_the_first_class_as_arg_max_has_it():
    assert measure(TopK(), [np.zeros(4)], np.array([0])) == 1
    assert measure(TopK(), [np.zeros(4)], np.array([3])) == 0


def test_nan_is_no_answer():
    assert measure(TopK(), [np.full(4, np.nan)], np.array([0])) == 0


def test_tokens_each_count_and_negative_labels_do_not():
    output = np.eye(4)[[0, 1, 2, 3]]
    assert measure(TopK(), [output], np.array([[0, 1, 3, -100]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("output", "label"),
    [(np.zeros(4), np.array(4)), (np.zeros(4), np.array(0.5)), (np.zeros((3, 4)), np.zeros(2, int))],
)
def test_labels_that_are_no_classes(output, label):
    with pytest.raises(DataError, match="are no classes of an output"):
        TopK().sums(output, label)


def naive_miou(outputs, labels, classes):
    own = outputs.argmax(axis=1)
    scores = []
    for kind in range(classes):
        union = ((own == kind) & (labels >= 0)) | (labels == kind)
        if union.any():
            scores.append(((own == kind) & (labels == kind)).sum() / union.sum())
    return np.mean(scores)


@given(seeds)
def test_mean_iou(seed):
    rng = np.random.default_rng(seed)
    outputs, labels = rng.standard_normal((3, 4, 5, 6)), rng.integers(-1, 3, (3, 5, 6))
    assert measure(MeanIoU(), outputs, labels) == pytest.approx(naive_miou(outputs, labels, 4))


def test_void_of_uint8_labels():
    output = np.stack([np.ones((2, 2)), np.zeros((2, 2))])
    assert measure(MeanIoU(), [output], [np.array([[0, 0], [255, 255]], np.uint8)]) == 1


@given(seeds)
def test_mask_iou(seed):
    rng = np.random.default_rng(seed)
    outputs, labels = rng.random((3, 1, 4, 4)), rng.integers(0, 2, (3, 4, 4))
    own, want = outputs.ravel() > 0.5, labels.ravel() > 0.5
    expected = (own & want).sum() / (own | want).sum()
    assert measure(MaskIoU(), outputs, labels) == pytest.approx(expected)


def test_empty_masks_agree():
    assert measure(MaskIoU(), [np.zeros((2, 2))], [np.zeros((2, 2))]) == 1


@given(seeds)
def test_errors_and_cosine(seed):
    rng = np.random.default_rng(seed)
    outputs, labels = rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    difference = outputs - labels
    assert measure(find_metric("mae"), outputs, labels) == pytest.approx(np.abs(difference).mean())
    assert measure(find_metric("rmse"), outputs, labels) == pytest.approx(np.sqrt((difference**2).mean()))
    cosines = [o @ t / np.linalg.norm(o) / np.linalg.norm(t) for o, t in zip(outputs, labels, strict=True)]
    assert measure(find_metric("cosine"), outputs, labels) == pytest.approx(np.mean(cosines))


def test_sizes_must_be_equal():
    with pytest.raises(DataError, match="differ in size"):
        find_metric("mae").sums(np.zeros(3), np.zeros(4))


def naive_iou(a, b):
    ax0, ay0, ax1, ay1 = a[0] - a[2] / 2, a[1] - a[3] / 2, a[0] + a[2] / 2, a[1] + a[3] / 2
    bx0, by0, bx1, by1 = b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2
    shared = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def naive_f1(outputs, boxes):
    hits = found = true = 0
    for output, padded in zip(outputs, boxes, strict=True):
        rows = [(max(c[4:]), int(np.argmax(c[4:])), tuple(c[:4])) for c in output.T if max(c[4:]) >= 0.5]
        kept = []
        for row in sorted(rows, key=lambda r: -r[0]):
            if all(row[1] != k[1] or naive_iou(row[2], k[2]) <= 0.5 for k in kept):
                kept.append(row)
        left = [tuple(b) for b in padded if b[0] >= 0]
        found, true = found + len(kept), true + len(left)
        for _, kind, box in kept:
            fitting = [b for b in left if b[0] == kind and naive_iou(box, b[1:]) >= 0.5]
            if fitting:
                hits += 1
                left.remove(max(fitting, key=lambda b: naive_iou(box, b[1:])))
    return 2 * hits / (found + true) if found + true else 0.0


@given(seeds)
def test_f1_of_detections(seed):
    rng = np.random.default_rng(seed)
    outputs, boxes = [], []
    for _ in range(4):
        truth = np.concatenate([rng.integers(0, 2, (3, 1)), rng.uniform(10, 50, (3, 2)), rng.uniform(8, 30, (3, 2))], 1)
        truth[rng.integers(1, 4) :] = -1
        cells = rng.uniform(5, 50, (4, 12))
        cells[:, :6] = truth[rng.integers(0, 3, 6), 1:].T + rng.uniform(-3, 3, (4, 6))
        outputs.append(np.concatenate([np.abs(cells), rng.random((2, 12))]).astype(np.float32))
        boxes.append(truth)
    assert measure(F1Detection(), outputs, boxes) == pytest.approx(naive_f1(outputs, boxes))


def test_a_detector_that_finds_nothing():
    assert measure(F1Detection(), [np.zeros((6, 5))], [np.array([[0, 1, 1, 1, 1.0]])]) == 0


def test_f1_needs_the_layout():
    with pytest.raises(DataError, match=r"expected an output \[batch, 4 \+ classes, cells\]"):
        F1Detection().sums(np.zeros(10), np.zeros((2, 5)))


def test_unknown_metric_suggests():
    with pytest.raises(UsageError, match="did you mean 'miou'"):
        find_metric("miuo")
