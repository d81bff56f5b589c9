"""What a builder makes of a plan is a function of that plan, whatever it built before: a replay builds nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.calibration.ranges import RangeRules
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.plan import Plan, default_plan
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Isa, Target
from modelopt_cli.testing import ArrayDataset, model_from_text

TEXT = """net (float[n,8,24,24] x) => (float[n,8,18,18] y) {
    a = Conv (x, w1) b = Relu (a) c = Conv (b, w2) d = Relu (c) y = Conv (d, w3) }"""


def builder(isa: Isa) -> Builder:
    """Of weights that all have one sign and inputs of heavy tails: the two observers' ranges differ."""
    rng = np.random.default_rng(0)
    weights = {name: np.abs(rng.standard_normal((8, 8, 3, 3))).astype(np.float32) / 8 for name in ("w1", "w2", "w3")}
    x = np.abs(rng.standard_t(3, (6, 8, 24, 24))).astype(np.float32)
    observers = ("minmax", "mse")
    return Builder(
        model_from_text(TEXT, **weights),
        scheme_for(Target(isa=isa)),
        ArrayDataset({"x": x}),
        observers=observers,
        progress=Silent(),
    )


def plans(made: Builder) -> dict[str, Plan]:
    start = default_plan(made.scheme)
    return {
        "minmax": Plan(start.ops, ranges=RangeRules("minmax")),
        "mse": Plan(start.ops, ranges=RangeRules("mse")),
        "one in float": Plan(start.ops, float_nodes=frozenset({"c"}), ranges=RangeRules("mse")),
    }


@pytest.mark.parametrize("isa", ["avx2", "avx512_vnni"])
@pytest.mark.parametrize("name", ["minmax", "mse", "one in float"])
def test_a_plan_gives_the_same_bytes_whatever_was_built_before(name: str, isa: Isa) -> None:
    fresh, used = builder(isa), builder(isa)
    for plan in plans(used).values():
        used.build(plan, timed=True)
        used.build(plan)
        used.build(plan, final=True)
    expected, found = (model_bytes(each.build(plans(each)[name], final=True).model) for each in (fresh, used))
    assert found == expected
    assert fresh.reduced == used.reduced


def test_a_product_is_looked_at_once_on_each_grid_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float]] = []

    def narrow_ones(model, nodes, grids, *_) -> set[str]:
        seen.extend((node.outputs[0].name, float(grids[node.inputs[0].name].scale)) for node in nodes)
        return {node.outputs[0].name for node in nodes if len(seen) > 3}

    monkeypatch.setattr("modelopt_cli.passes.quantize.builder.find_saturating", narrow_ones)
    made = builder("avx2")
    reduced = {}
    for name in ("minmax", "mse", "minmax"):
        made.build(plans(made)[name], final=True)
        reduced[name] = made.reduced
    assert len(set(seen)) == len(seen) > 3
    assert reduced["minmax"] == 0 < reduced["mse"]


def test_what_is_only_timed_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.passes.quantize.builder.find_saturating", None)
    made = builder("avx2")
    made.build(plans(made)["minmax"], timed=True)
