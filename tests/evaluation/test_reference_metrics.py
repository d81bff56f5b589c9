"""Every metric against the implementation that its field goes by, on random cases."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
import pytest

from modelopt_cli.evaluation.detection import detections
from modelopt_cli.evaluation.metrics import METRICS, WholeMetric, find_metric

SEEDS = pytest.mark.parametrize("seed", range(25))
pytestmark = pytest.mark.reference


@pytest.fixture(autouse=True)
def libraries() -> None:
    for name in ("sklearn", "pycocotools", "jiwer"):
        pytest.importorskip(name, reason="pip install --group reference")


def measure(name: str, outputs: object, truths: object) -> float:
    metric = find_metric(name)
    pairs = list(zip(list(outputs), map(np.asarray, truths), strict=True))
    if isinstance(metric, WholeMetric):
        return metric.score([metric.keep(*pair) for pair in pairs])
    return float(metric.value(np.sum([metric.sums(*pair) for pair in pairs], axis=0)))


@SEEDS
def test_classification(seed: int) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    classes = int(rng.integers(6, 9))
    scores, labels = rng.normal(size=(60, classes)), rng.integers(0, classes - 1, 60)  # one class never occurs
    answers, every = scores.argmax(axis=1), np.arange(classes)
    for name, reference in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        assert measure(name, scores, labels) == pytest.approx(
            reference(labels, answers, average="macro", zero_division=0)
        )
    assert measure("top1", scores, labels) == pytest.approx(metrics.accuracy_score(labels, answers))
    assert measure("top5", scores, labels) == pytest.approx(
        metrics.top_k_accuracy_score(labels, scores, k=5, labels=every)
    )


@SEEDS
def test_area_under_curve(seed: int) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, 58)])
    scores = np.round(rng.normal(size=60) + labels, 1)  # with ties
    assert measure("auc", scores[:, None], labels) == pytest.approx(metrics.roc_auc_score(labels, scores))
    many, shares = np.concatenate([np.arange(4), rng.integers(0, 4, 56)]), rng.dirichlet(np.ones(4), 60)
    assert measure("auc", shares, many) == pytest.approx(metrics.roc_auc_score(many, shares, multi_class="ovr"))


@SEEDS
def test_segmentation(seed: int) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    maps, labels = rng.normal(size=(3, 5, 8, 8)), rng.integers(0, 4, (3, 8, 8))
    expected = metrics.jaccard_score(labels.ravel(), maps.argmax(axis=1).ravel(), average="macro", zero_division=0)
    assert measure("miou", maps, labels) == pytest.approx(expected)
    masks, truths = rng.random((3, 8, 8)), rng.integers(0, 2, (3, 8, 8))
    assert measure("mask-iou", masks, truths) == pytest.approx(
        metrics.jaccard_score(truths.ravel(), masks.ravel() > 0.5)
    )


@SEEDS
def test_regression(seed: int) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(30, 4)) + 3
    outputs = labels + rng.normal(0, 0.5, labels.shape)
    flat = labels.ravel(), outputs.ravel()
    assert measure("mae", outputs, labels) == pytest.approx(metrics.mean_absolute_error(*flat))
    assert measure("rmse", outputs, labels) == pytest.approx(metrics.root_mean_squared_error(*flat))
    assert measure("mape", outputs, labels) == pytest.approx(metrics.mean_absolute_percentage_error(*flat))
    assert measure("r2", outputs, labels) == pytest.approx(metrics.r2_score(*flat))


@SEEDS
def test_embeddings(seed: int) -> None:
    from sklearn.metrics.pairwise import paired_cosine_distances
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(40, 6))
    outputs = labels + rng.normal(0, 0.4, labels.shape)
    expected = 1 - paired_cosine_distances(outputs, labels).mean()
    assert measure("cosine", outputs, labels) == pytest.approx(expected)
    near = [NearestNeighbors(n_neighbors=7, metric="cosine").fit(each).kneighbors()[1] for each in (outputs, labels)]
    shared = np.mean([len(set(a) & set(b)) / 7 for a, b in zip(*near, strict=True)])
    assert measure("neighbours:k=7", outputs, labels) == pytest.approx(shared)


@SEEDS
def test_perplexity(seed: int) -> None:
    from scipy.special import softmax
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (5, 7, 11)), rng.integers(0, 11, (5, 7))
    loss = metrics.log_loss(labels.ravel(), softmax(logits.reshape(-1, 11), axis=1), labels=np.arange(11))
    assert measure("perplexity", logits, labels) == pytest.approx(np.exp(loss))


def sentences(rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    words = ["a", "an", "and", "cat", "cats", "sat", "sad", "on"]
    for _ in range(12):
        yield " ".join(rng.choice(words, rng.integers(1, 9))), " ".join(rng.choice(words, rng.integers(1, 9)))


@SEEDS
def test_error_rates(seed: int) -> None:
    import jiwer

    answers, truths = zip(*sentences(np.random.default_rng(seed)), strict=True)
    arrays = [np.array(each) for each in answers], [np.array(each) for each in truths]
    assert measure("wer", *arrays) == pytest.approx(jiwer.wer(list(truths), list(answers)))
    assert measure("cer", *arrays) == pytest.approx(jiwer.cer(list(truths), list(answers)))


@SEEDS
def test_average_precision(seed: int) -> None:
    """By COCO's own code; every third case with more detections in an image than count."""
    rng = np.random.default_rng(seed)
    true, cells = 5, 150 if seed % 3 == 0 else 12
    outputs, truths = [], []
    for _ in range(6):
        boxes = np.concatenate([rng.uniform(0, 90, (true, 2)), rng.uniform(5, 20, (true, 2))], axis=1)
        truths.append(np.concatenate([rng.integers(0, 3, (true, 1)), boxes], axis=1))
        near = boxes[rng.integers(0, true, cells)] + rng.normal(0, 1.5, (cells, 4))
        far = np.concatenate([rng.uniform(0, 900, (cells, 2)), rng.uniform(5, 20, (cells, 2))], axis=1)
        found = np.where(rng.random((cells, 1)) < 0.5, near, far)
        outputs.append(np.concatenate([found.T, rng.uniform(0.01, 1, (3, cells))]))
    overall, at_half = coco(outputs, truths)
    assert measure("map", outputs, truths) == pytest.approx(overall)
    assert measure("map50", outputs, truths) == pytest.approx(at_half)


def coco(outputs: list[np.ndarray], truths: list[np.ndarray]) -> tuple[float, float]:
    """COCO's average precision of what is left after non-maximum suppression, which is no part of its definition."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(image: int, kind: int, box: np.ndarray) -> dict[str, object]:
        corner = [*(box[:2] - box[2:] / 2), *box[2:]]
        return {"image_id": image, "category_id": int(kind), "bbox": corner, "area": box[2] * box[3], "iscrowd": 0}

    rows = [entry(image, row[0], row[1:]) for image, truth in enumerate(truths, 1) for row in truth]
    found = []
    for image, output in enumerate(outputs, 1):
        for box, kind, score in zip(*detections(output, 0.001, 0.65), strict=True):
            found.append({**entry(image, kind, box), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "categories": [{"id": kind} for kind in range(3)],
            "annotations": [{**row, "id": index} for index, row in enumerate(rows, 1)],
        }
        reference.createIndex()
        judge = COCOeval(reference, reference.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def test_every_metric_is_held_against_another_implementation() -> None:
    tested = {"top1", "top5", "precision", "recall", "f1", "auc", "miou", "mask-iou", "mae", "rmse", "mape", "r2"}
    tested |= {"cosine", "neighbours", "perplexity", "wer", "cer", "map", "map50"}
    assert set(METRICS) == tested | {"f1-detection"}  # no library has it: naive code in test_metrics.py
