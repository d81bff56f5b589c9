"""How far a quantized model's outputs are from the float model's: what choices between variants are judged by.

An output may hold numbers of very different size side by side: box coordinates up to 640 and scores up to 1 in one
tensor. Its noise as a whole says nothing of the small ones, so outputs are cut into bands of alike magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.profiling.session import open_session, run

BAND_RATIO = 16.0  # on one 8-bit grid a channel so much smaller than its neighbour has 4 bits left
LARGEST_AXIS = 4096  # a longer axis counts positions, not channels
HELD_MB = 64.0  # of samples and float outputs, kept so that each variant costs one run per sample
LIMIT_DB = 200.0  # of equal outputs
Z_95 = 1.959964


@dataclass(frozen=True)
class BandError:
    """The error of a part of one output.

    Attributes:
        output: Its name.
        band: Which indices of which axis, for a person; empty for the whole output.
        sqnr_db: Signal to quantization noise, all samples together.
    """

    output: str
    band: str
    sqnr_db: float


@dataclass(frozen=True)
class OutputError:
    """How a variant's outputs differ from the float model's on the judged samples.

    Attributes:
        bands: Every output as a whole, and its bands where it has several.
        agreement: Share of rows with the same arg-max in the worst output of scores; None where there is none.
        rows: Rows that the agreement was counted on.
        drop: Loss of accuracy on labelled samples, as a fraction; None where nobody measured it.
    """

    bands: tuple[BandError, ...]
    agreement: float | None = None
    rows: int = 0
    drop: float | None = None

    @property
    def worst(self) -> BandError:
        """The band of most noise."""
        return min(self.bands, key=lambda band: band.sqnr_db, default=BandError("", "", LIMIT_DB))

    @property
    def sqnr_db(self) -> float:
        """Of the worst output as a whole."""
        return min((band.sqnr_db for band in self.bands if not band.band), default=LIMIT_DB)

    @property
    def agreement_at_most(self) -> float:
        """Upper end of the 95 % Wilson interval of the agreement: below it, chance does not explain the difference."""
        if self.agreement is None or not self.rows:
            return 1.0
        n, z2 = self.rows, Z_95**2
        spread = Z_95 * math.sqrt(self.agreement * (1 - self.agreement) / n + z2 / (4 * n * n))
        return (self.agreement + z2 / (2 * n) + spread) / (1 + z2 / n)


@dataclass(frozen=True)
class _Band:
    output: int
    label: str
    axis: int = 0
    indices: np.ndarray | None = None

    def of(self, array: np.ndarray) -> np.ndarray:
        return array if self.indices is None else np.take(array, self.indices, axis=self.axis)


class OutputJudge:
    """Runs the float model once on some samples, and then any number of variants against it.

    Args:
        model: The float model.
        data: Samples; as many are used as fit `HELD_MB` with their outputs, one at least.
    """

    def __init__(self, model: ir.Model, data: Dataset) -> None:
        self._names = [str(output.name) for output in model.graph.outputs]
        self._held: list[tuple[Sample, list[np.ndarray]]] = []
        session = open_session(model, arena=False)
        held = 0
        for sample in data:
            exact = run(session, dict(sample))
            held += sum(array.nbytes for array in (*sample.values(), *exact) if isinstance(array, np.ndarray))
            self._held.append((dict(sample), exact))
            if held > HELD_MB * 2**20:
                break
        self._bands = list(self._cut())

    def judge(self, model: ir.Model) -> OutputError:
        """The error of a variant; outputs that are not float count for nothing, those that are not finite for all."""
        session = open_session(model, arena=False)
        signal, noise = np.zeros(len(self._bands)), np.zeros(len(self._bands))
        same: dict[int, list[int]] = {index: [0, 0] for index in self._scores()}
        for sample, exact in self._held:
            found = run(session, dict(sample))
            for index, band in enumerate(self._bands):
                one, other = exact[band.output], found[band.output]
                signal[index] += _power(band.of(one))
                noise[index] += _power(band.of(one), band.of(other) if one.shape == other.shape else None)
            for output, counts in same.items():
                if exact[output].shape == found[output].shape:
                    equal = exact[output].argmax(axis=-1) == found[output].argmax(axis=-1)
                    counts[0] += int(equal.sum())
                counts[1] += exact[output].size // exact[output].shape[-1]
        shares = [(hits / rows, rows) for hits, rows in same.values() if rows]
        agreement, rows = min(shares, default=(None, 0))
        bands = zip(self._bands, signal, noise, strict=True)
        return OutputError(
            tuple(BandError(self._names[band.output], band.label, _decibel(s, n)) for band, s, n in bands),
            agreement,
            rows,
        )

    def _scores(self) -> Iterator[int]:
        """Outputs that are scores of classes: the arg-max over coordinates and scores together says nothing."""
        banded = {band.output for band in self._bands if band.indices is not None}
        for index, array in enumerate(self._held[0][1] if self._held else []):
            if _is_float(array) and array.ndim in (2, 3) and array.shape[-1] > 1 and index not in banded:
                yield index

    def _cut(self) -> Iterator[_Band]:
        for index in range(len(self._names)):
            arrays = [exact[index] for _, exact in self._held]
            if not arrays or not all(_is_float(array) and array.size for array in arrays):
                continue
            yield _Band(index, "")
            parts = max((list(_bands(index, arrays, axis)) for axis in _axes(arrays)), key=len, default=[])
            yield from parts if len(parts) > 1 else ()


def _axes(arrays: list[np.ndarray]) -> list[int]:
    """The axes that may count channels: the second and the last, of the same moderate length in all samples."""
    rank = arrays[0].ndim
    if rank < 3 or any(array.ndim != rank for array in arrays):
        return []
    return [axis for axis in {1, rank - 1} if len({a.shape[axis] for a in arrays}) == 1 < arrays[0].shape[axis]]


def _bands(output: int, arrays: list[np.ndarray], axis: int) -> Iterator[_Band]:
    """Indices of an axis by their largest magnitude: each band spans a factor of `BAND_RATIO` at most."""
    if arrays[0].shape[axis] > LARGEST_AXIS:
        return
    others = tuple(a for a in range(arrays[0].ndim) if a != axis)
    finite = [np.where(np.isfinite(array), np.abs(array), 0) for array in arrays]
    peaks = np.max([array.max(axis=others, initial=0.0) for array in finite], axis=0)
    order = [int(i) for i in np.argsort(-peaks, kind="stable") if peaks[i] > 0]
    while order:
        count = sum(peaks[i] * BAND_RATIO >= peaks[order[0]] for i in order)
        chosen = np.sort(order[:count])
        yield _Band(output, f"axis {axis}: {_ranges(chosen)}", axis, chosen)
        order = order[count:]


def _ranges(indices: np.ndarray) -> str:
    """``0-3, 5``."""
    runs = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(texts[:4]) + (" ..." if len(texts) > 4 else "")


def _is_float(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


def _power(exact: np.ndarray, found: np.ndarray | None = None) -> float:
    """Sum of squares of the finite values of an array, or of a difference where those are."""
    finite = np.isfinite(exact)
    difference = exact if found is None else exact - found
    return float(np.square(difference[finite], dtype=np.float64).sum())


def _decibel(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -LIMIT_DB
    if noise == 0:
        return LIMIT_DB
    return max(min(10 * math.log10(max(signal, 1e-30) / noise), LIMIT_DB), -LIMIT_DB)
