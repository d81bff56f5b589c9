"""From a detector's raw output to matched boxes."""

from __future__ import annotations

import numpy as np


def match_detections(
    output: np.ndarray, truth: np.ndarray, score: float, suppression: float, overlap: float
) -> tuple[int, int]:
    """Hits and detections of one image, best score first.

    Args:
        output: [4 + classes, cells]: cx, cy, w, h, then scores.
        truth: [boxes, 5]: class, cx, cy, w, h.
        score: Cells below are no detections.
        suppression: IoU above which the lower score of one class goes.
        overlap: Least IoU of a hit.
    """
    boxes, classes, _ = detections(output, score, suppression)
    free = np.ones(len(truth), bool)
    hits = 0
    for box, kind in zip(boxes, classes, strict=True):
        candidates = np.where(free & (truth[:, 0] == kind), iou(box, truth[:, 1:]), 0.0)
        if candidates.size and candidates.max() >= overlap:
            free[candidates.argmax()] = False
            hits += 1
    return hits, len(boxes)


def detections(output: np.ndarray, score: float, suppression: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [k, 4], classes [k] and scores [k] after non-maximum suppression within each class, best first."""
    scores = output[4:]
    best = scores.max(axis=0)
    cells = np.flatnonzero(best >= score)
    cells = cells[np.argsort(-best[cells], kind="stable")]
    boxes, classes = output[:4, cells].T.astype(np.float64), scores[:, cells].argmax(axis=0)
    alive = np.ones(len(cells), bool)
    for index in range(len(cells)):
        if alive[index]:
            rivals = (classes == classes[index]) & (iou(boxes[index], boxes) > suppression)
            rivals[: index + 1] = False
            alive &= ~rivals
    return boxes[alive], classes[alive], best[cells][alive]


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one box [4] with others [n, 4], all cx, cy, w, h; 0 for boxes without area."""
    low = np.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = box[2:].prod() + others[:, 2:].prod(axis=1) - shared
    result: np.ndarray = np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)
    return result
