"""Memory of calibration.

Peak resident memory of `modelopt compress` with a static int8 recipe over 16 and over 512 generated samples, by
observer. Goal: 512 samples take at most 10 % more than 16.

Tried and left out: an arena for calibration's sessions, which keeps freed tensors (efficientnet_lite0 and ppocr_det:
17 and 34 MB more, no faster).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.table import SAMPLES, compress, table

OBSERVERS = ("minmax", "percentile", "mse", "entropy")
FEW, MANY = 16, 512
MODEL = SAMPLES / "digits_detector" / "model.onnx"
SHAPE = (1, 64, 64)


def run() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (FEW, MANY):
            rng = np.random.default_rng(0)
            np.savez(folder / f"{count}.npz", image=rng.random((count, *SHAPE), np.float32))
        for observer in OBSERVERS:
            recipe = folder / f"{observer}.yaml"
            recipe.write_text(
                f"version: 1\nname: {observer}\ndata: {{calibration: {{samples: {MANY}}}}}\nsteps:\n"
                f"  - pass: simplify\n  - pass: fuse\n  - pass: quantize-static\n    with: {{calibrator: {observer}}}\n"
                "profile: {seconds: 1}\n"
            )
            few, many = (_peak(folder, recipe, count) for count in (FEW, MANY))
            rows.append((observer, f"{few:.0f}", f"{many:.0f}", f"{many / few:.3f}"))
    return table(("observer", f"MB, {FEW} samples:", f"MB, {MANY} samples:", "ratio:"), rows)


def _peak(folder: Path, recipe: Path, count: int) -> float:
    done, _ = compress(MODEL, str(recipe), folder / "out.onnx", "--calib", folder / f"{count}.npz")
    return done.peak_mb
