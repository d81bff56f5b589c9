"""The shared libraries behind a provider: found where wheels put them, and named when one is missing."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
from pathlib import Path
from types import ModuleType

# Providers of the -gpu wheel, whose own libraries come in other wheels or from the system.
_NVIDIA = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "tensorrt"}


def missing_library(provider: str, ort: ModuleType) -> str | None:
    """The loader's own words on why a provider's library does not load; None where it does, or there is none.

    The runtime only logs them, and then goes on with the CPU or names a page of its documentation.
    """
    folder = Path(str(ort.__file__)).parent / "capi"
    library = folder / f"libonnxruntime_providers_{provider.removesuffix('ExecutionProvider').lower()}.so"
    if not library.is_file():
        return None
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return None


def repair_hint(provider: str, missing: str) -> str:
    """What to install for a provider whose library does not load.

    Args:
        provider: The runtime's name of it.
        missing: What `missing_library` said.
    """
    name = re.match(r"lib(\w+?)(?:-\d.*)?\.so", missing)
    if provider == "TensorrtExecutionProvider" and name is not None and name[1].startswith("nv"):
        return "pip install tensorrt, of the CUDA version that onnxruntime-gpu was built with"
    if provider in _NVIDIA:
        more = ", and tensorrt" if provider == "TensorrtExecutionProvider" else ""
        return f'pip install "onnxruntime-gpu[cuda,cudnn]"{more}, or put it on LD_LIBRARY_PATH'
    return "install it, or put it on LD_LIBRARY_PATH"


def preload(provider: str, ort: ModuleType) -> None:
    """Load what wheels of NVIDIA's libraries put where no loader looks, before a session needs it."""
    if provider in _NVIDIA and hasattr(ort, "preload_dlls"):
        _preload(ort)


@functools.cache
def _preload(ort: ModuleType) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(RuntimeError):
        ort.preload_dlls()  # it prints what it does not find; so does `missing_library`, in one line
