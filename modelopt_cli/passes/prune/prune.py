"""`prune`: weights become zero, by the best rule that the data at hand allows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import AfterValidator, Field

from modelopt_cli.errors import UsageError
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.prune.by_data import prune_by_data
from modelopt_cli.passes.prune.by_weights import prune_by_weights
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.settings import Criterion, DataPruning, Distribution
from modelopt_cli.passes.prune.weights import Weight, find_weights, match_overrides, select_weights

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]

NO_GAIN = (
    "zeros alone make neither the file smaller nor the model faster: no runtime on CPU skips them, and a stored zero "
    "takes as many bytes as any other weight; the file shrinks once it is compressed, or by pack-sparse"
)


def _pattern(text: str) -> str:
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
        float, Field(gt=0, lt=1, allow_inf_nan=False, description="Share of all prunable weights set to zero.")
    ] = 0.5
    parameters: Annotated[
        int | None, Field(gt=0, description="Instead of a share: prunable weights that are not zero afterwards.")
    ] = None
    criterion: Annotated[
        Criterion | Literal["auto"],
        Field(
            description="Which weights go. auto: second-order with calibration data, magnitude without. activation: "
            "smallest |w| times norm of its input (Wanda). random: a control."
        ),
    ] = "auto"
    distribution: Annotated[
        Distribution | Literal["auto"],
        Field(
            description="How the share is spread over layers. sensitivity: where it costs least, by the layers' "
            "measured errors (auto, with data); uniform: the same (auto, without); erk, lamp: by shape, by weights."
        ),
    ] = "auto"
    granularity: Annotated[
        str,
        AfterValidator(_pattern),
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
        dict[str, Share], Field(description="Shares of single layers, by globs on names of nodes or weights.")
    ] = {}  # noqa: RUF012  pydantic copies defaults
    include: Annotated[
        tuple[str, ...], Field(description="Globs on names of nodes or weights: only these. Empty: all.")
    ] = ()
    exclude: Annotated[tuple[str, ...], Field(description="Globs on names of nodes or weights to leave alone.")] = ()

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Replace weights and biases; ``changed`` counts the weight tensors that are not what they were.

        Raises:
            UsageError: A glob matches nothing, or the criterion needs calibration data and there is none.
        """
        found, refused = find_weights(model)
        weights, left_out = select_weights(model, found, self.include, self.exclude)
        overrides = match_overrides(weights, self.layers)
        sparsity = self._sparsity(weights)
        if ctx.calibration is None:
            self._check_without_data(ctx)
            changed, skipped, details = prune_by_weights(
                weights,
                sparsity,
                pattern=Pattern.parse(self.granularity),
                distribution="uniform" if self.distribution == "auto" else self.distribution,
                random=ctx.rng if self.criterion == "random" else None,
                overrides=overrides,
            )
        else:
            changed, skipped, details = prune_by_data(model, weights, sparsity, overrides, self._settings(), ctx)
        details["notices"] = [{"code": "zeros-are-not-speed", "message": NO_GAIN}]
        return PassResult(model, changed, (*refused, *left_out, *skipped), details if changed else {})

    def _sparsity(self, weights: list[Weight]) -> float:
        total = sum(weight.array().size for weight in weights)
        if self.parameters is None or not total:
            return self.sparsity
        if self.parameters >= total:
            raise UsageError(f"parameters: {self.parameters} is not below the {total} prunable weights", where="prune")
        return 1 - self.parameters / total

    def _settings(self) -> DataPruning:
        return DataPruning(
            criterion="second-order" if self.criterion == "auto" else self.criterion,
            distribution="sensitivity" if self.distribution == "auto" else self.distribution,
            pattern=Pattern.parse(self.granularity),
            refit=self.refit,
            samples=self.samples,
            damping=self.damping,
        )

    def _check_without_data(self, ctx: PassContext) -> None:
        if self.criterion in ("second-order", "activation"):
            ctx.need_calibration(f"prune, criterion {self.criterion}")
        if self.distribution == "sensitivity":
            ctx.need_calibration("prune, distribution sensitivity")
