"""`modelopt passes`: the list and the options of each."""

from __future__ import annotations

import pytest

from modelopt_cli.passes.registry import pass_names


def test_list(cli, golden) -> None:
    golden("passes", cli("passes"))


def test_details(cli, golden) -> None:
    golden("passes-show", cli("passes", "--show", "prune-magnitude"))


@pytest.mark.parametrize("name", pass_names())
def test_every_option_says_what_it_means(name: str, cli) -> None:
    described = cli("passes", "--show", name, "--json").json
    assert described["summary"]
    for option in described["options"]:
        assert option["description"], option["name"]
        assert "$" not in option["type"] and "value" not in option["type"], option


def test_a_name_that_is_nearly_right(cli) -> None:
    run = cli("passes", "--show", "prune-magnitud")
    assert (run.code, run.out) == (2, "")
    assert "did you mean 'prune-magnitude'?" in run.err
