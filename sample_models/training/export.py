"""PyTorch to ONNX, by either of its exporters, with nothing simplified afterwards."""

from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

Exporter = Literal["torchscript", "dynamo"]


def export(
    model: nn.Module, example: Tensor, path: Path, output: str, *, exporter: Exporter, keep_batchnorm: bool = False
) -> None:
    """Write `path`: input `image`, output `output`, first axis of both dynamic and called `batch`.

    `example` holds two images: the dynamo exporter takes an axis of length one for a constant.
    The TorchScript exporter folds BatchNorm into the convolution before it, unless `keep_batchnorm`.
    """
    if exporter == "torchscript":
        _export_torchscript(model, example, path, output, keep_batchnorm)
    else:
        _export_dynamo(model, example, path, output)
    _state_output_shape(path, model(example).shape)
    onnx.checker.check_model(path, full_check=True)


def _state_output_shape(path: Path, shape: torch.Size) -> None:
    """Write the static sizes of the output: behind a Reshape the TorchScript exporter puts made-up names instead."""
    exported = onnx.load(path)
    for declared, size in list(zip(exported.graph.output[0].type.tensor_type.shape.dim, shape, strict=True))[1:]:
        declared.dim_value = size
    onnx.save(exported, path)


def _export_torchscript(model: nn.Module, example: Tensor, path: Path, output: str, keep_batchnorm: bool) -> None:
    # PRESERVE leaves the model in the mode it is in (evaluation) but skips the folding that EVAL brings along.
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batchnorm else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=[output],
        dynamic_axes={"image": {0: "batch"}, output: {0: "batch"}},
        training=mode,
        do_constant_folding=not keep_batchnorm,  # outside EVAL mode it would fold all the same, with a warning
    )


def _export_dynamo(model: nn.Module, example: Tensor, path: Path, output: str) -> None:
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        opset_version=18,  # the lowest that this exporter writes
        input_names=["image"],
        output_names=[output],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    # Its metadata quotes source lines with absolute paths, which would differ from one machine to the next.
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    program.save(path, external_data=False)
