"""No group may collapse the output: what cannot be kept in int8 goes back to a wider type, the worst first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelopt_cli.passes.quantize.builder import Built
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.output_error import OutputError
from modelopt_cli.passes.quantize.plan import Plan
from modelopt_cli.passes.quantize.sensitivity import GroupError

COLLAPSED_DB = 10.0  # a tenth of the signal is noise: the output, or this part of it, is gone
POOR_BAND_DB = 14.0  # of the small numbers beside large ones: scores, of which a detector lives
COLLAPSED_AGREEMENT = 0.95


@dataclass(frozen=True)
class Limits:
    """What the outputs have to keep on calibration samples.

    Attributes:
        sqnr_db: Of each output as a whole.
        band_db: Of each part of an output whose numbers are alike in size.
        agreement: Share of equal answers; a floor that chance could explain to be missed counts as kept.
        asked_agreement: Share of equal answers that somebody asked for: no doubt is given.
        max_drop: Largest loss of accuracy, where there are labels to measure it.
    """

    sqnr_db: float = COLLAPSED_DB
    band_db: float = POOR_BAND_DB
    agreement: float = COLLAPSED_AGREEMENT
    asked_agreement: float = 0.0
    max_drop: float = math.inf

    def missed(self, error: OutputError) -> list[int]:
        """Indices of the bands that fall short; all whole outputs where only the agreement does."""
        bands = [
            index
            for index, band in enumerate(error.bands)
            if band.sqnr_db < (self.band_db if band.band else self.sqnr_db)
        ]
        if not bands and not self._agrees(error):
            bands = [index for index, band in enumerate(error.bands) if not band.band]
        return bands

    def shortfall(self, error: OutputError) -> float:
        """How much is missing: 0 when all holds, decibels and hundredths of agreement added up otherwise."""
        bands = (max((self.band_db if b.band else self.sqnr_db) - b.sqnr_db, 0.0) for b in error.bands)
        agreement = error.answers if error.answers is not None else 1.0
        lost = error.drop - self.max_drop if error.drop is not None else 0.0
        lacking = max(self.agreement - error.agreement_at_most, self.asked_agreement - agreement, lost, 0.0)
        return sum(bands) + 100 * lacking

    def _agrees(self, error: OutputError) -> bool:
        asked = error.answers is None or error.answers >= self.asked_agreement
        accurate = error.drop is None or error.drop <= self.max_drop
        return asked and accurate and error.agreement_at_most >= self.agreement


@dataclass(frozen=True)
class Kept:
    """The outcome: the model that is closest to the limits, its plan, and what went back to float for it."""

    built: Built
    plan: Plan
    error: OutputError
    reverted: tuple[Group, ...]
    holds: bool


def keep_within(
    limits: Limits,
    built: Built,
    plan: Plan,
    judge: Callable[[Built], OutputError],
    rebuild: Callable[[Plan], Built],
    measure: Callable[[], Sequence[GroupError]],
    *,
    deadline: float,
) -> Kept:
    """Put groups back to float until the limits hold, as few as it takes.

    Groups are ranked by the noise that each makes alone in the parts that fall short; after each attempt the ranking
    is made anew for what falls short then. The number that goes back doubles until it is enough, and is then halved
    in between: about twice log2(groups) attempts. What a range at run time can hold stays integer in that way; float
    comes last, when all groups have gone back and the limits still do not hold.

    Args:
        limits: What has to hold.
        built: The quantized model.
        plan: Its plan.
        judge: The error of a model.
        rebuild: The model of another plan.
        measure: The error of each group alone; asked for only when something falls short.
        deadline: In the seconds of ``time.monotonic``: the best until then is what is returned.
    """
    best = _kept(limits, built, plan, judge(built), ())
    if best.holds:
        return best
    order = list(measure())
    attempts = _Attempts(limits, plan, judge, rebuild)
    failed, count, last = 0, 1, best
    while failed < len(order) and time.monotonic() < deadline:
        order[failed:] = _ranked(order[failed:], limits.missed(last.error))
        last = attempts.run([each.group for each in order[:count]])
        best = _better(limits, best, last)
        if last.holds:
            break
        failed, count = count, min(2 * count, len(order))
    if not best.holds and order and failed >= len(order) and time.monotonic() < deadline:
        best = _better(limits, best, attempts.run([each.group for each in order], wholly=True))
    while best.holds and count - failed > 1 and time.monotonic() < deadline:
        middle = (failed + count) // 2
        last = attempts.run([each.group for each in order[:middle]])
        best = _better(limits, best, last)
        failed, count = (failed, middle) if last.holds else (middle, count)
    return best


@dataclass(frozen=True)
class _Attempts:
    limits: Limits
    plan: Plan
    judge: Callable[[Built], OutputError]
    rebuild: Callable[[Plan], Built]

    def run(self, groups: Sequence[Group], wholly: bool = False) -> Kept:
        plan = self.plan
        for group in groups:
            plan = group.wholly_without(plan) if wholly else group.without(plan)
        built = self.rebuild(plan)
        return _kept(self.limits, built, plan, self.judge(built), tuple(groups))


def _kept(limits: Limits, built: Built, plan: Plan, error: OutputError, reverted: tuple[Group, ...]) -> Kept:
    return Kept(built, plan, error, reverted, not limits.missed(error))


def _ranked(groups: Sequence[GroupError], bands: Sequence[int]) -> list[GroupError]:
    """Most noise first, in the band where that is most."""
    return sorted(groups, key=lambda each: -max((each.noise(band) for band in bands), default=0.0))


def _better(limits: Limits, one: Kept, other: Kept) -> Kept:
    """What holds with the fewest groups in float, or else what comes closest."""
    if one.holds and other.holds:
        return min(one, other, key=lambda kept: len(kept.reverted))
    return min(one, other, key=lambda kept: (not kept.holds, limits.shortfall(kept.error)))
