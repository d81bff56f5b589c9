"""Make any ONNX model smaller and faster, and prove it.

The Python API is what the command line runs::

    from modelopt_cli import CompressOptions, compress, load_model, load_recipe, open_dataset, write_result

    calibration = open_dataset("calib.npz")
    result = compress(load_model(Path("model.onnx")), load_recipe("int8"), CompressOptions(calibration=calibration))
    write_result(result, Path("model.int8.onnx"))

Names are imported when they are first used: ``import modelopt_cli`` alone loads neither onnx nor onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.graph.io import load_model
    from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
    from modelopt_cli.pipeline.options import CompressOptions
    from modelopt_cli.pipeline.runner import compress
    from modelopt_cli.pipeline.write import write_result
    from modelopt_cli.recipe.load import load_recipe
    from modelopt_cli.report.model import RunReport

__version__ = "0.1.0"

__all__ = [
    "CompressOptions",
    "Pass",
    "PassContext",
    "PassResult",
    "RunReport",
    "Skip",
    "compress",
    "load_model",
    "load_recipe",
    "open_dataset",
    "write_result",
]

_HOMES = {
    "CompressOptions": "pipeline.options",
    "Pass": "passes.base",
    "PassContext": "passes.base",
    "PassResult": "passes.base",
    "RunReport": "report.model",
    "Skip": "passes.base",
    "compress": "pipeline.runner",
    "load_model": "graph.io",
    "load_recipe": "recipe.load",
    "open_dataset": "data.files",
    "write_result": "pipeline.write",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
