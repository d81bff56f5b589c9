"""onnxruntime's own quantizer at its best known settings, in a process of its own: MODEL CALIB OUTPUT MODE."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime as ort
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SAMPLES = 100
MIN_OPSET = 13  # its per-channel Q/DQ needs it; raised for it by hand, as a user would have to


class _Rows(CalibrationDataReader):
    def __init__(self, path: str, model: str) -> None:
        wanted = {i.name: i.type for i in ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()}
        arrays = {name: array for name, array in np.load(path).items() if name in wanted}
        arrays = {n: a.astype(np.float32) if wanted[n] == "tensor(float)" else a for n, a in arrays.items()}
        count = min(SAMPLES, len(next(iter(arrays.values()))))
        self.rows = iter([{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


def main(model: str, calib: str, output: str, mode: str) -> None:
    model, calib, output = (str(Path(path).absolute()) for path in (model, calib, output))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it leaves files where it runs
        raised = str(Path(folder) / "raised.onnx")
        proto = onnx.load(model)
        if proto.opset_import[0].version < MIN_OPSET:
            proto = version_converter.convert_version(proto, MIN_OPSET)
        onnx.save(proto, raised)
        prepared = str(Path(folder) / "prepared.onnx")
        try:
            quant_pre_process(raised, prepared)
        except Exception:  # its symbolic shape inference gives up on some models; the documented way out
            quant_pre_process(raised, prepared, skip_symbolic_shape=True)
        if mode == "dynamic":
            quantize_dynamic(prepared, output, per_channel=True, weight_type=QuantType.QInt8)
        else:
            quantize_static(
                prepared,
                output,
                _Rows(calib, prepared),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )


if __name__ == "__main__":
    main(*sys.argv[1:5])
