"""What a word after --provider means."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli.errors import ProviderError, UsageError
from modelopt_cli.profiling.providers import parse_provider, plugin_devices
from modelopt_cli.profiling.session import open_session, runtime, unknown_config_keys
from modelopt_cli.testing import model_from_text


def test_a_word_with_options_in_the_runtimes_names(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"  # a colon, which separates parts of the name too
    spec = parse_provider(f"tensorrt:fp16=true,engine_cache={folder},trt_max_workspace_size=1")
    assert spec.names[0] == "TensorrtExecutionProvider"
    assert spec.options == {
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_max_workspace_size": "1",
    }
    assert parse_provider("openvino:device=GPU").options == {"device_type": "GPU"}
    assert parse_provider("cuda:device_id=1").options == {"device_id": "1"}
    assert parse_provider("FooExecutionProvider").names == ("FooExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize("text", ["lib/libep.so", "C:\\eps\\ep.dll", "onnxruntime_ep_openvino:device=npu"])
def test_plug_ins_by_path_and_by_package(text: str) -> None:
    assert parse_provider(text).library == text.split(":device")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("gpu", "no provider is called 'gpu'"), ("cpu:x=1", "has no options"), ("cuda:x=1,y", "'y' is not KEY=VALUE")],
)
def test_what_is_no_provider(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_provider(text)


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(ProviderError, match="is no plug-in provider"):
        plugin_devices(parse_provider("onnxruntime_ep_of_nobody"), runtime())


def test_a_library_that_is_none(tmp_path) -> None:
    (tmp_path / "libnone.so").write_text("text")
    model = model_from_text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(ProviderError, match="cannot be loaded"):
        open_session(model, provider=str(tmp_path / "libnone.so"))


def test_keys_that_the_runtime_does_not_hold() -> None:
    keys = ["session.disable_prepacking", "session.disable_prepackin", "ep.foo.bar"]
    assert unknown_config_keys(keys) == ["session.disable_prepackin"]
