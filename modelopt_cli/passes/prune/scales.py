"""Scales of output channels in one byte each: sixteenths of an octave, rounded up, so that nothing is clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PER_OCTAVE = 16  # steps of 4.4 %: values are rounded 2 % more coarsely on average
MOST = 255
DECODER_BYTES = 400  # nodes and names


@dataclass(frozen=True)
class LogScales:
    """``scale = exp(codes * step + least)``.

    Attributes:
        codes: uint8, shaped like the scales.
        step: float32, a scalar.
        least: float32, a scalar.
    """

    codes: np.ndarray
    step: np.ndarray
    least: np.ndarray

    @classmethod
    def of(cls, scales: np.ndarray) -> LogScales | None:
        """Codes for scales that `rounded_up` gave; None where they save nothing or the scales lie too far apart."""
        exponents = np.rint(np.log2(scales.astype(np.float64)) * PER_OCTAVE)
        codes = exponents - exponents.min()
        if scales.size * (scales.itemsize - 1) <= DECODER_BYTES or codes.max() > MOST:
            return None
        step = np.log(2) / PER_OCTAVE
        least = np.array(exponents.min() * step, np.float32)
        return cls(codes.astype(np.uint8), np.array(step, np.float32), least)


def rounded_up(scales: np.ndarray) -> np.ndarray:
    """The next powers of two to a sixteenth, in the same type."""
    exponents = np.ceil(np.log2(scales.astype(np.float64)) * PER_OCTAVE - 1e-9)
    rounded: np.ndarray = np.exp2(exponents / PER_OCTAVE).astype(scales.dtype)
    return rounded
