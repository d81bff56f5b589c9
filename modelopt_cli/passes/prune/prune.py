"""`prune`: weights become zero, by the best rule that the data at hand allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import AfterValidator, Field, model_validator

from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.passes.prune.amount import share_for_bytes, share_for_parameters
from modelopt_cli.passes.prune.by_data import DataPruner, Outcome
from modelopt_cli.passes.prune.by_weights import prune_by_weights
from modelopt_cli.passes.prune.limit_fields import MinAgreement, MinSqnr
from modelopt_cli.passes.prune.limits import LimitJudge, Limits, most_that_holds, teachers
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.settings import Criterion, DataPruning, Distribution
from modelopt_cli.passes.prune.snapshot import Snapshot
from modelopt_cli.passes.prune.sparse_kernels import kernel_notice
from modelopt_cli.passes.prune.states import all_states
from modelopt_cli.passes.prune.weights import Weight, find_weights, match_overrides, select_weights

MOST_TRIED = 0.95  # of the weights, where only a limit on accuracy says how many go
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]

NO_GAIN = (
    "zeros alone make neither the file smaller nor the model faster: no runtime on CPU skips them, and a stored zero "
    "takes as many bytes as any other weight; the file shrinks once it is compressed, or by pack-sparse"
)


def _checked_pattern(text: str) -> str:
    Pattern.parse(text)
    return text


class Prune(Pass):
    """Set weights to zero and fit the others to the original's outputs; by magnitude where there is no data.

    With calibration data, layer by layer in the order of the graph: the weights whose loss changes the layer's output
    least go (second order), and what stays is fitted by least squares to the *original* network's outputs from the
    *pruned* network's inputs, so that errors do not pile up. No labels, no training. Without data the smallest go.
    """

    name: ClassVar[str] = "prune"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "prune"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"

    sparsity: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            allow_inf_nan=False,
            description="Share of all prunable weights set to zero; with a limit on accuracy or agreement, at most.",
        ),
    ] = 0.5
    parameters: Annotated[
        int | None, Field(gt=0, description="Instead of a share: prunable weights that are not zero afterwards.")
    ] = None
    bytes: Annotated[
        int | None, Field(gt=0, description="Instead of a share: bytes of the file after pack-sparse, at most.")
    ] = None
    packed: Annotated[
        Literal["keep", "int8"], Field(description="How pack-sparse will store values; only with bytes.")
    ] = "keep"
    max_accuracy_drop: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="As many zeros as lose no more accuracy than this on labelled samples (0.01: one point); "
            "at most the share, where one is given.",
        ),
    ] = None
    min_agreement: MinAgreement = None
    min_sqnr: MinSqnr = None
    criterion: Annotated[
        Criterion | Literal["auto"],
        Field(
            description="Which weights go. auto: second-order with calibration data, magnitude without. activation: "
            "smallest |w| times norm of its input (Wanda). magnitude: smallest, blocks by their L2 norm; l1: blocks "
            "by their L1 norm. random: a control."
        ),
    ] = "auto"
    distribution: Annotated[
        Distribution | Literal["auto"],
        Field(
            description="How the share is spread over layers. sensitivity: where it costs least, by the layers' "
            "measured errors (auto, with data); uniform: the same (auto, without); global: one threshold on weights; "
            "erk, lamp: by shape, by weights."
        ),
    ] = "auto"
    granularity: Annotated[
        str,
        AfterValidator(_checked_pattern),
        Field(description="element; block:SIZE (runs of input channels); N:M (2:4: TensorRT's sparse kernels)."),
    ] = "element"
    refit: Annotated[bool, Field(description="Fit the weights that stay, and biases; needs calibration data.")] = True
    samples: Annotated[int, Field(ge=1, description="Calibration samples to use, spread over all.")] = 128
    damping: Annotated[
        float | None,
        Field(
            gt=0,
            description="How strongly the fit holds on to the original weights, in mean squares of the layer's input. "
            "By default what does best on held-out samples, for each layer.",
        ),
    ] = None
    layers: Annotated[
        dict[str, Share],
        Field(default_factory=dict, description="Shares of single layers, by globs on names of nodes or weights."),
    ]
    include: Annotated[
        tuple[str, ...], Field(description="Globs on names of nodes or weights: only these. Empty: all.")
    ] = ()
    exclude: Annotated[tuple[str, ...], Field(description="Globs on names of nodes or weights to leave alone.")] = ()

    @model_validator(mode="after")
    def _one_budget(self) -> Prune:
        if self.parameters is not None and self.bytes is not None:
            raise ValueError("parameters and bytes are two budgets: give one")
        return self

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Replace weights and biases; ``changed`` counts the weight tensors that are not what they were.

        Raises:
            UsageError: A glob matches nothing, or the criterion needs calibration data and there is none.
        """
        with all_states(model):
            return self._pruned(model, ctx)

    def _pruned(self, model: ir.Model, ctx: PassContext) -> PassResult:
        found, refused = find_weights(model)
        weights, left_out = select_weights(model, found, self.include, self.exclude)
        overrides = match_overrides(weights, self.layers)
        share = self._share(model, weights)
        run = self._pruner(model, weights, overrides, ctx)
        changed, skipped, details = self._within_limits(model, run, share, ctx) if self._limits().any else run(share)
        zeros = {"code": "zeros-are-not-speed", "message": NO_GAIN}
        kernels = kernel_notice(weights, self._pattern())
        details["notices"] = [*details.get("notices", ()), *([] if kernels is None else [kernels]), zeros]
        return PassResult(model, changed, (*refused, *left_out, *skipped), details if changed else {})

    def _pruner(
        self, model: ir.Model, weights: list[Weight], overrides: dict[int, float], ctx: PassContext
    ) -> Callable[[float], Outcome]:
        """What prunes the untouched model to a share."""
        if ctx.calibration is not None:
            data = teachers(ctx.calibration, self._limits())
            return DataPruner(model, weights, overrides, self._settings(), data, ctx).run
        self._check_without_data(ctx)
        return lambda share: prune_by_weights(
            weights,
            share,
            pattern=self._pattern(),
            distribution="uniform" if self.distribution == "auto" else self.distribution,
            random=ctx.rng if self.criterion == "random" else None,
            overrides=overrides,
        )

    def _within_limits(
        self, model: ir.Model, run: Callable[[float], Outcome], share: float, ctx: PassContext
    ) -> Outcome:
        """As many zeros as the limits allow, up to the share; the model is left as it is then."""
        judge = LimitJudge(self._limits(), model, ctx, self.name)
        untouched = Snapshot(model)

        def attempt(sparsity: float) -> tuple[Snapshot, Outcome] | None:
            untouched.restore()
            outcome = run(sparsity)
            return (Snapshot(model), outcome) if judge.holds(model) else None

        best = most_that_holds(attempt, share)
        if best is None:
            untouched.restore()
            return 0, [Skip(self.name, "no share of zeros keeps the limits")], {}
        reached, (state, (changed, skipped, details)) = best
        state.restore()
        return changed, skipped, {**details, "share_tried": share, "share_that_holds": reached}

    def _share(self, model: ir.Model, weights: list[Weight]) -> float:
        """The share of zeros that the budget comes to."""
        if self.parameters is not None:
            return share_for_parameters(weights, self.parameters)
        if self.bytes is not None:
            return share_for_bytes(model, weights, self.bytes, self.packed)
        only_limits = self._limits().any and "sparsity" not in self.model_fields_set
        return MOST_TRIED if only_limits else self.sparsity

    def _limits(self) -> Limits:
        return Limits(self.max_accuracy_drop, self.min_agreement, self.min_sqnr)

    def _pattern(self) -> Pattern:
        return replace(Pattern.parse(self.granularity), norm=1 if self.criterion == "l1" else 2)

    def _settings(self) -> DataPruning:
        return DataPruning(
            criterion="second-order" if self.criterion == "auto" else self.criterion,
            distribution="sensitivity" if self.distribution == "auto" else self.distribution,
            pattern=self._pattern(),
            refit=self.refit,
            samples=self.samples,
            damping=self.damping,
        )

    def _check_without_data(self, ctx: PassContext) -> None:
        if self.criterion in ("second-order", "activation"):
            ctx.need_calibration(f"prune, criterion {self.criterion}")
        if self.distribution == "sensitivity":
            ctx.need_calibration("prune, distribution sensitivity")
