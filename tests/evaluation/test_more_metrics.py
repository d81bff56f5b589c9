"""Every metric against a naive one, on random cases."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.errors import DataError, UsageError
from modelopt_cli.evaluation.average_precision import _average_precision
from modelopt_cli.evaluation.interval import whole_difference_interval
from modelopt_cli.evaluation.metric import ByClass
from modelopt_cli.evaluation.metrics import METRICS, AnyMetric, WholeMetric, choose_metric, find_metric
from modelopt_cli.evaluation.text import edit_distance

SEEDS = pytest.mark.parametrize("seed", range(8))


def measure(metric: AnyMetric, outputs: list[np.ndarray], truths: list[np.ndarray]) -> float:
    if isinstance(metric, WholeMetric):
        return metric.score([metric.keep(out, np.asarray(truth)) for out, truth in zip(outputs, truths, strict=True)])
    sums = [metric.sums(out, np.asarray(truth)) for out, truth in zip(outputs, truths, strict=True)]
    return float(metric.value(np.sum(sums, axis=0)))


@SEEDS
def test_precision_recall_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, labels = rng.normal(size=(40, 5)), rng.integers(0, 4, 40)
    answers = outputs.argmax(axis=1)
    found: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
    for kind in set(labels) | set(answers):
        hits = sum(1 for a, b in zip(answers, labels, strict=True) if a == b == kind)
        precision = hits / max(sum(answers == kind), 1)
        recall = hits / max(sum(labels == kind), 1)
        found["precision"].append(precision)
        found["recall"].append(recall)
        found["f1"].append(2 * precision * recall / (precision + recall) if hits else 0.0)
    for name, values in found.items():
        assert measure(find_metric(name), list(outputs), list(labels)) == pytest.approx(np.mean(values))


@SEEDS
def test_auc_is_the_share_of_pairs_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 6, 30) / 5, rng.integers(0, 2, 30)  # with ties
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(scores[labels == 1], scores[labels == 0])]
    one_each = [np.array([score], np.float32) for score in scores]
    assert measure(find_metric("auc"), one_each, list(labels)) == pytest.approx(np.mean(pairs), abs=1e-6)
    two_each = [np.array([0.0, score]) for score in scores]  # class 0 has the same score everywhere: all ties
    assert measure(find_metric("auc"), two_each, list(labels)) == pytest.approx((np.mean(pairs) + 0.5) / 2, abs=1e-6)


@SEEDS
@pytest.mark.parametrize("name", ["map", "map50"])
def test_mean_average_precision(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    truths, outputs = [], []
    for _ in range(6):
        true = np.concatenate([rng.integers(0, 2, (3, 1)), rng.uniform(2, 8, (3, 2)), rng.uniform(1, 3, (3, 2))], 1)
        cells = np.repeat(true[:, 1:].T, 2, axis=1) + rng.normal(0, 0.2, (4, 6))
        truths.append(np.concatenate([true, np.full((1, 5), -1.0)]))
        outputs.append(np.concatenate([cells, rng.uniform(0.01, 1, (2, 6))]))
    overlaps = [0.5] if name == "map50" else list(np.arange(0.5, 0.96, 0.05))
    expected = np.mean([_naive_ap(outputs, truths, kind, o) for kind in (0, 1) for o in overlaps])
    assert measure(find_metric(name), outputs, truths) == pytest.approx(expected)


def _naive_ap(outputs: list[np.ndarray], truths: list[np.ndarray], kind: int, overlap: float) -> float:
    """Detections one by one, as the definition says; class by class suppression included."""
    found = []
    for image, output in enumerate(outputs):
        boxes = [(output[4:, c].max(), int(output[4:, c].argmax()), output[:4, c]) for c in range(output.shape[1])]
        boxes = sorted((b for b in boxes if b[1] == kind), key=lambda b: -b[0])
        kept: list[tuple[float, np.ndarray]] = []
        for score, _, box in boxes:
            if all(_iou(box, other) <= 0.65 for _, other in kept):
                kept.append((score, box))
        found += [(score, image, box) for score, box in kept]
    used: set[tuple[int, int]] = set()
    true = sum(int((t[:, 0] == kind).sum()) for t in truths)
    hits = []
    for _, image, box in sorted(found, key=lambda each: -each[0]):
        free = [
            (_iou(box, row[1:]), i) for i, row in enumerate(truths[image]) if row[0] == kind and (image, i) not in used
        ]
        best = max(free, default=(0.0, -1), key=lambda pair: pair[0])
        hits.append(best[0] >= overlap)
        if hits[-1]:
            used.add((image, best[1]))
    points = [(sum(hits[: n + 1]) / true, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))]
    at = [max((p for r, p in points if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)]
    return float(np.mean(at))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    height = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    shared = max(width, 0) * max(height, 0)
    return float(shared / (a[2] * a[3] + b[2] * b[3] - shared))


def test_a_hundred_detections_of_each_class_count_as_coco_has_it() -> None:
    far = np.stack([np.arange(150.0) * 10 + 50, np.zeros(150), np.ones(150), np.ones(150)])
    scores = np.zeros((2, 151))
    scores[0, :150], scores[1, 150] = np.linspace(1, 0.5, 150), 0.4  # behind more than a hundred of the other class
    hit = np.array([[0.0], [0.0], [1.0], [1.0]])
    output = np.concatenate([np.concatenate([far, hit], axis=1), scores])
    assert measure(find_metric("map"), [output], [np.array([[1, 0, 0, 1, 1.0]])]) == 1.0
    last_of_its_class = np.array([[0, far[0, 100], 0, 1, 1.0]])
    assert measure(find_metric("map"), [output], [last_of_its_class]) == 0.0


def test_average_precision_of_no_detection_is_none() -> None:
    assert _average_precision(np.zeros(0, bool), 3) == 0.0
    assert _average_precision(np.array([True]), 1) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_edit_distance(first: str, second: str) -> None:
    @lru_cache(None)
    def naive(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        replaced = naive(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(naive(i - 1, j) + 1, naive(i, j - 1) + 1, replaced)

    assert edit_distance(first, second) == naive(len(first), len(second))


def test_error_rates_of_text_ids_and_ctc_scores() -> None:
    text = [np.array("the cat sat")], [np.array("the bat sat")]
    assert measure(find_metric("wer"), *text) == pytest.approx(1 / 3)
    assert measure(find_metric("cer"), *text) == pytest.approx(1 / 11)
    ids = np.array([1, 2, 9, 3, -1])
    assert measure(find_metric("wer"), [np.array([1, 2, 9, 4])], [ids]) == 1 / 4
    assert measure(find_metric("wer:separator=9"), [np.array([1, 2, 9, 4])], [ids]) == 1 / 2
    scores = np.eye(10)[[0, 1, 1, 0, 2, 9, 9, 0, 3]]  # blank, repeats: 1 2 9 3
    assert measure(find_metric("cer"), [scores], [ids]) == 0.0
    with pytest.raises(DataError, match="is no sequence of tokens"):
        measure(find_metric("cer"), [np.zeros((2, 2, 2))], [ids])


@SEEDS
def test_perplexity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 30, (4, 6, 11)), rng.integers(-1, 11, (4, 6))
    losses = [
        -np.log(
            np.exp(logits[s, t] - logits[s, t].max())[labels[s, t]] / np.exp(logits[s, t] - logits[s, t].max()).sum()
        )
        for s, t in product(range(4), range(6))
        if labels[s, t] >= 0
    ]
    assert measure(find_metric("perplexity"), list(logits), list(labels)) == pytest.approx(np.exp(np.mean(losses)))


@SEEDS
def test_regression(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, labels = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    labels[0, 0] = 0.0
    error, deviation = ((outputs - labels) ** 2).sum(), ((labels - labels.mean()) ** 2).sum()
    assert measure(find_metric("r2"), list(outputs), list(labels)) == pytest.approx(1 - error / deviation)
    relative = [abs((o - t) / t) for o, t in zip(outputs.ravel(), labels.ravel(), strict=True) if t]
    assert measure(find_metric("mape"), list(outputs), list(labels)) == pytest.approx(np.mean(relative))


@SEEDS
def test_neighbour_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(30, 4))
    outputs = labels + rng.normal(0, 0.5, labels.shape)

    def near(vectors: np.ndarray, index: int) -> set[int]:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        order = sorted((i for i in range(30) if i != index), key=lambda i: -float(unit[i] @ unit[index]))
        return set(order[:5])

    expected = np.mean([len(near(labels, i) & near(outputs, i)) / 5 for i in range(30)])
    assert measure(find_metric("neighbours:k=5"), list(outputs), list(labels)) == pytest.approx(expected)
    assert measure(find_metric("neighbours"), list(labels), list(labels)) == 1.0


def test_a_metric_of_all_samples_has_an_interval_too() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    good, bad = labels + rng.normal(0, 0.3, 200), rng.normal(size=200)
    metric = find_metric("auc")
    assert isinstance(metric, WholeMetric)
    first, second = (
        [metric.keep(np.array([s]), label) for s, label in zip(x, labels, strict=True)] for x in (good, bad)
    )
    interval = whole_difference_interval(metric, first, second)
    assert interval is not None
    assert 0.3 < interval[0] < metric.score(first) - metric.score(second) < interval[1] < 0.7
    same = whole_difference_interval(metric, first, first)
    assert same == (0.0, 0.0)


def test_every_metric_has_a_name_of_its_own() -> None:
    assert all(METRICS[name]().name == name for name in METRICS)


@pytest.mark.parametrize(
    ("name", "message"),
    [("wer:space=4", "has no option 'space'"), ("wer:separator=x", "'x' is no number"), ("os:getcwd", "no metric")],
)
def test_options_that_do_not_exist(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_metric(name)


def test_a_function_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric.py").write_text(
        "def share(outputs, labels):\n    return (outputs.argmax(1) == labels).mean()\n"
        "def broken(outputs, labels):\n    return float('nan')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    outputs, labels = list(np.eye(4)), list(np.array([0, 1, 2, 0]))
    assert measure(choose_metric("my_metric:share", allow_code=True), outputs, labels) == 0.75
    with pytest.raises(DataError, match="gave nan"):
        measure(choose_metric("my_metric:broken", allow_code=True), outputs, labels)
    with pytest.raises(UsageError) as refused:
        choose_metric("my_metric:share")
    assert "--allow-code" in refused.value.hint
    with pytest.raises(UsageError, match="cannot be imported"):
        choose_metric("my_metric:missing", allow_code=True)


def test_a_mean_over_classes_can_say_each() -> None:
    metric = find_metric("recall")
    assert isinstance(metric, ByClass)
    sums = [metric.sums(out, np.array(label)) for out, label in zip(np.eye(4)[[0, 0, 1]], [0, 1, 1], strict=True)]
    assert np.array_equal(metric.by_class(np.sum(sums, axis=0)), [1.0, 0.5, np.nan, np.nan], equal_nan=True)
