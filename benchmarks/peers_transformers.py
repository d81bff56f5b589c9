"""onnxruntime's transformer optimizer at its defaults, in a process of its own: MODEL OUTPUT TYPE HEADS SIZE."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if find_spec("torch") is None:  # asked for nothing but whether it is a build for AMD's devices
    stand_in = ModuleType("torch")
    vars(stand_in)["version"] = SimpleNamespace(hip=None)
    sys.modules["torch"] = stand_in

from onnxruntime.transformers.optimizer import optimize_model


def main(model: str, output: str, kind: str, heads: str, size: str) -> None:
    model, output = str(Path(model).absolute()), str(Path(output).absolute())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it leaves files where it runs
        optimize_model(model, model_type=kind, num_heads=int(heads), hidden_size=int(size)).save_model_to_file(output)


if __name__ == "__main__":
    main(*sys.argv[1:6])
