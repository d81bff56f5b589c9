"""What is left learns to do without: every layer behind a cut is fitted again to what the original network computed.

Layer by layer in graph order, from the inputs that it gets in the pruned network to the outputs that it had in the
original one, so that errors do not pile up (He, Zhang and Sun 2017, https://arxiv.org/abs/1707.06168). A layer that is
added to a residual branch takes on the error of that branch too. No labels, no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import constant, only_reader
from modelopt_cli.passes.prune.frontier import Frontier, live_before
from modelopt_cli.passes.prune.linear import ConvLayer, LinearLayer, LstmLayer, pick
from modelopt_cli.passes.prune.patches import PatchGeometry, sample_patches
from modelopt_cli.passes.prune.structured.blocks import is_sum_of_two
from modelopt_cli.passes.prune.structured.layers import layer_of
from modelopt_cli.passes.prune.structured.normal import NormalEquations, mean_error, ridge
from modelopt_cli.passes.prune.structured.sampling import is_held_out, rows_per_sample
from modelopt_cli.progress import Progress

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Fit:
    """One layer in both networks.

    Attributes:
        before: In the original network.
        after: In the pruned one.
        rows: Which of its outputs are left, bool.
        columns: Which of its inputs are left, bool.
        residual: The tensor that its output is added to in the one and in the other, or None.
    """

    before: LinearLayer
    after: LinearLayer
    rows: np.ndarray
    columns: np.ndarray
    residual: tuple[str, str] | None


def recover(original: ir.Model, pruned: ir.Model, fits: list[Fit], data: Dataset, progress: Progress) -> list[str]:
    """Fit layers again, in order; ``pruned`` is edited.

    Returns:
        Names of the layers that changed.
    """
    networks = Frontier(original, data), Frontier(pruned, data)
    alive = live_before(original.graph), live_before(pruned.graph)
    changed = []
    with progress.task("fitting", len(fits)) as advance:
        for fit in fits:
            for network, lives, layer in zip(networks, alive, (fit.before, fit.after), strict=True):
                network.advance(lives[layer.node])
            if _fit(fit, *networks):
                changed.append(fit.after.name)
            advance(1)
    return changed


def fits_of(original: ir.Model, pruned: ir.Model, left: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[Fit]:
    """Layers that read anything that a removed channel reaches, in graph order.

    Args:
        original: The network as it was.
        pruned: The same graph with fewer channels.
        left: By name of a layer's first output: which of its outputs and of its inputs are left.
    """
    before = {node.outputs[0].name: node for node in original.graph if node.outputs}
    reached: set[str] = set()
    found = []
    for node in pruned.graph:
        name = node.outputs[0].name if node.outputs else ""
        old = before.get(name)
        if old is None:
            continue
        if any(map(_differ, node.inputs, old.inputs)) or any(v is not None and v.name in reached for v in node.inputs):
            reached |= {value.name for value in node.outputs if value.name}
            pair = layer_of(old), layer_of(node)
            if not isinstance(pair[0], str) and not isinstance(pair[1], str) and name in left:
                both = _residual(original.graph, old), _residual(pruned.graph, node)
                residual = (both[0], both[1]) if both[0] is not None and both[1] is not None else None
                found.append(Fit(pair[0], pair[1], *left[name], residual))
    return found


def _differ(now: ir.Value | None, before: ir.Value | None) -> bool:
    """Whether a node reads another tensor than it did, or a weight of another shape."""
    a, b = constant(now), constant(before)
    if a is not None and b is not None:
        return a.shape != b.shape
    return now is not None and before is not None and a is None and now.name != before.name


def _fit(fit: Fit, original: Frontier, pruned: Frontier) -> bool:
    prior = fit.after.matrix().astype(np.float64)
    groups, rows, columns = prior.shape
    centred = fit.after.bias is not None
    learn, judge = (NormalEquations(groups, columns, rows) for _ in range(2))
    limit = rows_per_sample(columns, len(pruned.dataset))
    names = ([], []) if fit.residual is None else ([fit.residual[0]], [fit.residual[1]])
    pairs = zip(
        original.values([*fit.before.inputs, *names[0]]), pruned.values([*fit.after.inputs, *names[1]]), strict=True
    )
    for index, (theirs, ours) in enumerate(pairs):
        target = _outputs(fit.before, theirs, limit, index)[..., fit.rows]
        if fit.residual is not None:
            theirs_there = _positions(fit.after, theirs[fit.residual[0]], limit, index)
            ours_there = _positions(fit.after, ours[fit.residual[1]], limit, index)
            target = target + theirs_there[:, fit.rows] - ours_there
        x = _inputs(fit, theirs, ours, limit, index)
        y = np.ascontiguousarray(target.reshape(-1, groups, rows).swapaxes(0, 1))
        (judge if is_held_out(index, len(pruned.dataset)) else learn).update(x, y)
    matrix = _best(learn, judge, prior, centred=centred)
    if matrix is None and not centred:
        return False
    both = learn + judge
    chosen = prior if matrix is None else matrix
    fit.after.replace(chosen.astype(np.float32))
    if centred:
        wanted = both.mean_target() - np.einsum("grk,gk->gr", chosen, both.mean())
        fit.after.shift_bias(wanted)  # targets are without the bias that both have
    return True


def _best(learn: NormalEquations, judge: NormalEquations, prior: np.ndarray, *, centred: bool) -> np.ndarray | None:
    """The fit whose strength of the prior does best on samples that it has not seen; None when none beats the prior."""
    if not judge.count or not learn.count:
        return None
    errors = {}
    for strength in STRENGTHS:
        matrix = ridge(learn, prior, strength, centred=centred)
        errors[strength] = mean_error(judge, matrix, centred=centred)
    best = min(errors, key=lambda strength: errors[strength])
    if errors[best] >= mean_error(judge, prior, centred=centred):
        return None
    return ridge(learn + judge, prior, best, centred=centred)


def _outputs(layer: LinearLayer, arrays: dict[str, np.ndarray], limit: int, seed: int) -> np.ndarray:
    """What the layer computes at some positions, without its bias: [n, all rows]."""
    x, weights = layer.rows(arrays, limit, seed), layer.matrix()
    y = x @ np.swapaxes(weights, 1, 2)
    rows: np.ndarray = np.ascontiguousarray(y.swapaxes(0, 1)).reshape(y.shape[1], -1)
    return rows


def _inputs(fit: Fit, theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray], limit: int, seed: int) -> np.ndarray:
    """What the layer gets in the pruned network, [groups, n, columns].

    A recurrent layer gets the original's states, of the units that are left: its own run away from them before it is
    fitted, and a fit to states that have run away does not lead back.
    """
    if isinstance(fit.after, LstmLayer):
        states: np.ndarray = fit.before.rows(theirs, limit, seed)[..., fit.columns]
        return states
    return fit.after.rows(ours, limit, seed)


def _positions(layer: LinearLayer, array: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """A tensor of the shape of the layer's output, at the positions that its rows were drawn from: [n, channels]."""
    if isinstance(layer, ConvLayer):
        rank = array.ndim - 2
        point = PatchGeometry((1,) * rank, (1,) * rank, (1,) * rank, (0,) * (2 * rank), "NOTSET", 1)
        found: np.ndarray = sample_patches(array, point, limit, seed)[0]
        return found
    return pick(array.reshape(-1, array.shape[-1]), limit, seed)


def _residual(graph: ir.Graph, node: ir.Node) -> str | None:
    """What the output of a node (and its bias) is added to, when that is computed before it."""
    order = {each: index for index, each in enumerate(graph)}
    value = node.outputs[0]
    for _ in range(2):
        add = only_reader(value)
        if add is None or not is_sum_of_two(add):
            return None
        other = next((v for v in add.inputs if v is not value), None)
        if other is None:
            return None
        if constant(other) is not None:
            value = add.outputs[0]
            continue
        producer = other.producer()
        early = producer is None or order.get(producer, len(order)) < order[node]
        same = other.shape is None or value.shape is None or len(other.shape) == len(value.shape)
        return other.name if early and same else None
    return None
