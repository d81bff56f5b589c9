"""What each provider x instruction set runs as integers, as a table: the scheme is read here, not asked of the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelopt_cli.targets.target import Isa, Provider, Target

IntegerType = Literal["uint8", "int8"]

_MULTIPLYING = frozenset({"Conv", "Gemm", "MatMul"})
# Kernels of onnxruntime's CPU provider, seen in optimized models of 1.32 (core/optimizer/qdq_transformer).
_CPU_POINTWISE = frozenset({"Add", "Mul", "Sigmoid", "SiLU", "LeakyRelu", "HardSwish", "HardSigmoid"})
_CPU_POOLING = frozenset({"GlobalAveragePool", "AveragePool", "Concat"})
_MOVING = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand"})
_CPU_SAMPLING = frozenset({"MaxPool", "Resize"})
_CPU = _MULTIPLYING | _CPU_POINTWISE | _CPU_POOLING | _MOVING | _CPU_SAMPLING

_STAYS_FLOAT = {
    "LayerNormalization": "no integer kernel: Quantize/Dequantize around it would be cost for nothing",
    "Gelu": "no integer kernel",
    "Softmax": "the integer kernel is slower than float, and 8 bits are too coarse for probabilities",
    "ConvTranspose": "no integer kernel",
    "DepthToSpace": "no integer kernel",
}


@dataclass(frozen=True)
class Scheme:
    """How int8 looks on one target.

    Attributes:
        activation: Type of activations.
        weight: Type of weights.
        per_channel: One weight scale per output channel.
        symmetric: Activations have zero point 0.
        reduce_range: Weights in 7 bits, because products of U8 x S8 pairs saturate 16 bits on this machine.
        integer_ops: Standard operators that become integer kernels between DequantizeLinear and QuantizeLinear.
        stays_float: Operators one might expect among them, with the reason why they are not.
        why: Where the scheme comes from, for the report.
        min_channels: Input channels below which a convolution of pictures is faster in float: for three of them the
            float kernel reads the picture as it lies, the integer one gathers each patch three bytes at a time.
        float_bias: Biases stay float: an int32 one behind DequantizeLinear is refused.
    """

    activation: IntegerType
    weight: IntegerType
    per_channel: bool
    symmetric: bool
    reduce_range: bool
    integer_ops: frozenset[str]
    stays_float: dict[str, str]
    why: str
    min_channels: int = 0
    float_bias: bool = False

    @property
    def runs_integers(self) -> bool:
        """Whether static int8 can be faster than float at all."""
        return bool(self.integer_ops)


def _cpu(activation: IntegerType, why: str, *, reduce_range: bool = False) -> Scheme:
    return Scheme(activation, "int8", True, False, reduce_range, _CPU, _STAYS_FLOAT, why, min_channels=4)


_FULL = "U8 activations x S8 weights: one instruction per four products (VNNI), no saturation"
_REDUCED = "U8 x S8 with 7-bit weights: without VNNI, vpmaddubsw sums pairs in 16 bits, which full range saturates"
_ARM = "S8 x S8: what the SDOT and i8mm kernels of MLAS take"

_CPU_SCHEMES: dict[Isa, Scheme] = {
    "avx512_vnni": _cpu("uint8", _FULL),
    "avx_vnni": _cpu("uint8", _FULL),
    "avx512": _cpu("uint8", _REDUCED, reduce_range=True),
    "avx2": _cpu("uint8", _REDUCED, reduce_range=True),
    "arm64": _cpu("int8", _ARM),
    "arm64_dotprod": _cpu("int8", _ARM),
    "none": _cpu("uint8", _REDUCED, reduce_range=True),
}

_TENSORRT = Scheme(
    activation="int8",
    weight="int8",
    per_channel=True,
    symmetric=True,
    reduce_range=False,
    integer_ops=_MULTIPLYING | {"Add", "GlobalAveragePool", "AveragePool", "MaxPool"},
    stays_float=_STAYS_FLOAT,
    why="TensorRT takes explicit Q/DQ only when it is symmetric with zero point 0",
    float_bias=True,
)
_OPENVINO = Scheme(
    activation="uint8",
    weight="int8",
    per_channel=True,
    symmetric=False,
    reduce_range=False,
    integer_ops=_MULTIPLYING | {"Add", "GlobalAveragePool", "AveragePool", "MaxPool", "Concat"},
    stays_float=_STAYS_FLOAT,
    why="OpenVINO turns Q/DQ into FakeQuantize and places integer kernels itself",
)
_CUDA = Scheme(
    activation="int8",
    weight="int8",
    per_channel=True,
    symmetric=True,
    reduce_range=False,
    integer_ops=frozenset(),
    stays_float=_STAYS_FLOAT,
    why="onnxruntime's CUDA provider has no integer kernels: Q/DQ models run in float, plus the conversions",
)


def scheme_for(target: Target) -> Scheme:
    """The int8 scheme of a target."""
    if target.provider == "cpu":
        return _CPU_SCHEMES[target.isa]
    schemes: dict[Provider, Scheme] = {"tensorrt": _TENSORRT, "openvino": _OPENVINO, "cuda": _CUDA}
    return schemes[target.provider]
