"""Give memory back between the phases of a run."""

from __future__ import annotations

import ctypes
import gc


def release_memory() -> None:
    """Collect garbage and return freed pages to the system.

    glibc keeps what was freed below its growing mmap threshold (up to 32 MB a piece, ``mallopt(3)``): weights of closed
    sessions would stay resident, and the next phase come on top. Where there is no ``malloc_trim``, nothing happens.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
