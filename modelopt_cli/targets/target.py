"""What the result is meant for: a provider, and the instruction set it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]
Isa = Literal["avx2", "avx512", "avx512_vnni", "avx_vnni", "arm64", "arm64_dotprod", "none"]
Dialect = Literal["onnx", "onnxruntime"]


@dataclass(frozen=True)
class Target:
    """A provider x instruction set; both resolved, never ``auto``.

    Attributes:
        provider: Execution provider the user deploys on.
        isa: Instruction set of the CPU; ``none`` for GPU providers.
        dialect: ``onnx`` writes standard operators only; ``onnxruntime`` may use its ``com.microsoft`` ones.
        max_opset: Never write a newer opset than this, or None.
    """

    provider: Provider = "cpu"
    isa: Isa = "avx512_vnni"
    dialect: Dialect = "onnxruntime"
    max_opset: int | None = None
