"""What a run will take, said before it begins: memory, disk and time, each against what there is."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelopt_cli.calibration.memory import COPIES, WorkingMemory
from modelopt_cli.errors import PassError, UsageError
from modelopt_cli.format import format_bytes, format_seconds
from modelopt_cli.graph.io import EXTERNAL_DATA_ABOVE_BYTES, SourceModel, check_room, weight_bytes
from modelopt_cli.graph.mapped import worth_mapping
from modelopt_cli.passes.prune.frontier import MAX_FRONTIER_BYTES
from modelopt_cli.passes.prune.prune import Prune
from modelopt_cli.passes.quantize.builder import JUDGED_SAMPLES
from modelopt_cli.passes.quantize.calibrated import CalibratedPass, is_this_machine
from modelopt_cli.passes.quantize.output_error import HELD_MB
from modelopt_cli.passes.quantize.patches import largest_moment_bytes, rounding_bytes
from modelopt_cli.pipeline.measure import AGREEMENT_SAMPLES
from modelopt_cli.pipeline.memory import release_memory
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.prepare import Prepared
from modelopt_cli.profiling.memory import available_bytes, resident_bytes
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.recipe.schema import Recipe

# Peak over what the process has after one run, in files. Weights of large models are mapped; the sessions of both sides
# copy them, and one that is being opened twice.
FILES_IN_MEMORY = 4.5
FILES_IN_MEMORY_MAPPED = 2.5
SESSIONS_AT_ONCE = 2  # the original's and the result's
# Models with data are at their peak while weights are rounded or pruned: second moments are 40 files of a ResNet of
# 0.3 MB, and two of a MiniLM of 90 MB. No session is open then.
FILES_AT_WORK = 2  # the weights that a step has, and those that it makes
MATRICES_WHILE_PRUNING = 14  # of float32: moments of both halves, their sum, eigenvectors and what LAPACK works in
FRONTIER_SHARE = 1 / 32  # of the activations of a run, for each sample: what is alive between two layers
COME_LATER = 8 << 20  # of any model: libraries and parts of the runtime that nothing before has touched
LEAST_WORKING_MB = 16.0
RUNS_EACH_SAMPLE = 4  # calibration: ranges, rounding, and the judge of both sides
SEARCHED = 0.5  # of a budget: a search ends when there is nothing left to try, after 0.1 (samples) to 0.8 (PP-OCR det)
SAY_ABOVE_S = 30.0


@dataclass(frozen=True)
class Estimate:
    """What a run will take, and what there is.

    Attributes:
        seconds: About; the budgets of searching and timing, and what the data takes at the speed of one run now.
        memory_bytes: At the peak, about.
        free_bytes: Memory that this process may still have; None where the system does not tell.
        disk_bytes: Of the result, if it is as large as the source.
        working: What calibration may hold of that.
    """

    seconds: float
    memory_bytes: int
    free_bytes: int | None
    disk_bytes: int
    working: WorkingMemory = field(default_factory=WorkingMemory)


def estimate(prepared: Prepared, source: SourceModel, recipe: Recipe, options: CompressOptions) -> Estimate:
    """Foretell a run from one run of the source.

    Raises:
        ModelError: The source does not run.
        UsageError: It takes more than ``options.max_memory``, whatever calibration holds.
    """
    factor = FILES_IN_MEMORY_MAPPED if worth_mapping(weight_bytes(source.model)) else FILES_IN_MEMORY
    run_s, activations = _one_run(prepared, source)
    release_memory()
    fixed = resident_bytes() + COME_LATER
    if prepared.data.calibration is not None:
        fixed += _held(prepared)
    memory = fixed + round(factor * source.file_bytes) + SESSIONS_AT_ONCE * activations
    working = working_memory(options.max_memory, memory)
    at_work = max(_at_work(prepared, source, activations, working), default=0)
    memory = max(memory, fixed + FILES_AT_WORK * source.file_bytes + at_work)
    seconds = sum(_seconds(prepared, recipe, options, run_s))
    return Estimate(seconds, memory, available_bytes(), source.file_bytes, working)


def _at_work(prepared: Prepared, source: SourceModel, activations: int, working: WorkingMemory) -> Iterator[int]:
    """Bytes of second moments and what is made of them, for each step that takes any."""
    if prepared.data.calibration is None:
        return
    for step in prepared.passes:
        if isinstance(step, CalibratedPass):
            yield sum(rounding_bytes(source.model.graph, working))
        elif isinstance(step, Prune):
            frontier = min(MAX_FRONTIER_BYTES, round(len(prepared.data.calibration) * activations * FRONTIER_SHARE))
            yield MATRICES_WHILE_PRUNING * largest_moment_bytes(source.model.graph) + 2 * frontier


def working_memory(bound: int | None, taken: int) -> WorkingMemory:
    """What calibration may hold at a time beside what the rest of the process takes.

    Args:
        bound: Bytes for the process, or None.
        taken: Bytes without calibration's tensors, foretold.

    Raises:
        UsageError: The bound leaves too little to work with.
    """
    if bound is None:
        return WorkingMemory()
    left = (bound - taken) / COPIES / 2**20
    if left < LEAST_WORKING_MB:
        least = taken + round(COPIES * LEAST_WORKING_MB * 2**20)
        rest = format_bytes(least - taken)
        message = f"it takes {format_bytes(taken)} with its sessions on this model, and calibration {rest} at least"
        raise UsageError(message, where="--max-memory", hint=f"{math.ceil(least / 1e6)}MB or more")
    return WorkingMemory(left)


def _held(prepared: Prepared) -> int:
    """Bytes of samples and float outputs that variants are judged on."""
    sample = sum(array.nbytes for array in prepared.feeds.arrays.values())
    return min(JUDGED_SAMPLES * 2 * sample, round(HELD_MB * 2**20))


def check_memory(expected: Estimate, source: SourceModel) -> None:
    """Refuse a model that cannot fit beside its result, and one whose temporary files do not fit the disk.

    Raises:
        PassError: There is not memory for even the two of them.
        OutputError: No room for a copy in the folder of temporary files.
    """
    least = 2 * source.file_bytes
    if expected.free_bytes is not None and expected.free_bytes < least:
        free, needed = format_bytes(expected.free_bytes), format_bytes(least)
        message = f"the model and its result take {needed} of memory, and {free} are left"
        raise PassError(message, where=source.label, hint="a machine with more memory, or fewer other programs")
    if source.file_bytes > EXTERNAL_DATA_ABOVE_BYTES:
        check_room(Path(tempfile.gettempdir()) / "modelopt", source.file_bytes)


def expectation(expected: Estimate) -> str:
    """What a person should know before waiting; empty when it is soon over and fits."""
    parts = []
    if expected.seconds > SAY_ABOVE_S:
        needed = format_bytes(expected.memory_bytes)
        parts.append(f"this takes about {format_seconds(expected.seconds)} and {needed} of memory")
    if expected.free_bytes is not None and expected.memory_bytes > expected.free_bytes:
        free = format_bytes(expected.free_bytes)
        parts.append(f"it may take {format_bytes(expected.memory_bytes)} of memory, and {free} are left")
    return "; ".join(parts)


def _one_run(prepared: Prepared, source: SourceModel) -> tuple[float, int]:
    """Seconds of a run of the source, and bytes that it keeps for activations."""
    release_memory()
    before = resident_bytes()
    session = open_session(source.path or source.model, provider=prepared.providers[0])
    run(session, prepared.feeds.arrays)  # the first one allocates
    started = time.perf_counter()
    run(session, prepared.feeds.arrays)
    seconds = time.perf_counter() - started
    return seconds, max(resident_bytes() - before - source.file_bytes, 0)


def _seconds(prepared: Prepared, recipe: Recipe, options: CompressOptions, run_s: float) -> Iterator[float]:
    if options.profile:
        yield (options.budget_s or recipe.profile.seconds) * len(prepared.providers)
    lossy = [step for step in prepared.passes if step.effect == "lossy"]
    if is_this_machine(prepared.target):  # nothing is searched by measuring for another one
        yield from (SEARCHED * float(getattr(step, "budget", 0.0) or 0.0) for step in lossy)
    calibration, evaluation = prepared.data.calibration, prepared.data.evaluation
    if calibration is not None:
        yield len(calibration) * run_s * RUNS_EACH_SAMPLE * len(lossy)
        yield min(len(calibration), AGREEMENT_SAMPLES) * run_s * 2 if evaluation is None else 0.0
    if evaluation is not None:
        yield len(evaluation) * run_s * 2
