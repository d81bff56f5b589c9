"""Which instruction set this machine has, as far as integer kernels care."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from modelopt_cli.targets.target import Isa

CPUINFO = Path("/proc/cpuinfo")
# Extensions that kernels of runtimes choose by: vectors, products of integers and of halves.
_VECTORS = re.compile(r"(sse4_[12]|avx\w*|fma|f16c|amx_\w+|asimd\w*|sve\w*|sme\w*|i8mm|bf16|fphp)")


def detect_isa(cpuinfo: Path = CPUINFO, machine: str | None = None) -> Isa:
    """The best instruction set of this machine that a scheme exists for.

    Args:
        cpuinfo: Linux's description of the processor; other systems have none.
        machine: As ``platform.machine()``, which is the default.
    """
    architecture = (machine or platform.machine()).lower()
    flags = _flags(cpuinfo)
    if architecture in ("aarch64", "arm64"):
        # Every Apple processor has the dot product; they run no Linux that would say so.
        return "arm64_dotprod" if not flags or flags & {"asimddp", "i8mm"} else "arm64"
    if architecture not in ("x86_64", "amd64"):
        return "none"
    return _x64(flags)


def vector_flags(cpuinfo: Path = CPUINFO) -> list[str]:
    """What the processor has of the extensions that decide which kernels run, in order; empty where nobody says."""
    return sorted(flag for flag in _flags(cpuinfo) if _VECTORS.fullmatch(flag))


def _x64(flags: frozenset[str]) -> Isa:
    if flags & {"avx512_vnni", "avx512vnni"}:
        return "avx512_vnni"
    if flags & {"avx_vnni", "avxvnni"}:
        return "avx_vnni"
    if {"avx512f", "avx512bw"} <= flags:
        return "avx512"
    # Without a description (macOS, Windows) the safe scheme is the one that no x64 machine saturates.
    return "avx2"


def _flags(cpuinfo: Path) -> frozenset[str]:
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """What the processor calls itself; empty where the system does not say."""
    if not cpuinfo.is_file():
        return platform.processor()
    for line in cpuinfo.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return ""
