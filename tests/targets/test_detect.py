"""The instruction set follows from what the kernel says."""

from pathlib import Path

import pytest

from modelopt_cli.targets.detect import detect_isa, vector_flags


@pytest.mark.parametrize(
    ("machine", "text", "isa"),
    [
        ("x86_64", "flags\t: fpu avx avx2 avx512f avx512bw avx512_vnni", "avx512_vnni"),
        ("x86_64", "flags : avx2 avx_vnni", "avx_vnni"),
        ("x86_64", "flags : avx2 avx512f avx512bw", "avx512"),
        ("x86_64", "flags : avx2", "avx2"),
        ("aarch64", "Features\t: fp asimd", "arm64"),
        ("aarch64", "Features : fp asimd asimddp", "arm64_dotprod"),
        ("arm64", None, "arm64_dotprod"),
        ("AMD64", None, "avx2"),
        ("riscv64", "isa : rv64", "none"),
    ],
)
def test_detect(tmp_path: Path, machine: str, text: str | None, isa: str):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(f"processor : 0\n{text}\n")
    assert detect_isa(path, machine) == isa


def test_flags_that_choose_kernels(tmp_path: Path):
    path = tmp_path / "cpuinfo"
    path.write_text("flags : fpu sse2 sse4_1 fma avx2 avx512_vnni amx_int8 avxxx hypervisor\n")
    assert vector_flags(path) == ["amx_int8", "avx2", "avx512_vnni", "avxxx", "fma", "sse4_1"]
    path.write_text("Features : fp asimd asimddp i8mm sve2\n")
    assert vector_flags(path) == ["asimd", "asimddp", "i8mm", "sve2"]
    assert vector_flags(tmp_path / "none") == []
