"""Helpers for tests of passes, ours and a plug-in author's: models as text, one pass run, outputs compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.errors import DataError
from modelopt_cli.graph.edit import all_nodes
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.targets.detect import detect_isa
from modelopt_cli.targets.target import Target

THIS_MACHINE = Target(isa=detect_isa())  # whose results compute here what they would there: no sums saturate
DEFAULT_HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


def model_from_text(text: str, **initializers: np.ndarray) -> ir.Model:
    """A checked model from ONNX text (https://onnx.ai/onnx/repo-docs/Syntax.html).

    Args:
        text: The model, or only its graph: then it is opset 17 of ir version 8.
        initializers: Weights by name (``**{"conv.weight": array}`` for names with dots); each must be read by some
            node or be a graph output.

    Raises:
        ValueError: The text does not parse, a weight is read by nobody, or a declaration contradicts its array.
        onnx.checker.ValidationError: The model is not valid ONNX.
    """
    try:
        proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else f"{DEFAULT_HEADER}\n{text}")
    except onnx.parser.ParseError as error:
        raise ValueError(f"the model text does not parse: {error}") from error
    unread = sorted(set(initializers) - set(_names_read(proto.graph)))
    if unread:
        raise ValueError(f"nothing in the model reads {', '.join(unread)}")
    declared = {info.name: info for info in proto.graph.value_info}
    for name, array in initializers.items():
        if name in declared:
            _check_declaration(declared[name], array)
            proto.graph.value_info.remove(declared[name])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return ir.serde.deserialize_model(proto)


def run_pass(
    pass_: Pass,
    model: ir.Model,
    *,
    calibration: Dataset | None = None,
    target: Target | None = None,
    seed: int = 0,
) -> PassResult:
    """Apply a pass to a clone of ``model``, so that the original can be compared with the result.

    Without a target the result is for this machine: what is written for a better one may compute something else here.
    """
    return pass_.apply(model.clone(), PassContext(target or THIS_MACHINE, seed, calibration))


def run_model(model: ir.Model, feeds: Mapping[str, np.ndarray], optimize: bool = False) -> dict[str, np.ndarray]:
    """Output name -> array, from onnxruntime on one thread of the CPU.

    Args:
        model: Any model.
        feeds: Input name -> array.
        optimize: Let onnxruntime rewrite the graph first. Off, so that a test measures our rewrite and not its.

    Raises:
        ModelError: The runtime cannot load or run it.
    """
    session = open_session(model, optimize="all" if optimize else "off")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, run(session, dict(feeds), names), strict=True))


def assert_same_outputs(
    before: ir.Model, after: ir.Model, feeds: Mapping[str, np.ndarray], *, rtol: float, atol: float
) -> None:
    """Both models give the same names, types, shapes, and values within ``atol + rtol * abs(before)``.

    Raises:
        AssertionError: They do not; the message names the output.
    """
    expected, got = run_model(before, feeds), run_model(after, feeds)
    assert list(got) == list(expected), f"outputs are {list(got)}, were {list(expected)}"
    for name, reference in expected.items():
        assert got[name].dtype == reference.dtype, f"output '{name}' is {got[name].dtype}, was {reference.dtype}"
        assert got[name].shape == reference.shape, f"output '{name}' is {got[name].shape}, was {reference.shape}"
        np.testing.assert_allclose(got[name], reference, rtol=rtol, atol=atol, err_msg=f"output '{name}' differs")


def random_feeds(model: ir.Model, rng: np.random.Generator, **dims: int) -> dict[str, np.ndarray]:
    """An array for each graph input: standard normal, 0 or 1 for integers and bool.

    Args:
        model: The model to feed.
        rng: Where the numbers come from.
        dims: Size of each symbolic dimension by name; 1 where it is not given.
    """
    return {
        value.name or "": _random_array(value, rng, dims)
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    }


def op_types(model: ir.Model) -> list[str]:
    """Operator types in graph order, those of subgraphs and functions after the main graph's."""
    return [node.op_type for node in all_nodes(model)]


class ArrayDataset:
    """Samples in memory, for tests: a `Dataset` over the first axis of some arrays.

    Args:
        arrays: Input name -> array; the first axis counts samples and is as long in all.
        labels: Ground truth with the same first axis, or None.
        source: What messages call it.

    Raises:
        ValueError: There is no array, or their first axes differ.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], labels: np.ndarray | None = None, source: str = "<arrays>"
    ) -> None:
        lengths = {len(array) for array in arrays.values()} | ({len(labels)} if labels is not None else set())
        if len(lengths) != 1:
            raise ValueError(f"arrays and labels need one common first axis, got {sorted(lengths)}")
        self._arrays = dict(arrays)
        self._length = lengths.pop()
        self.labels = labels
        self.source = source
        self.batch_size = 1

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        for row in range(self._length):
            yield {name: array[row : row + 1] for name, array in self._arrays.items()}

    def take(self, count: int) -> ArrayDataset:
        """At most ``count`` samples, spread evenly over the whole."""
        count = min(count, self._length)
        rows = np.arange(count) * self._length // max(count, 1)
        labels = None if self.labels is None else self.labels[rows]
        return ArrayDataset({name: array[rows] for name, array in self._arrays.items()}, labels, self.source)

    def extra(self, name: str) -> np.ndarray:
        """Arrays in memory have no members but the inputs.

        Raises:
            DataError: Always.
        """
        raise DataError(f"has no member '{name}'", where=self.source)

    def digest(self) -> str:
        """Hex sha256 over names, types, shapes and bytes."""
        digest = hashlib.sha256()
        labelled = {} if self.labels is None else {"<labels>": self.labels}
        for name, array in sorted((self._arrays | labelled).items()):
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _names_read(graph: onnx.GraphProto) -> Iterable[str]:
    yield from (output.name for output in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _names_read(subgraph)


def _check_declaration(info: onnx.ValueInfoProto, array: np.ndarray) -> None:
    declared = info.type.tensor_type
    shape = tuple(dim.dim_value for dim in declared.shape.dim)
    dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    if declared.elem_type != dtype or shape != array.shape:
        raise ValueError(f"'{info.name}' is declared otherwise than its array, {array.dtype}{list(array.shape)}")


def _random_array(value: ir.Value, rng: np.random.Generator, dims: Mapping[str, int]) -> np.ndarray:
    if value.shape is None or value.dtype is None:
        raise ValueError(f"input '{value.name}' declares no shape or type: write its feed by hand")
    shape = [dim if isinstance(dim, int) else dims.get(str(dim.value), 1) for dim in value.shape.dims]
    if value.dtype.is_floating_point():
        return rng.standard_normal(shape).astype(value.dtype.numpy())
    if value.dtype.is_integer() or value.dtype == ir.DataType.BOOL:
        return rng.integers(0, 2, shape).astype(value.dtype.numpy())
    raise ValueError(f"input '{value.name}' is of type {value.dtype.name}: write its feed by hand")
