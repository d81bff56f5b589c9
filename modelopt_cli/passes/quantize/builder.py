"""From a float model and a plan to a quantized model, any number of times: what plans share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from modelopt_cli.cache import Cache
from modelopt_cli.calibration.collector import collect_range_choices
from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.calibration.ranges import ObserverName, ObserverOptions, Range, RangeRules
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.graph.edit import drop_unread_weights, forget_names
from modelopt_cli.graph.residual import residuals_to_add, residuals_to_sum
from modelopt_cli.passes.base import PassResult
from modelopt_cli.passes.quantize.attention import spelled, write_attention_parts
from modelopt_cli.passes.quantize.grids import assign_grids, calibrated_values, tensors_to_calibrate
from modelopt_cli.passes.quantize.groups import Group, all_groups, static_groups
from modelopt_cli.passes.quantize.kinds import has_weight
from modelopt_cli.passes.quantize.offsets import Missing, missing_offsets
from modelopt_cli.passes.quantize.params import SMALLEST_SCALE, QuantParams
from modelopt_cli.passes.quantize.patches import collect_patches, source_of
from modelopt_cli.passes.quantize.plan import Plan, label
from modelopt_cli.passes.quantize.qdq import QdqWriter
from modelopt_cli.passes.quantize.regions import Regions, choose_regions
from modelopt_cli.passes.quantize.saturation import find_saturating
from modelopt_cli.passes.quantize.second_order import Rounding, round_products
from modelopt_cli.passes.quantize.shapes import observed_shapes
from modelopt_cli.passes.quantize.signature import positions
from modelopt_cli.passes.quantize.silu import SILU, in_silu, write_quick_gelu
from modelopt_cli.passes.quantize.weight_only import store_weights_as_int8
from modelopt_cli.passes.quantize.weighted import WeightWriter
from modelopt_cli.passes.quantize.weights import QuantizedWeight, quantize_weight
from modelopt_cli.progress import Progress
from modelopt_cli.targets.schemes import Scheme

JUDGED_SAMPLES = 32  # of outputs, when two variants are compared
MIXED_RATIO = 16.0  # of the ranges that a Concat joins: on one 8-bit grid the smallest has 4 bits left, or none
ALIKE = 0.98  # widths of two ranges, of which one need not be compared with the other
TAIL_READERS = ("Sigmoid", "Softmax", "LogSoftmax", "HardSigmoid", "ArgMax", "TopK")
ROUNDING_SAMPLES = 32  # a few thousand patches per filter: covariances have settled


@dataclass(frozen=True)
class Built:
    """A quantized model.

    Attributes:
        model: A new graph; weights that were not quantized are shared with the float model.
        regions: What runs as integers; its nodes are those of ``model``.
        stored: Weights of float operators that are int8 in the file only.
        rest: What was done besides.
    """

    model: ir.Model
    regions: Regions
    stored: tuple[str, ...]
    rest: PassResult | None = None


Rest = Callable[[ir.Model, Plan, bool], PassResult]
"""(model, plan, whether it is the result) -> what was done to it, in place."""


class Builder:
    """Builds quantized variants of one float model.

    Args:
        model: The float model. Only its residual Sums are edited: they become Add, which has an integer kernel, and are
            Sum again in what is built where they stayed float.
        scheme: Integer types of the target.
        data: Calibration samples.
        per_channel: One weight scale per output channel, where the scheme has that.
        percentile: Of observer ``percentile``.
        observers: The rules to choose ranges among; they share one pass over the data.
        second_order: Round the weights of the result by what they are multiplied with, and correct biases.
        rest: What is done to the model besides, after the static part: dynamic products, say.
        cache: Where ranges are kept between runs.
        contrib: Whether the result may hold onnxruntime's own operators.
        memory: What calibration may hold.
        progress: Where to say how far calibration is.
    """

    def __init__(
        self,
        model: ir.Model,
        scheme: Scheme,
        data: Dataset,
        *,
        per_channel: bool = True,
        percentile: float = 99.99,
        observers: Sequence[ObserverName] = ("minmax",),
        rest: Rest | None = None,
        second_order: bool = True,
        contrib: bool = False,
        memory: WorkingMemory | None = None,
        cache: Cache | None = None,
        progress: Progress,
    ) -> None:
        self._model = model
        self._residuals = residuals_to_add(model)
        self._contrib = contrib
        self._memory = memory or WorkingMemory()
        self.scheme = scheme
        self._data = data
        self._per_channel = per_channel and scheme.per_channel
        self._options = ObserverOptions(percentile=percentile, grid="s8" if scheme.symmetric else "u8")
        self._rest = rest
        self._second_order = second_order and self._per_channel
        self._cache = cache
        self._progress = progress
        self.observers = tuple(observers)
        self.calibration_samples = 0
        self._ranges: dict[ObserverName, dict[str, Range]] = {observer: {} for observer in observers}
        self._rough: dict[str, Range] = {}
        self.reduced = 0  # products of the last result that have 7-bit weights so as not to saturate
        self._roundings = {reduced: Rounding({}, {}) for reduced in (False, True)}
        self._saturates: dict[tuple[str, float, int], bool] = {}  # a product on a grid of its input
        self._weights: dict[tuple[str, int | None, bool], QuantizedWeight] = {}
        self.judged = data.take(JUDGED_SAMPLES)
        self.sample: Sample = next(iter(data))
        self.shapes = observed_shapes(model, self.sample)
        self.places = positions(model.graph, self.shapes)

    def regions(self, plan: Plan) -> Regions:
        """What a plan would run as integers, on the nodes of the float model."""
        return self._choose(self._model.graph, plan)

    def groups(self, plan: Plan) -> list[Group]:
        """What shares one decision under a plan; with what finds its ranges at run time, where that is done."""
        regions = self.regions(plan)
        return static_groups(regions) if self._rest is None else all_groups(self._model.graph, regions, plan)

    def _choose(self, graph: ir.Graph, plan: Plan) -> Regions:
        """A float SiLU pays only as one operator."""
        allowed = plan if self._contrib else plan.with_ops(SILU)
        return choose_regions(graph, self.scheme, allowed, self.shapes, self.places)

    @property
    def has_silu(self) -> bool:
        """Whether there is a SiLU that may be one float operator."""
        return self._contrib and any(in_silu(node) for node in self._model.graph)

    @property
    def has_attention(self) -> bool:
        """Whether there is an Attention that may be written as its parts."""
        return any(spelled(node) is not None for node in self._model.graph)

    def calibrate(self, plan: Plan, *, roughly: bool = False) -> None:
        """Collect the ranges of a plan's tensors that are not known yet, by all observers.

        Args:
            plan: What runs as integers.
            roughly: From one sample, for a model that is only timed: most variants are not adopted.
        """
        known = set(self._ranges[self.observers[0]])
        known |= set(self._rough) if roughly else set()
        wanted = [name for name in tensors_to_calibrate(self.regions(plan)) if name not in known]
        if not wanted:
            return
        found = collect_range_choices(
            self._model,
            wanted,
            self._data.take(1) if roughly else self._data,
            self.observers[:1] if roughly else self.observers,
            options=self._options,
            memory=self._memory,
            progress=self._progress,
            cache=None if roughly else self._cache,
        )
        if roughly:
            self._rough |= found.ranges[self.observers[0]]
            return
        self.calibration_samples = max(self.calibration_samples, found.samples)
        for observer, ranges in found.ranges.items():
            self._ranges[observer] |= ranges

    def mixed(self, plan: Plan) -> list[str]:
        """Concat nodes of a plan whose inputs have so different ranges that one 8-bit grid ruins the smaller."""
        self.calibrate(plan)
        ranges = self._ranges[self.observers[0]]
        names = []
        for node, what in self.regions(plan).integer.items():
            if what.kind == "concat":
                widths = [_magnitude(ranges[str(value.name)]) for value in what.activations]
                if max(widths) > MIXED_RATIO * min(widths):
                    names.append(label(node))
        return names

    def build(
        self,
        plan: Plan,
        *,
        only: Collection[str] | None = None,
        final: bool = False,
        timed: bool = False,
        static_only: bool = False,
    ) -> Built:
        """The model under a plan.

        Args:
            plan: What may run as integers, and ranges by which rules; by the first observer where it has none.
            only: Of what the plan runs as integers, these nodes alone (by `label`), and nothing besides: what the
                error of a part is measured on.
            final: Whether this is the result, for which rounding and ``rest`` take their time, or a draft.
            timed: Whether nothing but its latency is looked at: ranges that are not known are then rough ones.
            static_only: Whether ``rest`` is left out: what the error of the static part is measured on.
        """
        clone = self._model.clone()
        forget_names(clone)  # clones share the list of names: the result must not depend on how many were tried
        regions = self._choose(clone.graph, plan)
        if only is not None:
            regions = Regions({node: what for node, what in regions.integer.items() if label(node) in only}, ())
        for node in regions.integer:
            node.name = label(node)  # the runtime names an integer kernel after its node alone
        self.calibrate(plan, roughly=timed)
        grids = assign_grids(regions, self._chosen(regions, self.rules(plan)), self.scheme)
        reduced = self._reduced(regions, grids, look=not timed)
        rounding = self._round(plan, reduced) if final and self._second_order else None
        if final:
            self.reduced = sum(reduced.values())
        weights = WeightWriter(
            clone.graph,
            partial(self._quantize_weight, reduced),
            reduce_range=self.scheme.reduce_range,
            shift=partial(_shift, rounding, missing_offsets(regions, grids, self.shapes)),
            float_bias=self.scheme.float_bias,
        )
        QdqWriter(clone.graph, regions, grids, weights).write()
        if self._contrib:
            write_quick_gelu(clone.graph)
        if only is not None:
            return Built(clone, regions, ())
        rest = None if static_only else self._rest
        extra = rest(clone, plan, final) if rest is not None else PassResult(clone, 0)
        if plan.attention_parts:
            write_attention_parts(clone.graph)
        residuals_to_sum(clone, self._residuals)
        stored = store_weights_as_int8(clone.graph, None if rounding is None else partial(_rounded, rounding))
        drop_unread_weights(clone.graph)
        return Built(clone, regions, tuple(stored), extra)

    def rules(self, plan: Plan) -> RangeRules:
        """How a plan's ranges follow from values."""
        return plan.ranges or RangeRules(self.observers[0])

    def contested(self, plan: Plan) -> list[tuple[str, ObserverName]]:
        """Tensors of a plan to which another observer gives another width, and that observer: the most different first.

        What scores are made of is not among them.
        """
        self.calibrate(plan)
        rules = self.rules(plan)
        found: list[tuple[float, str, ObserverName]] = []
        for name, value in calibrated_values(self.regions(plan)).items():
            width = _width(self._ranges[rules.of(name)][name])
            for other in self.observers:
                narrow, wide = sorted((width, _width(self._ranges[other][name])))
                if narrow < ALIKE * wide and not _makes_scores(value):
                    found.append((narrow / wide, name, other))
        return [(name, other) for _, name, other in sorted(found)]

    def _chosen(self, regions: Regions, rules: RangeRules) -> dict[str, Range]:
        """Ranges by tensor; what scores are made of is never clipped: the rare large one is what counts there."""
        ranges: dict[str, Range] = {}
        for name, value in calibrated_values(regions).items():
            whole = _makes_scores(value) and "minmax" in self._ranges
            ranges[name] = self._ranges["minmax" if whole else rules.of(name)].get(name) or self._rough[name]
        return ranges

    def _round(self, plan: Plan, reduced: Mapping[str, bool]) -> Rounding:
        """Rounding of all products of a plan, and of those that it keeps in float: these are stored no worse.

        A function of the plan alone, whatever was tried before: what earlier plans had is known, and not more.
        """
        unrestricted = replace(plan, float_nodes=frozenset())
        products = _products(self.regions(plan)) | _products(self.regions(unrestricted))
        found = Rounding({}, {})
        for seven_bits, known in self._roundings.items():
            part = [node for name, node in products.items() if reduced.get(name, False) == seven_bits]
            new = [node for node in part if str(node.outputs[0].name) not in known.means]
            patches = collect_patches(self._model, new, self._data.take(ROUNDING_SAMPLES), self._progress, self._memory)
            for each in patches:
                known.add(round_products([each], reduce_range=seven_bits))
            self._weights |= {(*key, seven_bits): weight for key, weight in known.weights.items()}
            found.add(known.of(part))
        return found

    def _reduced(self, regions: Regions, grids: Mapping[ir.Value, QuantParams], *, look: bool) -> dict[str, bool]:
        """Which products have 7-bit weights: on targets that saturate, unless samples say that these do not.

        By the grid of their input: one that clips more has larger numbers, and larger sums. Not looked at, all of them.
        """
        products = _products(regions)
        if not self.scheme.reduce_range or not look:
            return dict.fromkeys(products, self.scheme.reduce_range)
        by_name = {str(value.name): grid for value, grid in grids.items()}
        nodes = [n for n in self._model.graph if n.outputs and n.outputs[0].name in products and has_weight(n)]
        keys = {node: _on(node, by_name[source_of(node)]) for node in nodes if source_of(node) in by_name}
        new = [node for node, key in keys.items() if key not in self._saturates]
        if new:
            found = find_saturating(self._model, new, by_name, self._data, self._progress, self._memory)
            self._saturates |= {keys[node]: keys[node][0] in found for node in new}
        shared = {node.inputs[1] for node, key in keys.items() if self._saturates[key]}  # one weight is rounded once
        fits = {key[0] for node, key in keys.items() if node.inputs[1] not in shared}
        return {name: name not in fits for name in products}

    def float_model(self) -> ir.Model:
        """A clone of the float model as it came in: what integers are timed against."""
        clone = self._model.clone()
        forget_names(clone)
        residuals_to_sum(clone, self._residuals)
        return clone

    def weights_only(self) -> Built:
        """The float model with its weights stored as int8."""
        clone = self.float_model()
        stored = store_weights_as_int8(clone.graph)
        drop_unread_weights(clone.graph)
        return Built(clone, Regions({}, ()), tuple(stored))

    def _quantize_weight(
        self, reduced: Mapping[str, bool], node: ir.Node, array: np.ndarray, axis: int | None
    ) -> QuantizedWeight:
        weight, seven_bits = node.inputs[1], reduced.get(str(node.outputs[0].name), self.scheme.reduce_range)
        key = (weight.name or "" if weight is not None else "", axis, seven_bits)
        if key not in self._weights:
            self._weights[key] = quantize_weight(
                array, axis=axis if self._per_channel else None, reduce_range=seven_bits
            )
        return self._weights[key]


def _shift(
    rounding: Rounding | None,
    missing: Mapping[ir.Node, Missing],
    node: ir.Node,
    array: np.ndarray,
    rounded: QuantizedWeight,
) -> np.ndarray | None:
    """What a bias makes up for: the rounding of the weight, and of what was added to the input."""
    lost = None if rounding is None else rounding.bias_shift(node, array, rounded)
    if node not in missing:
        return lost
    added = missing[node].shift(node, rounded.dequantize())
    return added if lost is None else lost + added


def _products(regions: Regions) -> dict[str, ir.Node]:
    """What multiplies as integers, by name of its output."""
    integer = regions.integer.values()
    return {str(what.node.outputs[0].name): what.node for what in integer if what.kind == "multiply"}


def _on(node: ir.Node, grid: QuantParams) -> tuple[str, float, int]:
    """What decides whether a product saturates."""
    return str(node.outputs[0].name), float(grid.scale), int(grid.zero_point)


def _rounded(
    rounding: Rounding, node: ir.Node, array: np.ndarray, axis: int | None
) -> tuple[QuantizedWeight, np.ndarray | None] | None:
    """How a weight that stayed float is rounded where its product was to run as integers."""
    weight = node.inputs[1]
    known = rounding.weights.get((str(weight.name) if weight is not None else "", axis))
    return None if known is None else (known, rounding.bias_shift(node, array, known))


def _makes_scores(value: ir.Value) -> bool:
    return any(use.node.op_type in TAIL_READERS for use in value.uses()) or value.is_graph_output()


def _width(found: Range) -> float:
    return max(found.high, 0.0) - min(found.low, 0.0)


def _magnitude(found: Range) -> float:
    return max(abs(found.low), abs(found.high), SMALLEST_SCALE)
