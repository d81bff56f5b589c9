"""Which samples teach and which judge, and how many rows of each are looked at."""

from __future__ import annotations

BLOCKS = 8  # of neighbouring samples, of which the fourth and the last judge
FEWEST_TO_SPLIT = 8
ROWS_PER_COLUMN = 6
FEWEST_ROWS, MOST_ROWS = 1024, 8192


def is_held_out(index: int, count: int) -> bool:
    """Whether a sample judges what the others have taught.

    Neighbours in a data set are often alike (crops of a photo, frames of a film): judges are neighbours of each other.
    """
    return count >= FEWEST_TO_SPLIT and index * BLOCKS // count % 4 == 3


def rows_per_sample(columns: int, samples: int) -> int:
    """Rows to draw from each sample for a matrix of so many columns."""
    wanted = min(max(ROWS_PER_COLUMN * columns, FEWEST_ROWS), max(MOST_ROWS, 2 * columns))
    return wanted // max(samples, 1) + 1
