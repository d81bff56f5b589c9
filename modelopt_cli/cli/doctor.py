"""``modelopt doctor``: what is installed, what clashes, and whether each provider really runs a model."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from modelopt_cli import __version__
from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.options import Debug, Json
from modelopt_cli.errors import ModelOptError, UsageError

LIBRARIES = ("onnx", "onnx-ir", "numpy", "pydantic", "typer", "rich")
# Most specific first: each of these wheels writes the same files, and each has the CPU provider.
RUNTIMES = ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime")
ONE_NODE = "agraph (float[2] x) => (float[2] y) { y = Add(x, x) }"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's answer; ``fix`` is a command to type."""

    name: str
    state: Literal["ok", "missing", "broken"]
    detail: str
    fix: str = ""


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Check the installation: versions, clashing wheels, providers, telemetry, cache."""
    from modelopt_cli.cli.render_facts import doctor_table

    findings = list(examine())
    print_json([asdict(each) for each in findings]) if as_json else print_payload(doctor_table(findings))
    broken = [each for each in findings if each.state == "broken"]
    if broken:
        raise UsageError(broken[0].detail, where=broken[0].name, hint=broken[0].fix)


def examine() -> Iterator[Finding]:
    """Every check, in the order a person would make them."""
    yield Finding("modelopt", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}")
    yield from _libraries()
    yield _runtime_wheels()
    yield from _machine()
    yield from _providers()
    yield from _passes()
    yield _cache()


def _libraries() -> Iterator[Finding]:
    for name in LIBRARIES:
        found = _version(name)
        yield Finding(name, "ok", found) if found else Finding(name, "broken", "not installed", f"pip install {name}")


def _runtime_wheels() -> Finding:
    installed = [(name, found) for name in RUNTIMES if (found := _version(name))]
    listing = ", ".join(f"{name} {found}" for name, found in installed)
    if not installed:
        return Finding("runtime", "broken", "no onnxruntime is installed", 'pip install "modelopt-cli[cpu]"')
    if len(installed) > 1:
        names = " ".join(name for name, _ in installed)
        keep, at = installed[0]
        fix = f"pip uninstall -y {names} && pip install {keep}=={at}"
        return Finding("runtime", "broken", f"wheels that overwrite each other: {listing}", fix)
    return Finding("runtime", "ok", listing)


def _machine() -> Iterator[Finding]:
    from modelopt_cli.format import format_bytes
    from modelopt_cli.profiling.memory import available_bytes
    from modelopt_cli.targets.detect import detect_isa

    yield Finding("cpu", "ok", f"{platform.machine()}, {detect_isa()}, {len(os.sched_getaffinity(0))} cores usable")
    if (free := available_bytes()) is not None:
        yield Finding("memory", "ok", f"{format_bytes(free)} free")


def _providers() -> Iterator[Finding]:
    from modelopt_cli.profiling.session import available_providers

    try:
        names = available_providers()
    except UsageError as error:
        keep = next((f"{name}=={found}" for name in RUNTIMES if (found := _version(name))), '"modelopt-cli[cpu]"')
        yield Finding("onnxruntime", "broken", error.message, f"pip install --force-reinstall --no-deps {keep}")
        return
    for name in names:
        if name.endswith("ExecutionProvider") and name != "AzureExecutionProvider":  # that one calls a web service
            yield _one_node(name)
    yield _telemetry()


def _telemetry() -> Finding:
    state = os.environ.get("ORT_DISABLE_TELEMETRY", "")
    if state != "1":
        return Finding("telemetry", "broken", "onnxruntime's is on", "export ORT_DISABLE_TELEMETRY=1")
    return Finding("telemetry", "ok", "modelopt has none; onnxruntime's is off (ORT_DISABLE_TELEMETRY=1)")


def _cache() -> Finding:
    from modelopt_cli.cache import FOLDER_VARIABLE, SIZE_VARIABLE, open_cache
    from modelopt_cli.format import format_bytes

    try:
        cache = open_cache()
    except UsageError as error:
        return Finding("cache", "broken", error.message, f"unset {SIZE_VARIABLE}")
    if not cache.max_bytes:
        return Finding("cache", "ok", f"switched off ({SIZE_VARIABLE}=0)")
    holder = next(path for path in (cache.folder, *cache.folder.parents) if path.exists())
    if not holder.is_dir() or not os.access(holder, os.W_OK):
        return Finding("cache", "missing", f"{cache.folder} cannot be written", f"export {FOLDER_VARIABLE}=FOLDER")
    size = sum(kind.bytes for kind in cache.usage())
    return Finding("cache", "ok", f"{cache.folder}, {format_bytes(size)} of {format_bytes(cache.max_bytes)}")


def _one_node(provider: str) -> Finding:
    import numpy as np
    import onnx

    from modelopt_cli.profiling.session import open_session, runtime_errors

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {ONE_NODE}')
    try:
        session = open_session(model.SerializeToString(), provider=provider)
        (result,) = session.run(None, {"x": np.ones(2, np.float32)})
    except ModelOptError as error:
        return Finding(provider, "missing", error.message, error.hint)
    except runtime_errors() as error:
        return Finding(provider, "missing", str(error).splitlines()[0])
    right = result.tolist() == [2.0, 2.0]
    return Finding(provider, "ok" if right else "broken", "runs a model" if right else "computes wrong numbers")


def _passes() -> Iterator[Finding]:
    from modelopt_cli.passes.registry import BrokenPlugin, all_passes

    for each in all_passes():
        if isinstance(each, BrokenPlugin):
            yield Finding(f"pass {each.name}", "missing", each.reason)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
