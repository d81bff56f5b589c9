"""A peer's graph optimizer at its own defaults, in a process of its own: TOOL MODEL OUTPUT.

Prints seconds of CPU time and of the clock that the tool took, imports and reading of the file left out: as a library it
is called so.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx


def onnxslim(model: onnx.ModelProto, output: str) -> Callable[[], None]:
    import onnxslim

    return lambda: onnx.save(onnxslim.slim(model), output)


def onnxsim(model: onnx.ModelProto, output: str) -> Callable[[], None]:
    import onnxsim

    return lambda: onnx.save(onnxsim.simplify(model)[0], output)


def onnxscript(model: onnx.ModelProto, output: str) -> Callable[[], None]:
    import onnxscript.optimizer
    import onnxscript.rewriter

    return lambda: onnx.save(onnxscript.rewriter.rewrite(onnxscript.optimizer.optimize(model)), output)


def onnxruntime(model: onnx.ModelProto, output: str) -> Callable[[], None]:
    import onnxruntime

    content = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = output
    return lambda: onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


TOOLS = {tool.__name__: tool for tool in (onnxslim, onnxsim, onnxscript, onnxruntime)}


def main(tool: str, path: str, output: str) -> None:
    work = TOOLS[tool](onnx.load(path), output)
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    print(json.dumps({"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - clock}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
