"""A target is resolved once, and contradictions are refused."""

import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import resolve_target


def test_full_target_is_taken_as_it_is():
    target = resolve_target("cpu", "avx2", "onnx", 17)
    assert (target.provider, target.isa, target.dialect, target.max_opset) == ("cpu", "avx2", "onnx", 17)


def test_auto_is_resolved():
    assert resolve_target().isa != "auto"
    assert resolve_target("tensorrt").isa == "none"
    assert resolve_target("tensorrt").dialect == "onnx"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vulkan",), "unknown provider 'vulkan'"),
        (("cpu", "sse"), "unknown isa 'sse'"),
        (("cuda", "avx2"), "provider 'cuda' does not run on isa 'avx2'"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str):
    with pytest.raises(UsageError, match=message):
        resolve_target(*arguments)


def test_scheme_follows_the_machine():
    vnni, avx2, arm = (scheme_for(resolve_target("cpu", isa)) for isa in ("avx512_vnni", "avx2", "arm64"))
    assert (vnni.activation, vnni.reduce_range) == ("uint8", False)
    assert (avx2.activation, avx2.reduce_range) == ("uint8", True)
    assert arm.activation == "int8"
    assert scheme_for(resolve_target("tensorrt")).symmetric
    assert not scheme_for(resolve_target("cuda")).runs_integers
