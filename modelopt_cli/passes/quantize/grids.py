"""The scale and zero point of every tensor of the integer part, from ranges and from what its readers need of it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from modelopt_cli.calibration.ranges import Range
from modelopt_cli.passes.quantize.kinds import Candidate, affine_of
from modelopt_cli.passes.quantize.params import QuantParams, params_from_range
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.targets.schemes import Scheme

HARDSWISH_KNEE = 3.0  # HardSwish(x) = x * clip(x + 3, 0, 6) / 6 is 0 below -3 and x above 3
ALIGN_STEPS = 2  # make a constant a whole number of steps where it is at least two: a grid coarser by half at the most


def tensors_to_calibrate(regions: Regions) -> list[str]:
    """Names of the tensors whose ranges `assign_grids` reads, in graph order."""
    return list(calibrated_values(regions))


def calibrated_values(regions: Regions) -> dict[str, ir.Value]:
    """The tensors whose ranges `assign_grids` reads, by name."""
    values = (value for what in regions.integer.values() for value in (*what.activations, what.head))
    return {str(value.name): value for value in values}


def assign_grids(regions: Regions, ranges: Mapping[str, Range], scheme: Scheme) -> dict[ir.Value, QuantParams]:
    """Scale and zero point of every activation that is read or written as integers."""
    bounds = {name: (found.low, found.high) for name, found in ranges.items()}
    _widen_for_readers(regions, bounds)
    readers = _readers(regions)
    grids: dict[ir.Value, QuantParams] = {}
    for what in regions.integer.values():
        for value in what.activations:
            if value not in grids:
                grids[value] = _grid(value, bounds, readers, scheme)
        grids[what.head] = _head_grid(what, grids, bounds, readers, scheme)
    return grids


def _widen_for_readers(regions: Regions, bounds: dict[str, tuple[float, float]]) -> None:
    """``y = a x + b`` shares the integers of ``x``: both must represent their own 0, so x must hold -b / a."""
    for what in reversed(regions.integer.values()):
        if what.kind == "affine":
            factor, offset = affine_of(what.node)
            low, high = bounds[str(what.head.name)]
            x = str(what.activations[0].name)
            wanted = (min(low, 0) - offset) / factor, (max(high, 0) - offset) / factor
            bounds[x] = min(bounds[x][0], wanted[0]), max(bounds[x][1], wanted[1])
        elif what.kind == "move":
            x, y = str(what.activations[0].name), str(what.head.name)
            bounds[x] = min(bounds[x][0], bounds[y][0]), max(bounds[x][1], bounds[y][1])


def _readers(regions: Regions) -> dict[ir.Value, list[Candidate]]:
    readers: dict[ir.Value, list[Candidate]] = {}
    for what in regions.integer.values():
        for value in what.activations:
            readers.setdefault(value, []).append(what)
    return readers


def _head_grid(
    what: Candidate,
    grids: Mapping[ir.Value, QuantParams],
    bounds: Mapping[str, tuple[float, float]],
    readers: Mapping[ir.Value, list[Candidate]],
    scheme: Scheme,
) -> QuantParams:
    source = grids[what.activations[0]]
    if what.kind == "move":
        return source
    if what.kind == "affine":
        return source.affine(*affine_of(what.node))
    if what.kind == "hardsigmoid":
        alpha, beta = hardsigmoid_line(what.node)
        return source.affine(alpha, beta)
    return _grid(what.head, bounds, readers, scheme)


def _grid(
    value: ir.Value,
    bounds: Mapping[str, tuple[float, float]],
    readers: Mapping[ir.Value, list[Candidate]],
    scheme: Scheme,
) -> QuantParams:
    low, high = bounds[str(value.name)]
    mine = readers.get(value, [])
    if any(reader.kind == "hardswish" for reader in mine):
        everywhere = len(mine) == len(list(value.uses())) and not value.is_graph_output()
        if everywhere and all(reader.kind == "hardswish" for reader in mine):
            low = max(low, -HARDSWISH_KNEE)  # what is below the knee becomes 0, and so does the knee
        return params_from_range(low, max(high, -low), scheme, whole_step_of=HARDSWISH_KNEE)
    offset = next((abs(affine_of(r.node)[1] / affine_of(r.node)[0]) for r in mine if r.kind == "affine"), 0.0)
    plain = params_from_range(low, high, scheme)
    if scheme.symmetric or offset < ALIGN_STEPS * plain.scale:
        return plain
    return params_from_range(low, high, scheme, whole_step_of=offset)


def hardsigmoid_line(node: ir.Node) -> tuple[float, float]:
    """Slope and offset of a HardSigmoid."""
    return node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
