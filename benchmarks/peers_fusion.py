"""One graph optimizer at its own defaults, in a process of its own: TOOL MODEL OUTPUT.

Prints the seconds that the tool took, of CPU time and of the clock, the better of two runs after a first one: from the
parsed model to the written file. Imports are left out, as when it is called as a library.
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


def modelopt(model: onnx.ModelProto, output: str) -> Callable[[], None]:
    import onnx_ir as ir

    from modelopt_cli.passes.base import PassContext
    from modelopt_cli.passes.fuse.fuse import Fuse
    from modelopt_cli.passes.fuse.simplify import Simplify
    from modelopt_cli.targets.target import Target

    def fuse() -> None:
        context = PassContext(Target())
        simple = Simplify().apply(ir.from_proto(model), context).model
        ir.save(Fuse().apply(simple, context).model, output)

    return fuse


TOOLS = {tool.__name__: tool for tool in (modelopt, onnxslim, onnxsim, onnxscript, onnxruntime)}
RUNS = 3


def main(tool: str, path: str, output: str) -> None:
    taken = []
    for _ in range(RUNS):
        work = TOOLS[tool](onnx.load(path), output)
        cpu, clock = time.process_time(), time.perf_counter()
        work()
        taken.append((time.process_time() - cpu, time.perf_counter() - clock))
    cpu, clock = min(taken[1:])
    print(json.dumps({"cpu_s": cpu, "wall_s": clock}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
