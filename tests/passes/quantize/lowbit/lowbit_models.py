"""Small models whose weights differ in what they are worth."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.testing import ArrayDataset, model_from_text


def two_products() -> tuple[ir.Model, ArrayDataset]:
    """The first product decides the output, the second adds a thousandth of it."""
    text = """m (float[N,192] x) => (float[N,256] y) {
        a = MatMul (x, loud)
        b = MatMul (x, quiet)
        y = Add (a, b) }"""
    rng = np.random.default_rng(0)
    loud, quiet, x = (rng.standard_normal((rows, 256)).astype(np.float32) for rows in (192, 192, 16))
    return model_from_text(text, loud=loud, quiet=quiet / 1000), ArrayDataset({"x": x[:, :192]})
