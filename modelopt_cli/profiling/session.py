"""Sessions: the only place that imports onnxruntime, so telemetry, threads, logs and errors are settled once."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from modelopt_cli.errors import ModelError, ProviderError, UsageError
from modelopt_cli.profiling.custom_ops import register_custom_ops
from modelopt_cli.profiling.libraries import missing_library, preload, repair_hint
from modelopt_cli.profiling.providers import ProviderSpec, parse_provider, plugin_devices, usable_names
from modelopt_cli.profiling.tensorrt_options import tensorrt_defaults

if TYPE_CHECKING:
    import onnx_ir as ir  # imported when a graph has to be handled: it is half of the start of a process that has none

Model: TypeAlias = "Path | bytes | ir.Model"
Optimize = Literal["all", "extended", "basic", "off"]

REGISTERED = 2  # numpy.dtype.isbuiltin of types that another package registered

_LEVELS: Mapping[Optimize, str] = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}


@dataclass(frozen=True)
class AssignedNode:
    """One node and the provider that took it, before the runtime's last fusions.

    Attributes:
        name: As in the file, or made up by the runtime.
        op_type: Operator.
        provider: The runtime's name of it.
    """

    name: str
    op_type: str
    provider: str


class Argument(Protocol):
    """One input or output of a session: name, ``tensor(float)``-like type, dimensions (str or None when free)."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> list[int | str | None]: ...


class Session(Protocol):
    """What we use of ``onnxruntime.InferenceSession``."""

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]: ...
    def get_inputs(self) -> list[Argument]: ...
    def get_outputs(self) -> list[Argument]: ...
    def get_providers(self) -> list[str]: ...
    def end_profiling(self) -> str: ...


def runtime() -> ModuleType:
    """The onnxruntime module, imported when first asked for, with its telemetry off.

    Raises:
        UsageError: No onnxruntime is installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # its Linux wheels send some; after the import it is too late
    try:
        module = importlib.import_module("onnxruntime")
        module.set_default_logger_severity(4)  # it writes to stderr what we say in one line
    except (ImportError, AttributeError) as error:  # wheels that overwrote each other leave a package without anything
        raise UsageError(f"onnxruntime cannot be imported: {error}", hint='pip install "modelopt-cli[cpu]"') from error
    return module


def available_providers() -> list[str]:
    """The runtime's names of the providers that the installed onnxruntime was built with."""
    names: list[str] = runtime().get_available_providers()
    return names


def open_session(
    model: Model,
    *,
    provider: str = "cpu",
    threads: int = 1,
    optimize: Optimize = "all",
    config: Mapping[str, str] | None = None,
    optimized_path: Path | None = None,
    arena: bool = True,
    shapes_first: bool = False,
    profile_prefix: Path | None = None,
) -> Session:
    """Load a model on one provider.

    Args:
        model: A path (external data is found beside it), serialized bytes, or a graph.
        provider: ``cpu``, ``cuda``, ``tensorrt``, ``openvino``, the runtime's own name of one or a plug-in's library,
            with options or without: see `parse_provider`.
        threads: Threads inside an operator; 0 lets the runtime choose. Operators run one after another.
        optimize: How much the runtime may rewrite the graph.
        config: Session configuration entries (``session.*``), passed through.
        optimized_path: Where the runtime writes the graph it really runs; weights go beside it, for whoever reads the
            graph seldom needs them, and one file holds 2 GB.
        arena: Whether the CPU allocator keeps freed memory: faster, but resident memory never shrinks.
        shapes_first: Run Shape nodes as soon as they can, so that what they measure is freed early.
        profile_prefix: Profile every run; `Session.end_profiling` gives the file.

    Raises:
        UsageError: No onnxruntime, or no provider of that name.
        ModelError: The runtime cannot load or run this model.
        ProviderError: The provider is not installed, cannot be loaded, or took none of the nodes.
    """
    ort = runtime()
    spec = parse_provider(provider)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[optimize])
    options.enable_cpu_mem_arena = arena
    if shapes_first:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{optimized_path.name}.data"
        )
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    register_custom_ops(options, ort)
    if spec.library is not None:
        wanted, devices, settings = plugin_devices(spec, ort)
        options.add_provider_for_devices(devices, settings)
        session = _load(ort, model, options, None)
    else:
        names = usable_names(spec, ort)
        wanted = names[0]
        preload(wanted, ort)
        session = _load(ort, model, options, [(wanted, _provider_options(spec, threads, model)), *names[1:]])
    _check_placement(session, wanted)
    return session


def run(session: Session, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> list[np.ndarray]:
    """One run, with the runtime's complaint in one line when it fails.

    Args:
        session: An open session.
        feeds: Arrays by input name; more than the session's inputs is an error.
        outputs: Names to compute; None for all, in the model's order.

    Raises:
        ModelError: Wrong shapes or types, or an operator that fails on these values.
    """
    try:
        return session.run(outputs, fitted(session, feeds))
    except runtime_errors() as error:
        # of ml_dtypes, which numpy knows as registered by others: bfloat16, float8, int4
        unfed = [f"'{name}' ({array.dtype})" for name, array in feeds.items() if array.dtype.isbuiltin == REGISTERED]
        if unfed:
            raise ModelError(f"onnxruntime's Python cannot be given inputs of this type: {', '.join(unfed)}") from error
        raise ModelError(f"fails when it runs: {one_line(error)}") from error


def fitted(session: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Feeds with float32 arrays as float16 where the session takes those, as a result of ``--io float16`` does."""
    half = {argument.name for argument in session.get_inputs() if argument.type == "tensor(float16)"}
    with np.errstate(over="ignore"):  # an infinity is for the caller to find
        return {
            name: array.astype(np.float16) if name in half and array.dtype == np.float32 else array
            for name, array in feeds.items()
        }


def placement(session: Session) -> dict[str, float]:
    """Share of the graph's nodes that each provider took, by the runtime's own names, largest first.

    Runtimes that do not say (before 1.24) are answered for by the session's first provider.
    """
    counts = Counter(node.provider for node in assigned_nodes(session))
    total = sum(counts.values())
    if total == 0:
        return {session.get_providers()[0]: 1.0}
    return {name: count / total for name, count in counts.most_common()}


def assigned_nodes(session: Session) -> list[AssignedNode]:
    """Every node and who took it; empty for runtimes that do not say (before 1.24)."""
    record = getattr(session, "get_provider_graph_assignment_info", None)
    parts = record() if record is not None else ()
    return [AssignedNode(node.name, node.op_type, part.ep_name) for part in parts for node in part.get_nodes()]


def unknown_config_keys(keys: Iterable[str]) -> list[str]:
    """Keys that do not occur in the runtime's own library; those of plug-ins (``ep.*``) cannot be told."""
    asked = [key for key in keys if not key.startswith("ep.")]
    if not asked:
        return []
    folder = Path(str(runtime().__file__)).parent / "capi"
    library = b"".join(path.read_bytes() for path in folder.glob("onnxruntime_pybind11_state*"))
    return [key for key in asked if key.encode() + b"\0" not in library]


@contextlib.contextmanager
def loadable(model: Model) -> Iterator[Path | bytes]:
    """A model as the runtime takes it: a graph as bytes, or where it is large as a temporary file.

    The runtime maps weights that lie in a file of their own. Of bytes it makes two copies beside ours, which MiniLM's
    peak of 640 MB was mostly made of.
    """
    if isinstance(model, Path | bytes):
        yield model
        return
    from modelopt_cli.graph.external import save_mapped, temporary_file
    from modelopt_cli.graph.io import MAX_PROTOBUF_BYTES, model_bytes, weight_bytes
    from modelopt_cli.graph.mapped import worth_mapping

    size = weight_bytes(model)
    if not worth_mapping(size):
        yield model_bytes(model)
        return
    with temporary_file(lambda path: save_mapped(model, path)) as file:
        if file is None and size >= MAX_PROTOBUF_BYTES:
            message = "it has to be in a file to be loaded, and there is no room for a temporary one"
            raise ModelError(message, hint="name a folder with room: TMPDIR=DIR")
        yield model_bytes(model) if file is None else file


def runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime, for an ``except`` clause around ``session.run``."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)


def one_line(error: Exception) -> str:
    """The runtime's complaint without its codes, its C++ locations and everything after the first line."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"^\S*/[\w./]+\.(?:cc|h):\d+ .*\)\s(?=[A-Z])", "", text).strip()


def _provider_options(spec: ProviderSpec, threads: int, model: Model) -> dict[str, str]:
    if spec.word == "openvino" and threads and not spec.options:
        return {"num_of_threads": str(threads)}  # it counts them by itself, all of them unless it is told otherwise
    return tensorrt_defaults(spec.options, model) if spec.word == "tensorrt" else dict(spec.options)


def _load(ort: ModuleType, model: Model, options: Any, providers: Sequence[Any] | None) -> Session:
    where = str(model) if isinstance(model, Path) else ""
    with loadable(model) as source:
        content = str(source) if isinstance(source, Path) else source
        try:
            session: Session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
        except runtime_errors() as error:
            if providers is not None and (missing := missing_library(providers[0][0], ort)):
                raise _not_loaded(providers[0][0], missing) from error
            if "CreateExecutionProvider" in str(error):
                raise ProviderError(f"cannot be set up: {one_line(error)}", where="--provider") from error
            raise _load_error(error, where, ort.__version__) from error
    return session


def _load_error(error: Exception, where: str, version: str) -> ModelError:
    text, upgrade = str(error), "pip install -U onnxruntime"
    if match := re.search(r"Fatal error: (\S+):(\w+)\(-?\d+\) is not a registered", text):
        domain, op = match.groups()
        message = f"operator '{op}' of domain '{domain}' is not known to onnxruntime {version}"
        return ModelError(message, where=where, hint="--custom-ops LIBRARY.so gives the library that defines it")
    if match := re.search(r"No Op registered for (\S+) with domain_version of (\d+)", text):
        message = f"operator '{match[1]}' is not in opset {match[2]} as onnxruntime {version} knows it"
        return ModelError(message, where=where, hint=upgrade)
    if match := re.search(r"Opset (\d+) is under development.*till opset (\d+)", text, re.DOTALL):
        message = f"opset {match[1]} is newer than onnxruntime {version} runs ({match[2]})"
        return ModelError(message, where=where, hint=upgrade)
    if match := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", text):
        message = f"IR version {match[1]} is newer than onnxruntime {version} reads ({match[2]})"
        return ModelError(message, where=where, hint=upgrade)
    if match := re.search(r"Could not find an implementation for (\w+)\((\d+)\) node with name '(.*?)'", text):
        node = f"of node '{match[3]}'" if match[3] else "that it has here"
        message = f"onnxruntime {version} has no kernel for {match[1]} (opset {match[2]}) with the types {node}"
        return ModelError(message, where=where)
    return ModelError(f"onnxruntime {version} cannot load it: {one_line(error)}", where=where)


def _check_placement(session: Session, wanted: str) -> None:
    if wanted not in session.get_providers():
        if missing := missing_library(wanted, runtime()):
            raise _not_loaded(wanted, missing)
        raise ProviderError(f"{wanted} could not be set up: no such device here", hint="its driver, or another device")
    shares = placement(session)
    if shares.get(wanted, 0.0) == 0.0:
        took = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        raise ProviderError(f"{wanted} took none of the nodes ({took})", hint="profile it on the provider that did")


def _not_loaded(provider: str, missing: str) -> ProviderError:
    return ProviderError(f"{provider} could not be loaded: {missing}", hint=repair_hint(provider, missing))
