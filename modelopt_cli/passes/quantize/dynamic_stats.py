"""What the inputs of products look like: extremes per sample and channel, and second moments, from one stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.calibration.probe import probe_in_groups
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.progress import Progress

LARGEST_MOMENT = 4096  # channels; beyond it the K x K moment costs more memory and time than it gives
ROWS_AT_ONCE = 256  # a product with few rows spends its time on reading and writing the K x K moment


@dataclass(frozen=True)
class InputStatistics:
    """The rows (last axis: K channels) of one tensor over calibration.

    Attributes:
        low: Smallest value per sample and channel, and 0 where all are above, [samples, K].
        high: Largest value, and 0 where all are below, [samples, K].
        mean_square: Of each channel over all rows, [K].
        moment: Mean outer product of rows, [K, K]; None above `LARGEST_MOMENT` channels.
    """

    low: np.ndarray
    high: np.ndarray
    mean_square: np.ndarray
    moment: np.ndarray | None


def moment_bytes(channels: int) -> int:
    """Memory of the second moment of a tensor of so many channels."""
    return channels * channels * 4 if channels <= LARGEST_MOMENT else 0


class _Accumulator:
    def __init__(self, channels: int) -> None:
        self._lows: list[np.ndarray] = []
        self._highs: list[np.ndarray] = []
        self._rows = 0
        self._pending: list[np.ndarray] = []
        wide = channels > LARGEST_MOMENT
        self._square = np.zeros(channels, np.float64)
        self._moment = None if wide else np.zeros((channels, channels), np.float32)

    def update(self, rows: np.ndarray) -> None:
        self._lows.append(np.minimum(rows.min(axis=0), 0))
        self._highs.append(np.maximum(rows.max(axis=0), 0))
        self._rows += len(rows)
        self._square += np.einsum("rk,rk->k", rows, rows)
        if self._moment is not None:
            self._pending.append(rows)
            if sum(map(len, self._pending)) >= ROWS_AT_ONCE:
                self._add_moment()

    def _add_moment(self) -> None:
        if self._moment is not None and self._pending:
            rows = np.concatenate(self._pending)
            self._moment += rows.T @ rows
            self._pending.clear()

    def statistics(self) -> InputStatistics | None:
        self._add_moment()
        if not np.isfinite(self._square).all():
            return None
        if self._moment is not None:
            self._moment /= np.float32(self._rows)  # in place: a copy of all moments would be the largest thing here
        return InputStatistics(np.stack(self._lows), np.stack(self._highs), self._square / self._rows, self._moment)


def collect_input_statistics(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    progress: Progress,
    *,
    threads: int = 1,
    memory: WorkingMemory | None = None,
) -> dict[str, InputStatistics]:
    """Statistics of tensors of the main graph whose last axis counts channels.

    Memory does not grow with rows; two vectors of length K are kept per sample. Tensors that are not finite on some
    sample, or empty, are left out.

    Raises:
        ModelError: There is no such tensor, or the runtime cannot load the model.
        DataError: The data set is empty or damaged, or the model does not run on it.
    """
    memory = memory or WorkingMemory()
    found: dict[str, _Accumulator] = {}
    stream = probe_in_groups(
        model,
        tensors,
        dataset,
        threads=threads,
        max_memory_mb=memory.inputs_mb,
        spare_mb=memory.spare_mb,
        progress=progress,
        label="second moments",
    )
    for name, array in stream:
        rows = np.asarray(array, np.float32).reshape(-1, array.shape[-1])
        if len(rows):
            found.setdefault(name, _Accumulator(rows.shape[1])).update(rows)
    statistics = {name: accumulator.statistics() for name, accumulator in found.items()}
    return {name: known for name, known in statistics.items() if known is not None}
