"""What each group costs in output error, by quantizing it alone: the explanation of every group that stays float."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.output_error import OutputError, OutputJudge
from modelopt_cli.passes.quantize.plan import Plan
from modelopt_cli.progress import Progress

DynamicAlone = Callable[[Sequence[str]], ir.Model]
"""Node names -> the float model with only these products quantized at run time."""


@dataclass(frozen=True)
class GroupError:
    """One group and the error at the outputs.

    Attributes:
        group: What was quantized, or left out.
        alone: With only this group quantized.
        without: With all groups but this one quantized; None where that was not asked for.
    """

    group: Group
    alone: OutputError
    without: OutputError | None = None

    def noise(self, band: int) -> float:
        """Share of noise in a band's signal: shares of groups add up, as far as their errors are independent."""
        return float(10 ** (-self.alone.bands[band].sqnr_db / 10))


@dataclass(frozen=True)
class Sensitivity:
    """Every group's part in the error.

    Attributes:
        everything: The error with all groups quantized.
        groups: Those that there was time for, worst first.
        total: How many groups there are.
    """

    everything: OutputError
    groups: tuple[GroupError, ...]
    total: int


def measure_groups(
    groups: Sequence[Group],
    builder: Builder,
    plan: Plan,
    judge: OutputJudge,
    dynamic: DynamicAlone | None,
    *,
    deadline: float,
    progress: Progress,
    also_without: bool = False,
    only: Sequence[int] | None = None,
) -> list[GroupError]:
    """The error of each group alone, from the outputs backwards (errors made last are recovered from least).

    Args:
        groups: What to measure.
        builder: Builds the variants.
        plan: What is integer when all groups are.
        judge: Compares outputs with the float model's.
        dynamic: Builds variants of groups whose ranges are found at run time.
        deadline: In the seconds of ``time.monotonic``; groups that it leaves no time for are left out.
        progress: Where to say how far it is.
        also_without: Also measure the plan without each group.
        only: Indices of the judge's samples to look at; None for all.
    """
    found: list[GroupError] = []
    with progress.task("measuring groups", len(groups)) as advance:
        for group in reversed(groups):
            if time.monotonic() > deadline:
                break
            alone = judge.judge(_alone(group, builder, plan, dynamic), only=only)
            others = judge.judge(builder.build(group.without(plan)).model, only=only) if also_without else None
            found.append(GroupError(group, alone, others))
            advance(1)
    return found


def _alone(group: Group, builder: Builder, plan: Plan, dynamic: DynamicAlone | None) -> ir.Model:
    if group.way == "static":
        return builder.build(plan, only=group.nodes).model
    assert dynamic is not None, "only a pass that quantizes at run time has such groups"
    return dynamic(group.nodes)
