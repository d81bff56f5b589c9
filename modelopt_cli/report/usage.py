"""How to run the result: what it takes, what it needs, and the Python that does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}


@dataclass(frozen=True)
class Usage:
    """What running the result takes.

    Attributes:
        inputs: Name -> (NumPy type, shape) of one batch it was run on.
        provider: The target's provider.
        lowest_onnxruntime: No older version reads it.
        custom_ops: File names of the libraries of custom operators that it needs.
    """

    inputs: dict[str, tuple[str, tuple[int, ...]]]
    provider: str
    lowest_onnxruntime: str
    custom_ops: tuple[str, ...] = ()


def python_snippet(usage: Usage, output: str | None) -> str:
    """A program that loads the result and runs it on zeros of the right shapes; it runs as it stands.

    Args:
        usage: What it takes.
        output: The result's file, or None when it went through a pipe.
    """
    providers = [_PROVIDERS[usage.provider]] if usage.provider in _PROVIDERS else []
    name = "model.onnx" if output is None else PurePath(output).name
    feeds = [
        f"    {input_name!r}: np.full({shape!r}, '1', dtype=object),"
        if dtype == "object"
        else f"    {input_name!r}: np.zeros({shape!r}, dtype=np.{'bool_' if dtype == 'bool' else dtype}),"
        for input_name, (dtype, shape) in usage.inputs.items()
    ]
    return "\n".join(
        [
            f"import numpy as np  # pip install 'onnxruntime>={usage.lowest_onnxruntime}'",
            "import onnxruntime as ort",
            "",
            *_session(name, [*providers, "CPUExecutionProvider"], usage.custom_ops),
            "outputs = session.run(None, {",
            *feeds,
            "})",
            "print([output.shape for output in outputs if hasattr(output, 'shape')])",
        ]
    )


def _session(model: str, providers: list[str], custom_ops: tuple[str, ...]) -> list[str]:
    if not custom_ops:
        return [f"session = ort.InferenceSession({model!r}, providers={providers!r})"]
    return [
        "options = ort.SessionOptions()",
        *(f"options.register_custom_ops_library({library!r})" for library in custom_ops),
        f"session = ort.InferenceSession({model!r}, options, providers={providers!r})",
    ]
