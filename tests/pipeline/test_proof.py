"""A rule that is wrong is found, switched off and named; everything else stays done."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.fuse import fuse
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.rules.table import FUSE
from modelopt_cli.pipeline.steps import StepsResult, run_steps
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text, op_types

SAMPLE = {"x": np.random.default_rng(0).standard_normal((1, 4, 5, 5)).astype(np.float32)}


class WrongRule(Rule[ir.Node]):
    """Relu(x) -> op(x): not the same at all."""

    roots = frozenset({"Relu"})

    def __init__(self, name: str, op_type: str) -> None:
        self.name = name
        self.op_type = op_type

    def match(self, node: ir.Node, graph: Editor) -> ir.Node | None:
        return node

    def rewrite(self, found: ir.Node, graph: Editor) -> None:
        out = found.outputs[0]
        graph.replace(out, graph.add(self.op_type, [found.inputs[0]], like=out, before=found))


def model() -> ir.Model:
    """Two things that right rules do (the Pad, the Mul), and two Relus for the wrong ones."""
    rng = np.random.default_rng(1)
    return model_from_text(
        """g (float[1,4,5,5] x) => (float[1,4,h,w] y) {
            p = Pad(x, pads) c = Conv(p, k) m = Mul(c, s) r = Relu(m) d = Conv(r, k2) y = Relu(d) }""",
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        k=rng.standard_normal((4, 4, 3, 3)).astype(np.float32),
        k2=rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
        s=np.float32([2]),
    )


def run(monkeypatch: pytest.MonkeyPatch, *rules: WrongRule, step: Pass | None = None) -> StepsResult:
    monkeypatch.setattr(fuse, "FUSE", (rules, *FUSE))
    return run_steps(model(), [step or Fuse()], PassContext(Target(), sample=SAMPLE), SAMPLE)


@pytest.mark.parametrize(
    "rules",
    [
        [WrongRule("wrong-numbers", "Neg")],
        [WrongRule("no-kernel", "NoSuchOperator")],  # the checker and the runtime refuse it
        [WrongRule("wrong-numbers", "Neg"), WrongRule("other-numbers", "Sigmoid")],
    ],
)
def test_a_wrong_rule_is_switched_off_and_the_others_stay(
    monkeypatch: pytest.MonkeyPatch, rules: list[WrongRule]
) -> None:
    done = run(monkeypatch, *rules)
    (report,) = done.steps
    names = [rule.name for rule in rules]
    assert op_types(done.model) == ["Conv", "Relu", "Conv", "Relu"]
    assert report.details["switched_off"] == names
    assert report.details["rules"] == {"fold-affine-after": 1, "fold-pad": 1}
    assert [(notice.code, name in notice.message) for notice, name in zip(done.notices, names, strict=True)] == [
        ("rule-switched-off", True)
    ] * len(names)
    assert {f"{name}: switched off, the outputs drifted" for name in names} <= {s.reason for s in report.skipped}


def test_right_rules_are_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch)
    assert done.notices == () and "switched_off" not in done.steps[0].details


def test_more_wrong_rules_than_can_be_true_undo_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = ["Neg", "Sigmoid", "Tanh", "Exp", "Softplus"]
    done = run(monkeypatch, *(WrongRule(f"wrong-{op.lower()}", op) for op in operators))
    assert op_types(done.model) == op_types(model())
    assert [notice.code for notice in done.notices] == ["pass-undone"]


class Negate(Pass):
    """Multiply what the model computes by minus one, and call that exact, as a careless plug-in may do."""

    name = "negate"
    family = "fuse"
    effect = "exact"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        last = model.graph.outputs[0].producer()
        assert last is not None
        last.op_type = "Neg"
        return PassResult(model, 1)


def test_a_pass_without_rules_is_undone_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, step=Negate())
    assert op_types(done.model) == op_types(model())
    assert [notice.code for notice in done.notices] == ["pass-undone"]
