"""Fuse a generated model with external weights and print the peak of anonymous memory: FOLDER GIGABYTES."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.graph.io import load_model, save_model
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target

WIDTH = 4096  # weights of 64 MiB


def main(folder: str, gigabytes: float) -> None:
    path = generate(Path(folder) / "large.onnx", round(gigabytes * 2**30 / (WIDTH * WIDTH * 4)))
    peak = Peak()
    with peak:
        started = time.perf_counter()
        model = load_model(path).model.clone()
        before = len(model.graph)
        peak.mark("load")
        for step in (Simplify(), Fuse()):
            model = step.apply(model, PassContext(Target())).model
            peak.mark(step.name)
        mapped = sum(isinstance(v.const_value, ir.ExternalTensor) for v in model.graph.initializers.values())
        save_model(model, Path(folder) / "fused.onnx")
        peak.mark("save")
    facts = {"nodes": [before, len(model.graph)], "mapped": mapped, "anonymous_mb": peak.megabytes}
    print(json.dumps(facts | {"seconds": time.perf_counter() - started}))


class Peak:
    """Samples the anonymous memory of this process, above what it was at the start, and keeps the largest by phase."""

    def __init__(self) -> None:
        self.megabytes: dict[str, float] = {}
        self._highest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._start = anonymous_mb()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def mark(self, phase: str) -> None:
        self.megabytes[phase] = round(max(self._highest, anonymous_mb() - self._start))
        self._highest = 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._highest = max(self._highest, anonymous_mb() - self._start)


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def generate(path: Path, layers: int) -> Path:
    """A chain of products with a scale, a bias and the decomposed Gelu; its weights beside it."""
    lines, weights = [], {}
    for i in range(layers):
        lines.append(f"m{i} = MatMul(v{i}, w{i})")
        scaled = i % 8 == 0  # a factor that goes into the weight, which is then no longer the file's
        lines.append(f"s{i} = Mul(m{i}, half)" if scaled else "")
        lines.append(f"a{i} = Add({'s' if scaled else 'm'}{i}, b{i})")
        lines.append(f"d{i} = Div(a{i}, root) e{i} = Erf(d{i}) o{i} = Add(e{i}, one) p{i} = Mul(a{i}, o{i})")
        lines.append(f"v{i + 1} = Mul(p{i}, half)")
        weights[f"b{i}"] = np.full(WIDTH, 0.1, np.float32)
    weights |= {"half": np.float32(0.5), "root": np.float32(np.sqrt(2)), "one": np.float32(1)}
    text = f"g (float[n,3,{WIDTH}] v0) => (float[n,3,{WIDTH}] v{layers}) {{ {' '.join(lines)} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    rng, size = np.random.default_rng(0), WIDTH * WIDTH * 4
    with path.with_suffix(".data").open("wb") as file:
        for i in range(layers):
            file.write((rng.standard_normal((WIDTH, WIDTH), np.float32) / 64).tobytes())
            tensor = proto.graph.initializer.add(name=f"w{i}", data_type=onnx.TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in {"location": path.with_suffix(".data").name, "offset": i * size, "length": size}.items():
                tensor.external_data.add(key=key, value=str(value))
    onnx.save(proto, path)
    return path


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
