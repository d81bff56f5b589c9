"""Models to measure on: the sample models, and the real ones where they lie beside the checkout."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import SAMPLES, ZOO


@dataclass(frozen=True)
class Subject:
    """A model with its data, as its judge.json describes them."""

    name: str
    model: Path
    spec: dict[str, Any]

    def write_data(self, which: str, path: Path) -> Path:
        """Calibration (``calib``) or held-out (``eval``) data as an uncompressed npz."""
        np.savez(path, **self._load(self.spec[which]))
        return path

    def _load(self, spec: str | dict[str, Any]) -> dict[str, np.ndarray]:
        if isinstance(spec, str):
            with np.load(self.model.parent / spec) as archive:
                return {name: archive[name] for name in archive.files}
        from PIL import Image

        folder = self.model.parent / spec["images"]
        labels = folder / "labels.csv"
        rows = (
            list(csv.DictReader(labels.open()))
            if labels.exists()
            else [{"file": p.name} for p in sorted(folder.glob("*.jpg"))]
        )
        images = np.stack([np.asarray(Image.open(folder / row["file"]), np.float32) for row in rows])
        arrays = {spec["input"]: ((images - spec["mean"]) / spec["std"]).transpose(0, 3, 1, 2).astype(np.float32)}
        if "label" in rows[0]:
            arrays["labels"] = np.array([int(row["label"]) for row in rows])
        return arrays


def subjects() -> Iterator[Subject]:
    """Every folder with a judge.json."""
    for root in (SAMPLES, ZOO):
        for spec in sorted(root.glob("*/judge.json")):
            yield Subject(spec.parent.name, spec.parent / "model.onnx", json.loads(spec.read_text()))
