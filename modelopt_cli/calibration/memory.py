"""How much memory calibration may take: what is held of tensors and statistics at a time, beside model and sessions."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MB = 256.0
COPIES = 2  # of a tensor that is looked at: the session's, and the array that it hands out


@dataclass(frozen=True)
class WorkingMemory:
    """A bound on the arrays of calibration; the default is as little as does not cost time.

    Less means more passes over the data; more lets several samples run at a time.

    Attributes:
        mb: Megabytes (2^20 bytes) for all of it.
    """

    mb: float = DEFAULT_MB

    @property
    def tensors_mb(self) -> float:
        """Of one sample's tensors, when ranges are collected."""
        return min(self.mb, DEFAULT_MB)

    @property
    def spare_mb(self) -> float:
        """Beyond the default: for samples that run beside the first."""
        return max(self.mb - DEFAULT_MB, 0.0)

    @property
    def moments_mb(self) -> float:
        """Of second moments of the inputs of products."""
        return self.tensors_mb / 2

    @property
    def inputs_mb(self) -> float:
        """Of one sample's inputs of those products."""
        return self.tensors_mb / 4

    @property
    def patches_mb(self) -> float:
        """Of second moments of the patches of convolutions, with all copies of one sample's inputs of them.

        A quarter is left to the rounding of the largest weight; with more than half of the default there is one pass.
        """
        return 0.75 * min(COPIES * self.tensors_mb, DEFAULT_MB)
