"""The digits, their random distortion while training, and scenes with several digits for the detector."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SCENE_SIDE = 64
FRAME_SIDE = 640

Edges = tuple[int, int, int, int]  # left, top, right, bottom
Box = tuple[float, float, float, float]  # cx, cy, w, h
MOST_DIGITS = 5


class Digits(NamedTuple):
    """Labelled digits: `image` float32 [n, 1, 28, 28] in [0, 1], `label` int64 [n]."""

    image: Tensor
    label: Tensor


class Scenes(NamedTuple):
    """Scenes: `image` float32 [n, 1, 64, 64] in [0, 1]; `boxes` float32 [n, 5, 5] = class, cx, cy, w, h.

    The image is the thumbnail of a 640x640 frame, and boxes are in pixels of the frame. A scene with fewer than five
    digits is padded with rows of class -1.
    """

    image: Tensor
    boxes: Tensor


def load_digits(path: Path) -> tuple[Digits, Digits]:
    """The 8,000 training and 2,000 evaluation digits of `mnist10k.npz` (uint8 images and labels)."""
    with np.load(path) as arrays:
        train, test = (
            Digits(
                torch.from_numpy(arrays[f"{part}_images"]).float().div(255).unsqueeze(1),
                torch.from_numpy(arrays[f"{part}_labels"]).long(),
            )
            for part in ("train", "test")
        )
    return train, test


def distort(image: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by up to 12 degrees, scale by up to 12 % and shift by up to 2 pixels, each image by its own amount."""
    n = len(image)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, scale = uniform(math.radians(12)), 1 + uniform(0.12)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    # affine_grid counts in half image sides: 2 pixels of 28 are 2 / 14.
    theta = torch.stack((cos, -sin, uniform(2 / 14), sin, cos, uniform(2 / 14)), dim=1).view(n, 2, 3)
    grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, align_corners=False)


def digit_batches(digits: Digits, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of distorted, shuffled batches (image [size, 1, 28, 28], label [size]); a short last one is dropped."""
    order = torch.randperm(len(digits.image), generator=generator)
    for rows in order.split(size):
        if len(rows) == size:
            yield distort(digits.image[rows], generator), digits.label[rows]


def paste_digit(canvas: NDArray[np.float32], digit: Tensor, taken: list[Edges], rng: np.random.Generator) -> Box | None:
    """Draw one digit at a random size and free place of `canvas` [64, 64]; its tight box (cx, cy, w, h), or None.

    All in pixels of the canvas. `taken` holds what was drawn so far and gains the new digit.
    """
    side = int(rng.integers(18, 36))
    image = functional.interpolate(digit[None], size=(side, side), mode="bilinear", antialias=True)[0, 0].numpy()
    rows, columns = np.nonzero((image > 0.15).any(1))[0], np.nonzero((image > 0.15).any(0))[0]
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    left, top = int(rng.integers(0, SCENE_SIDE - width)), int(rng.integers(0, SCENE_SIDE - height))
    right, bottom = left + width, top + height
    if any(left <= r and right >= x and top <= b and bottom >= y for x, y, r, b in taken):
        return None
    taken.append((left, top, right, bottom))
    canvas[top:bottom, left:right] = ink * rng.uniform(0.6, 1.0)
    return left + width / 2, top + height / 2, float(width), float(height)


def make_scenes(digits: Digits, count: int, rng: np.random.Generator) -> Scenes:
    """`count` scenes of two to five digits that do not overlap, 9 to 26 pixels high, on black."""
    images = np.zeros((count, 1, SCENE_SIDE, SCENE_SIDE), np.float32)
    boxes = np.zeros((count, MOST_DIGITS, 5), np.float32)
    boxes[:, :, 0] = -1
    for image, rows in zip(images, boxes, strict=True):
        wanted = int(rng.integers(2, MOST_DIGITS + 1))
        taken: list[Edges] = []
        for _ in range(4 * wanted):  # a full canvas may refuse some
            if len(taken) == wanted:
                break
            pick = int(rng.integers(len(digits.image)))
            if box := paste_digit(image[0], digits.image[pick], taken, rng):
                rows[len(taken) - 1] = (int(digits.label[pick]), *box)
    boxes[:, :, 1:] *= FRAME_SIDE / SCENE_SIDE
    # Eight-bit pixels, as a camera or a PNG would give, and a quarter of the file size.
    return Scenes(torch.from_numpy(np.rint(images * 255) / np.float32(255)), torch.from_numpy(boxes))


def scene_batches(digits: Digits, size: int, count: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of new scenes, as `count` batches (image [size, 1, 64, 64], boxes [size, 5, 5])."""
    for _ in range(count):
        scenes = make_scenes(digits, size, rng)
        yield scenes.image, scenes.boxes
