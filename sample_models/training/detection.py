"""What a detector needs besides its network: which cell answers for which digit, the loss, and the F1 score."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .architectures import CLASSES, Detector


def assign(boxes: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Which cells are positive, bool [n, 256], and the box each would answer for, [n, 256, 5].

    `boxes` [n, m, 5] as in `Scenes`, `centres` [2, 256]. A cell is positive when its centre is less than one stride
    from a digit's centre in x and in y: four cells for each digit.
    """
    distance = (centres.T - boxes[:, :, None, 1:3]).abs().amax(-1)  # [n, m, 256]
    distance = distance.masked_fill(boxes[:, :, :1] < 0, torch.inf)
    nearest, owner = distance.min(1)
    return nearest < Detector.stride, boxes.gather(1, owner[..., None].expand(-1, -1, 5))


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [..., 4] = cx, cy, w, h -> top left [..., 2] and bottom right [..., 2]."""
    centre, sides = boxes.split(2, dim=-1)
    return centre - sides / 2, centre + sides / 2


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pairwise IoU and generalized IoU (Rezatofighi et al. 2019, arXiv:1902.09630) of boxes [..., 4]; broadcasts."""
    (a_low, a_high), (b_low, b_high) = corners(a), corners(b)
    shared = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(-1)
    iou = shared / union
    return iou, iou - (hull - union) / hull


def detection_loss(model: Detector, image: Tensor, boxes: Tensor) -> Tensor:
    """Cross-entropy of every cell's ten scores plus generalized IoU of the positive cells, per positive cell."""
    predicted, logits = model.boxes_and_logits(image)
    positive, target = assign(boxes, model.centres)
    wanted = functional.one_hot(target[..., 0].clamp(min=0).long(), CLASSES) * positive[..., None]
    scores = functional.binary_cross_entropy_with_logits(logits.mT, wanted.float(), reduction="sum")
    _, giou = overlap(predicted.mT[positive], target[positive][:, 1:])
    return scores / positive.sum() + 2 * (1 - giou).mean()


def detect(output: Tensor, threshold: float = 0.5) -> Tensor:
    """Detections of one scene: output [14, 256] -> [k, 5] = class, cx, cy, w, h, best first, after suppression."""
    best, label = output[4:].max(0)
    rows = torch.cat((label[None].float(), output[:4])).T
    order = best.argsort(descending=True)
    kept: list[Tensor] = []
    for i in order[best[order] > threshold]:
        if all(overlap(rows[i, 1:], other[1:])[0] < 0.5 for other in kept):
            kept.append(rows[i])
    return torch.stack(kept) if kept else torch.empty(0, 5)


def f1_score(outputs: NDArray[np.float32], boxes: NDArray[np.float32]) -> float:
    """F1 over all scenes: a hit has the right class and an IoU of at least 0.5; each true box counts once.

    `outputs` [n, 14, 256] of the detector, `boxes` [n, m, 5] as in `Scenes`.
    """
    hits = found = true = 0
    for output, padded in zip(torch.from_numpy(outputs), torch.from_numpy(boxes), strict=True):
        left = list(padded[padded[:, 0] >= 0])
        detections = detect(output)
        found, true = found + len(detections), true + len(left)
        for row in detections:
            for i, box in enumerate(left):
                if row[0] == box[0] and overlap(row[1:], box[1:])[0] >= 0.5:
                    hits += 1
                    del left[i]
                    break
    return 2 * hits / max(found + true, 1)
