from __future__ import annotations

import numpy as np
import pytest
from fuse_checks import random
from pydantic import ValidationError

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.rules.table import FUSE, SIMPLIFY, rule_names, select
from modelopt_cli.testing import model_from_text, op_types, run_pass

BODY = "p = Pad(x, pads) c = Conv(p, k) y = Mul(c, s)"


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ["Conv"]),
        ({"only": ("fold-pad",)}, ["Conv", "Mul"]),
        ({"skip": ("fold-pad",)}, ["Pad", "Conv"]),
        ({"only": ("fold-pad",), "skip": ("fold-pad",)}, ["Pad", "Conv", "Mul"]),
    ],
)
def test_rules_can_be_chosen(options: dict[str, tuple[str, ...]], left: list[str]) -> None:
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    model = model_from_text(
        f"g (float[1,4,5,5] x) => (float[a,b,c,d] y) {{ {BODY} }}", pads=pads, k=random(4, 4, 3, 3), s=np.float32([2])
    )
    assert op_types(run_pass(Fuse(**options), model).model) == left


def test_an_unknown_rule_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match="there is no rule 'fold-pat'; did you mean 'fold-pad'"):
        Fuse(only=("fold-pat",))


def test_rule_names_are_unique_words() -> None:
    names = rule_names(FUSE)
    assert len(set(names)) == len(names)
    assert set(rule_names(SIMPLIFY)) < set(names)
    assert [len(stage) for stage in select(FUSE, (), ())] == [len(stage) for stage in FUSE]


def test_a_pass_without_some_rules_keeps_its_other_options() -> None:
    smaller = Fuse(skip=("fold-pad",)).without(["merge-clips", "fold-pad"])
    assert smaller.skip == ("fold-pad", "merge-clips")
