"""How far a quantized model's outputs are from the float model's: what choices between variants are judged by.

An output may hold numbers of very different size side by side: box coordinates up to 640 and scores up to 1 in one
tensor. Its noise as a whole says nothing of the small ones, so such an output is cut in two bands, judged apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.evaluation.agreement import UNSTEADY, are_scores, has_classes, unsteady
from modelopt_cli.format import IDENTICAL_DB
from modelopt_cli.profiling.session import open_session, run

BAND_RATIO = 16.0  # on one 8-bit grid a channel so much smaller than its neighbour has 4 bits left
LARGEST_AXIS = 4096  # a longer axis counts positions, not channels
HELD_MB = 64.0  # of samples and float outputs, kept so that each variant costs one run per sample
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
        answers: Likewise for every output that the report counts answers of: also where they are unsteady.
        drop: Loss of accuracy on labelled samples, as a fraction; None where nobody measured it.
    """

    bands: tuple[BandError, ...]
    agreement: float | None = None
    rows: int = 0
    answers: float | None = None
    drop: float | None = None

    @property
    def worst(self) -> BandError:
        """The band of most noise."""
        return min(self.bands, key=lambda band: band.sqnr_db, default=BandError("", "", IDENTICAL_DB))

    @property
    def sqnr_db(self) -> float:
        """Of the worst output as a whole."""
        return min((band.sqnr_db for band in self.bands if not band.band), default=IDENTICAL_DB)

    @property
    def agreement_at_most(self) -> float:
        """Upper end of the 95 % Wilson interval of the agreement: below it, chance does not explain the difference."""
        if self.agreement is None or not self.rows:
            return 1.0
        n, z2 = self.rows, Z_95**2
        spread = Z_95 * math.sqrt(self.agreement * (1 - self.agreement) / n + z2 / (4 * n * n))
        return (self.agreement + z2 / (2 * n) + spread) / (1 + z2 / n)


def _until(most: float, data: Dataset) -> list[Sample]:
    """The first samples, the last of which is the one that passes ``most`` bytes."""
    taken: list[Sample] = []
    for sample in data:
        taken.append(dict(sample))
        most -= sum(array.nbytes for array in sample.values())
        if most < 0:
            break
    return taken


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
        dims = {dim for value in model.graph.inputs for dim in _dims(value)[1:]}
        self._declared = [are_scores(_dims(value), dims) for value in model.graph.outputs]
        self._held: list[tuple[Sample, list[np.ndarray]]] = []
        session = open_session(model, arena=False)
        most = HELD_MB * 2**20
        # All samples before the first run: read between runs they settle in the holes that its tensors left, and the
        # next run's need new memory; EfficientNet's peak was 490 MB instead of 350 in one process of eight.
        for sample in _until(most, data):
            exact = run(session, sample)
            most -= sum(array.nbytes for array in (*sample.values(), *exact) if isinstance(array, np.ndarray))
            self._held.append((sample, exact))
            if most < 0:
                break
        self._bands = list(self._cut())

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._held)

    def noisiest(self, model: ir.Model, count: int) -> list[int]:
        """Indices of the samples that a variant errs most on, measured by each band's signal over all samples."""
        session = open_session(model, arena=False)
        signal = np.zeros(len(self._bands))
        noise = np.zeros((len(self), len(self._bands)))
        for row, (sample, exact) in enumerate(self._held):
            found = run(session, dict(sample))
            for index, band in enumerate(self._bands):
                signal[index] += _power(band.of(exact[band.output]))
                noise[row, index] = _noise(band, exact, found)
        shares = np.nan_to_num(noise / np.maximum(signal, 1e-30), nan=np.inf).max(axis=1, initial=0.0)
        return sorted(np.argsort(-shares, kind="stable")[:count].tolist())

    def judge(self, model: ir.Model, most: int | None = None, *, only: Sequence[int] | None = None) -> OutputError:
        """The error of a variant; outputs that are not float count for nothing, those that are not finite for all.

        Args:
            model: The variant.
            most: Samples to look at, the first ones; None for all.
            only: Indices of those to look at instead.
        """
        held = self._held[:most] if only is None else [self._held[index] for index in only]
        session = open_session(model, arena=False)
        signal, noise = np.zeros(len(self._bands)), np.zeros(len(self._bands))
        same: dict[int, list[int]] = {index: [0, 0] for index in self._ranked()}
        for sample, exact in held:
            found = run(session, dict(sample))
            for index, band in enumerate(self._bands):
                signal[index] += _power(band.of(exact[band.output]))
                noise[index] += _noise(band, exact, found)
            for output, counts in same.items():
                if exact[output].shape == found[output].shape:
                    equal = exact[output].argmax(axis=-1) == found[output].argmax(axis=-1)
                    counts[0] += int(equal.sum())
                counts[1] += exact[output].size // exact[output].shape[-1]
        shares = {output: (hits / rows, rows) for output, (hits, rows) in same.items() if rows}
        agreement, rows = min((shares[output] for output in self._scores() if output in shares), default=(None, 0))
        answers = min((share for share, _ in shares.values()), default=None)
        bands = zip(self._bands, signal, noise, strict=True)
        return OutputError(
            tuple(BandError(self._names[band.output], band.label, _decibel(s, n)) for band, s, n in bands),
            agreement,
            rows,
            answers,
        )

    def _ranked(self) -> list[int]:
        """Outputs of which the report compares the arg-max over the last axis."""
        return [index for index in range(len(self._names)) if self._holds_answers(index)]

    def _scores(self) -> list[int]:
        """Those whose answers int8 has to keep: steady ones, and no mixture of scores and coordinates."""
        banded = {band.output for band in self._bands if band.indices is not None}
        return [i for i in self._ranked() if i not in banded and self._is_steady(i)]

    def _holds_answers(self, output: int) -> bool:
        arrays, sure = self._of(output), self._declared[output]
        if sure is False or not arrays or not all(has_classes(array, sure=bool(sure)) for array in arrays):
            return False
        return bool(sure) or self._is_steady(output)

    def _is_steady(self, output: int) -> bool:
        arrays = self._of(output)
        rows = sum(array.size // array.shape[-1] for array in arrays)
        return bool(sum(map(unsteady, arrays)) <= UNSTEADY * rows)

    def _of(self, output: int) -> list[np.ndarray]:
        found = [exact[output] for _, exact in self._held]
        return found if all(_is_float(array) and array.size for array in found) else []

    def _cut(self) -> Iterator[_Band]:
        for index in range(len(self._names)):
            arrays = [exact[index] for _, exact in self._held]
            if not arrays or not all(_is_float(array) and array.size for array in arrays):
                continue
            yield _Band(index, "")
            axis = _channel_axis(arrays)
            if axis is not None:
                yield from _bands(index, arrays, axis)


def _dims(value: ir.Value) -> list[int | str | None]:
    """The declared dimensions: numbers, names, None where nothing is known; of rank 2 where not even the rank is."""
    if value.shape is None:
        return [None, None]
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape.dims]


def _channel_axis(arrays: list[np.ndarray]) -> int | None:
    """The axis that counts channels, if one does: positions are many, and their lengths follow the input's."""
    shape = arrays[0].shape
    rank = len(shape)
    if rank < 3 or any(array.ndim != rank for array in arrays):
        return None
    channels_last = shape[2] < shape[1] if rank == 3 else rank > 4 or shape[3] < min(shape[1:3])
    axis = rank - 1 if channels_last else 1
    lengths = {array.shape[axis] for array in arrays}
    return axis if len(lengths) == 1 and 1 < shape[axis] <= LARGEST_AXIS else None


def _bands(output: int, arrays: list[np.ndarray], axis: int) -> Iterator[_Band]:
    """Channels of large and of small numbers, cut where the gap between largest magnitudes is widest."""
    others = tuple(a for a in range(arrays[0].ndim) if a != axis)
    finite = [np.where(np.isfinite(array), np.abs(array), 0) for array in arrays]
    peaks = np.max([array.max(axis=others, initial=0.0) for array in finite], axis=0)
    order = np.array([i for i in np.argsort(-peaks, kind="stable") if peaks[i] > 0], np.int64)
    gaps = peaks[order[:-1]] / peaks[order[1:]]
    if gaps.size and gaps.max() >= BAND_RATIO:
        cut = int(gaps.argmax()) + 1
        for chosen in (np.sort(order[:cut]), np.sort(order[cut:])):
            yield _Band(output, f"axis {axis}: {_ranges(chosen)}", axis, chosen)


def _ranges(indices: np.ndarray) -> str:
    """``0-3, 5``."""
    runs = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(texts[:4]) + (" ..." if len(texts) > 4 else "")


def _is_float(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


def _noise(band: _Band, exact: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Power of the difference; of another shape nothing is right."""
    one, other = exact[band.output], found[band.output]
    return _power(band.of(one), band.of(other) if one.shape == other.shape else None)


def _power(exact: np.ndarray, found: np.ndarray | None = None) -> float:
    """Sum of squares of the finite values of an array, or of a difference where those are."""
    finite = np.isfinite(exact)
    difference = exact if found is None else exact - found
    return float(np.square(difference[finite], dtype=np.float64).sum())


def _decibel(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -IDENTICAL_DB
    if noise == 0:
        return IDENTICAL_DB
    return max(min(10 * math.log10(max(signal, 1e-30) / noise), IDENTICAL_DB), -IDENTICAL_DB)
