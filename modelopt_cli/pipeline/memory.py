"""Give memory back between the phases of a run."""

from __future__ import annotations

import ctypes
import gc

from modelopt_cli.graph.mapped import release_mapped

LARGE_BYTES = 8 << 20  # what is larger goes back to the system at once
_M_MMAP_THRESHOLD = -3  # of `mallopt(3)`


def return_large_blocks() -> None:
    """Let freed arrays go back to the system at once: the peak is lower, and the same from run to run.

    Left alone, glibc keeps ever larger blocks in its heap, where small ones that live longer pin them: PP-OCRv4's
    detector took between 390 and 770 MB, and 360 MB like this. Pages that come back have to be cleared: from 1 MB on
    the same peak took 64 s, 17 of them in the kernel, instead of 57.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_M_MMAP_THRESHOLD, LARGE_BYTES)


def release_memory() -> None:
    """Collect garbage, and return freed pages and those of mapped weights to the system.

    glibc keeps what was freed below its growing mmap threshold (up to 32 MB a piece, ``mallopt(3)``): weights of closed
    sessions would stay resident, and the next phase come on top. Where there is no ``malloc_trim``, nothing happens.
    """
    gc.collect()
    release_mapped()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
