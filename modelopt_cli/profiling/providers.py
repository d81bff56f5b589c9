"""Execution providers as the user names them: ``cpu``, ``tensorrt:fp16=1,engine_cache=DIR``, a plug-in library."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from modelopt_cli.errors import ProviderError, UsageError
from modelopt_cli.profiling.tensorrt_options import parse_profiles

# Our word -> the runtime's names in order of preference; what the first cannot run goes to the next.
PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider", "CPUExecutionProvider"),
}
_EXTRAS: Mapping[str, str] = {"cpu": "cpu", "cuda": "gpu", "tensorrt": "gpu", "openvino": "openvino"}
_LIBRARY_SUFFIXES = (".so", ".dll", ".dylib")
# Short words for options that everybody sets; any other goes through under the runtime's own name.
_SWITCHES = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}
_CACHES = {
    "engine_cache": ("trt_engine_cache_enable", "trt_engine_cache_path"),
    "timing_cache": ("trt_timing_cache_enable", "trt_timing_cache_path"),
}


@dataclass(frozen=True)
class ProviderSpec:
    """One provider and its options.

    Attributes:
        word: What the user wrote before the options.
        names: The runtime's names, wanted one first; of a plug-in it is only known once it is registered.
        options: For the wanted one, by the runtime's names.
        library: Shared library or importable package of a plug-in; None for providers that are built in.
    """

    word: str
    names: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    library: str | None = None


def parse_provider(text: str) -> ProviderSpec:
    """``NAME[:KEY=VALUE,...]``.

    NAME is ``cpu``, ``cuda``, ``tensorrt``, ``openvino``, the runtime's own name (``...ExecutionProvider``), the path
    of a plug-in's shared library, or the package of its wheel (``onnxruntime_ep_...``).

    Raises:
        UsageError: Not of that form, or options for the CPU provider, which has none.
    """
    match = re.fullmatch(r"(?P<word>.+?)(?::(?P<options>[\w.]+=.*))?", text)
    if match is None:
        raise UsageError("names no provider", where="--provider", hint="NAME[:KEY=VALUE,...]")
    word, given = match["word"], _options(match["options"])
    if word.endswith(_LIBRARY_SUFFIXES) or re.match(r"onnxruntime[_-]ep[_-]", word):
        return ProviderSpec(word, (), given, word)
    if word in PROVIDERS:
        names = PROVIDERS[word]
    elif word.endswith("ExecutionProvider"):
        names = (word,) if word == "CPUExecutionProvider" else (word, "CPUExecutionProvider")
    else:
        hint = f"one of {', '.join(PROVIDERS)}, onnxruntime's own name of one, or a plug-in's library"
        raise UsageError(f"no provider is called '{word}'", hint=hint)
    if given and names[0] == "CPUExecutionProvider":
        raise UsageError("the CPU provider has no options", where=text, hint="--session-config KEY=VALUE")
    return ProviderSpec(word, names, _translated(word, given))


def usable_names(spec: ProviderSpec, ort: ModuleType) -> tuple[str, ...]:
    """The names that the installed runtime was built with.

    Raises:
        ProviderError: The wanted one is not among them.
    """
    available = ort.get_available_providers()
    if spec.names[0] not in available:
        raise ProviderError(
            f"the installed onnxruntime {ort.__version__} has no {spec.names[0]} (it has {', '.join(available)})",
            hint=install_hint(spec.word),
        )
    return tuple(name for name in spec.names if name in available)


def install_hint(word: str) -> str:
    """How to come by a provider."""
    extra = _EXTRAS.get(word)
    return f'pip install "modelopt-cli[{extra}]" in an environment of its own' if extra else "install its wheel"


_registered: dict[str, str] = {}  # library -> name of its provider; the runtime keeps them for the whole process


def plugin_devices(spec: ProviderSpec, ort: ModuleType) -> tuple[str, list[Any], dict[str, str]]:
    """Register a plug-in and pick its devices.

    Args:
        spec: With a library; option ``device=cpu|gpu|npu`` picks the kind of hardware, otherwise the first offered.
        ort: The onnxruntime module, 1.23 or later.

    Returns:
        The provider's name, the devices for ``add_provider_for_devices``, and the options left.

    Raises:
        ProviderError: This onnxruntime takes no plug-ins, the library cannot be loaded, or it offers no such device.
    """
    library = spec.library or ""
    if not hasattr(ort, "register_execution_provider_library"):
        raise ProviderError(f"onnxruntime {ort.__version__} takes no plug-in providers", hint="1.23 or later does")
    if library not in _registered:
        _registered[library] = _register(library, ort)
    name = _registered[library]
    options = dict(spec.options)
    wanted = options.pop("device", "")
    offered = [device for device in ort.get_ep_devices() if device.ep_name == name]
    kinds = [str(device.device.type).rsplit(".", 1)[-1].lower() for device in offered]
    chosen = [device for device, kind in zip(offered, kinds, strict=True) if wanted.lower() in ("", kind)]
    if not chosen:
        raise ProviderError(f"{name} offers no device '{wanted}' here (it offers {', '.join(kinds) or 'none'})")
    return name, chosen[:1], options


def _register(library: str, ort: ModuleType) -> str:
    path = library if library.endswith(_LIBRARY_SUFFIXES) else _library_of(library)
    before = {device.ep_name for device in ort.get_ep_devices()}
    try:
        ort.register_execution_provider_library(Path(path).stem, str(Path(path).resolve()))
    except Exception as error:
        raise ProviderError(f"cannot be loaded: {str(error).splitlines()[0]}", where=path) from error
    new = [device.ep_name for device in ort.get_ep_devices() if device.ep_name not in before]
    if not new:
        raise ProviderError("was loaded, but offers no device on this machine", where=path)
    return str(new[0])


def _library_of(package: str) -> str:
    """The wheels of plug-ins tell the path of their library by a function, as onnxruntime's packaging guide asks."""
    try:
        module = importlib.import_module(package.replace("-", "_"))
        return str(module.get_library_path())
    except (ImportError, AttributeError) as error:
        raise ProviderError(f"is no plug-in provider: {error}", where=package, hint=f"pip install {package}") from error


def _options(text: str | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in (text or "").split(",") if text else ():
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"'{part}' is not KEY=VALUE", where="--provider")
        options[key] = value
    return options


def _translated(word: str, options: Mapping[str, str]) -> dict[str, str]:
    if word == "openvino" and "device" in options:
        return {("device_type" if key == "device" else key): value for key, value in options.items()}
    if word != "tensorrt":
        return dict(options)
    found: dict[str, str] = {}
    for key, value in options.items():
        if key == "profile":
            found |= parse_profiles(value)
        elif key in _CACHES:
            enable, path = _CACHES[key]
            found |= {enable: "1", path: value}
        else:
            found[_SWITCHES.get(key, key)] = {"true": "1", "false": "0"}.get(value.lower(), value)
    return found
