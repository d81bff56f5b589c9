"""Make any ONNX model smaller and faster, and prove it."""

__version__ = "0.1.0"
