from __future__ import annotations

import pytest

from modelopt_cli.profiling.macs import Shapes, node_macs


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs", "expected"),
    [
        # 32 filters of 3 x 3 x 3 at each of 112 x 112 places
        ("Conv", [(1, 3, 224, 224), (32, 3, 3, 3)], [(1, 32, 112, 112)], 32 * 112 * 112 * 27),
        # depthwise: each channel its own filter of 5 x 5
        ("FusedConv", [(1, 144, 56, 56), (144, 1, 5, 5), (144,)], [(1, 144, 28, 28)], 144 * 28 * 28 * 25),
        ("Conv", [(2, 4, 10), (6, 2, 3)], [(2, 6, 8)], 2 * 6 * 8 * 2 * 3),  # one dimension, two groups
        # channels last: the same product
        ("NhwcFusedConv", [(1, 8, 8, 3), (16, 3, 3, 3)], [(1, 6, 6, 16)], 16 * 36 * 27),
        ("QLinearConv", [(1, 3, 8, 8), (), (), (16, 3, 3, 3), (16,), ()], [(1, 16, 6, 6)], 16 * 36 * 27),
        # each of 4 x 5 x 5 inputs is spread over 2 x 2 x 6
        ("ConvTranspose", [(1, 4, 5, 5), (4, 6, 2, 2)], [(1, 6, 10, 10)], 4 * 25 * 6 * 4),
        ("MatMul", [(2, 12, 128, 64), (2, 12, 64, 128)], [(2, 12, 128, 128)], 2 * 12 * 128 * 128 * 64),
        ("MatMul", [(5, 7), (7,)], [(5,)], 35),
        ("MatMul", [(7,), (7, 5)], [(5,)], 35),
        ("MatMul", [(7,), (7,)], [()], 7),
        ("FusedMatMul", [(2, 64, 128), (2, 64, 32)], [(2, 128, 32)], 2 * 128 * 32 * 64),  # A transposed
        ("QLinearMatMul", [(3, 7), (), (), (7, 5), (), ()], [(3, 5)], 105),
        ("MatMulIntegerToFloat", [(3, 7), (7, 5), (), ()], [(3, 5)], 105),
        ("Gemm", [(3, 7), (5, 7), (5,)], [(3, 5)], 105),
        ("QGemm", [(7, 3), (), (), (7, 5), (), ()], [(3, 5)], 105),  # A transposed
        ("Gemm", [(0, 7), (7, 5)], [(0, 5)], 0),
        # 9 steps, batch 2, 28 features, 16 hidden: 4 gates of 28 + 16
        ("LSTM", [(9, 2, 28), (1, 64, 28), (1, 64, 16), (1, 128)], [(9, 1, 2, 16)], 9 * 2 * 64 * (28 + 16)),
        ("GRU", [(9, 2, 28), (2, 48, 28), (2, 48, 16)], [(9, 2, 2, 16)], 9 * 2 * 2 * 48 * (28 + 16)),
        ("MultiHeadAttention", [(1, 8, 64), (1, 10, 64), (1, 10, 64)], [(1, 8, 64)], 2 * 8 * 10 * 64),
        ("Attention", [(1, 4, 8, 16), (1, 4, 10, 16), (1, 4, 10, 16)], [(1, 4, 8, 16)], 2 * 4 * 8 * 10 * 16),
        ("QAttention", [(1, 8, 64), (64, 192)], [(1, 8, 64)], 8 * 64 * 192 + 2 * 8 * 8 * 64),
        ("Relu", [(1, 64)], [(1, 64)], 0),
    ],
)
def test_hand_computed(op_type: str, inputs: Shapes, outputs: Shapes, expected: int) -> None:
    assert node_macs(op_type, inputs, outputs) == expected


def test_an_einsum_is_the_product_of_its_indices() -> None:
    assert node_macs("Einsum", [(2, 3, 5), (2, 5, 7)], [(2, 3, 7)], equation="bij, bjk -> bik") == 2 * 3 * 5 * 7
    assert node_macs("Einsum", [(2, 3)], [(2, 3)]) == 0
