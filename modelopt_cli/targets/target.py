"""What the result is meant for: a provider, and the instruction set it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from modelopt_cli.errors import UsageError

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

    @property
    def channel_block(self) -> int:
        """Channels that float kernels compute at once: a count in between costs as much as the next multiple.

        Measured with onnxruntime 1.32 on AVX512: a chain of 3x3 Conv takes 2.06, 2.02, 1.11, 1.11 and 0.51 ms at 64,
        52, 48, 36 and 32 channels. MLAS blocks by 16 there and by 8 elsewhere (``MlasNchwcGetBlockSize``). Below one
        block fewer channels do run faster (8 of 16: 0.65 of the time). QLinearConv likes the same multiples: 1, 0.84,
        0.61, 0.49, 0.33, 0.25 and 0.17 at 64, 52, 48, 36, 32, 20 and 16 channels, but 0.22 at 8.
        """
        return 8 if self.isa in ("avx2", "avx_vnni", "arm64", "arm64_dotprod") else 16


def resolve_target(
    provider: Provider = "cpu",
    isa: Isa | Literal["auto"] = "auto",
    dialect: Dialect | None = None,
    max_opset: int | None = None,
) -> Target:
    """The target a recipe means.

    Args:
        provider: Execution provider.
        isa: ``auto`` is this machine's for providers that run on a CPU, and ``none`` for the others.
        dialect: None is ``onnxruntime`` for its own CPU and CUDA providers, ``onnx`` for engines behind it.
        max_opset: Never write a newer opset than this.

    Raises:
        UsageError: The provider or the instruction set is unknown, or they contradict each other.
    """
    _check("provider", provider, get_args(Provider))
    _check("isa", isa, ("auto", *get_args(Isa)))
    on_cpu = provider in ("cpu", "openvino")
    if not on_cpu and isa not in ("auto", "none"):
        raise UsageError(f"provider '{provider}' does not run on isa '{isa}'", hint="leave isa out")
    if dialect is None:
        dialect = "onnxruntime" if provider in ("cpu", "cuda") else "onnx"
    if isa == "auto":
        # Imported now: detection reads files of the machine, which a target given in full never needs.
        from modelopt_cli.targets.detect import detect_isa

        isa = detect_isa() if on_cpu else "none"
    return Target(provider, isa, dialect, max_opset)


def _check(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} '{value}'", hint=f"one of {', '.join(known)}")
