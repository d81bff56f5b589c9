"""Flags that are texts with a form."""

from __future__ import annotations

import pytest

from modelopt_cli.cli.options import check_providers, parse_shapes
from modelopt_cli.errors import UsageError


def test_shapes() -> None:
    assert parse_shapes(["ids=1x128", "a=b=4"]) == {"ids": [1, 128], "a=b": [4]}
    assert parse_shapes(None) == {}


@pytest.mark.parametrize("text", ["ids", "ids=", "=1x2", "ids=1x0", "ids=1x-2", "ids=1,2", "ids=axb", "ids=1x٣"])
def test_not_a_shape(text: str) -> None:
    with pytest.raises(UsageError, match="is not a shape"):
        parse_shapes([text])


def test_a_shape_given_twice() -> None:
    with pytest.raises(UsageError, match="named twice"):
        parse_shapes(["ids=1", "ids=2"])


def test_providers() -> None:
    assert check_providers(["cpu", "cuda", "cpu"]) == ("cpu", "cuda")
    assert check_providers(None) == ()
    with pytest.raises(UsageError, match="no provider is called 'cpus'"):
        check_providers(["cpus"])
