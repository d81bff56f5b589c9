"""Both models under the profiler: what runs of them, how long, and on what numbers."""

from __future__ import annotations

from modelopt_cli.pipeline.measure import Subject
from modelopt_cli.profiling.audit import is_integer_kernel
from modelopt_cli.profiling.per_op import OpProfile, OpTime, by_type, profile_nodes, side_by_side
from modelopt_cli.report.inside import Kernel, Kernels, Kind, TypeTime

SECONDS = 0.5  # for the runs of one model
MOST_RUNS = 10
_CONVERSIONS = frozenset(
    {"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput"}
)


def measure_kernels(subject: Subject, provider: str, threads: int, latency_ms: float) -> Kernels | None:
    """Time by kernel of original and result.

    Args:
        subject: The pair.
        provider: What to run on.
        threads: Threads inside an operator.
        latency_ms: Of the original: slow models run fewer times.

    Returns:
        None above 2 GB, where the runtime cannot write down what it runs.

    Raises:
        ModelError: The runtime cannot run one of them.
    """
    if subject.file is None:
        return None
    runs = min(max(round(SECONDS * 1e3 / max(latency_ms, 1e-6)), 1), MOST_RUNS)
    before, after = (
        profile_nodes(model, graph, subject.feeds.arrays, runs, provider=provider, threads=threads)
        for model, graph in ((subject.original, subject.source.model), (subject.result, subject.model))
    )
    sections = side_by_side(after.times, before.times)
    return Kernels(provider, runs, _types(before, after), tuple(sections), _graph(after))


def kernel_kind(op_type: str) -> Kind:
    """What a kernel of the runtime computes on."""
    if is_integer_kernel(op_type):
        return "integer"
    return "conversion" if op_type in _CONVERSIONS else "float"


def _types(before: OpProfile, after: OpProfile) -> tuple[TypeTime, ...]:
    sides = [_sums(profile) for profile in (before, after)]
    found = []
    for op_type in dict.fromkeys(name for side in sides for name in side):
        (old_ms, old_count), (new_ms, new_count) = (side.get(op_type, (0.0, 0)) for side in sides)
        found.append(TypeTime(op_type, old_ms, new_ms, old_count, new_count))
    return tuple(sorted(found, key=lambda each: -max(each.original_ms, each.result_ms)))


def _sums(profile: OpProfile) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    for each in by_type(profile.times):
        ms, count = found.get(each.op_type, (0.0, 0))
        found[each.op_type] = ms + each.ms, count + each.count
    return found


def _graph(profile: OpProfile) -> tuple[Kernel, ...]:
    """In the order of the first run; a kernel in a loop body is there once."""
    times = {each.name: each for each in profile.times}
    order = list(dict.fromkeys(run.name for run in profile.runs))
    places = {name: place for place, name in enumerate(order)}
    return tuple(_kernel(times[name], profile.reads.get(name, ()), places) for name in order)


def _kernel(each: OpTime, reads: tuple[str, ...], places: dict[str, int]) -> Kernel:
    here = places[each.name]
    before = sorted({places[name] for name in reads if places.get(name, here) < here})
    return Kernel(each.name, each.op_type, kernel_kind(each.op_type), each.ms, each.nodes, tuple(before))
