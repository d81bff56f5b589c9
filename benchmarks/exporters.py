"""Write the fixtures of tests/passes/fuse again, each exporter in an environment of its own: [NAME ...].

Takes minutes and a few gigabytes of disk the first time. The tests need none of it: what the scripts wrote lies there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv

from benchmarks.table import ROOT

FIXTURES = ROOT / "tests" / "passes" / "fuse" / "fixtures"
TRANSFORMERS = FIXTURES.parent / "transformers"
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
EXPORTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    # from PyPI alone, PyTorch for Linux comes with gigabytes of CUDA; its own index has it for CPUs, and is preferred
    "torch": ("export.py", ("torch==2.13.0", "transformers==5.24.0", "onnxscript", f"--extra-index-url={TORCH_CPU}")),
    "jax": ("export_jax.py", ("jax2onnx==0.17.1",)),
    "tensorflow": ("export_tensorflow.py", ("tensorflow-cpu==2.21.0", "tf2onnx==1.17.0")),
    "paddle": ("export_paddle.py", ("paddlepaddle==3.3.1", "paddle2onnx==2.1.0", "packaging")),
}


def export(name: str) -> None:
    """Run one exporter's script, in ``.venv-export-NAME``, which is made when it is not there."""
    script, packages = EXPORTERS[name]
    folder = ROOT / f".venv-export-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    for path in (FIXTURES / script, TRANSFORMERS / script):
        if path.exists():
            subprocess.run([python, path], check=True, env={**os.environ, "PYTHONPATH": str(FIXTURES)})


if __name__ == "__main__":
    for each in sys.argv[1:] or EXPORTERS:
        export(each)
