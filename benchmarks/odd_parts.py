"""What odd models are put together from."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def parse(text: str) -> onnx.ModelProto:
    """The model that ONNX's own text format describes."""
    return onnx.parser.parse_model(text)


def weight(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Add an initializer."""
    model.graph.initializer.append(numpy_helper.from_array(array, name))


def random(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Small numbers, the same for the same shape."""
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * 0.1).astype(dtype)
