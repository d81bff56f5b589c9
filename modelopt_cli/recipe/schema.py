"""What a recipe may say: frozen models, unknown fields forbidden. `load_recipe` gives mistakes their positions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PrivateAttr

from modelopt_cli.data.files import is_function
from modelopt_cli.data.images import Preprocessing
from modelopt_cli.errors import UsageError
from modelopt_cli.passes.base import Pass
from modelopt_cli.recipe.expand import escape_variables
from modelopt_cli.recipe.steps import build_pass
from modelopt_cli.targets.target import Dialect, Isa, Provider

Family = Literal["fuse", "prune", "quantize"]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Ratio = Annotated[FiniteFloat, Field(gt=0)]


class Section(BaseModel):
    """A mapping of the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetSpec(Section):
    """What the result is meant for, as written; `Recipe.dialect` and the machine decide what is left open."""

    provider: Provider = "cpu"
    isa: Literal["auto", Isa] = "auto"
    dialect: Dialect | None = None
    max_opset: Annotated[int, Field(ge=7)] | None = None


class CalibrationSpec(Section):
    """Unlabelled samples: ``path`` is relative to the recipe file; ``samples`` are taken, evenly spread."""

    path: Annotated[str, Field(min_length=1)] | None = None
    samples: Annotated[int, Field(ge=1)] = 256


class EvaluationSpec(Section):
    """Held-out samples and the metric for their labels; ``path`` is relative to the recipe file."""

    path: Annotated[str, Field(min_length=1)] | None = None
    metric: Annotated[str, Field(min_length=1)] | None = None


class DataSpec(Section):
    """Where samples come from when the command line does not say, and how pictures are prepared."""

    calibration: CalibrationSpec = CalibrationSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    images: Preprocessing | None = None


class Step(Section):
    """One pass and its options; the pass's own class says which there are.

    Attributes:
        name: Name of the pass; ``pass`` in the file.
        options: Options as written, JSON types; ``with`` in the file.
    """

    name: Annotated[str, Field(alias="pass", min_length=1)]
    options: Annotated[dict[str, Any], Field(alias="with")] = {}


class ProfileSpec(Section):
    """How latency is measured.

    Attributes:
        providers: Execution providers; empty: the target's.
        batch: Batch sizes.
        threads: Intra-op threads of a session.
        seconds: Time spent per provider and batch size.
    """

    providers: tuple[Provider, ...] = ()
    batch: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1,)
    threads: Annotated[int, Field(ge=1)] = 1
    seconds: Ratio = 4.0


class Require(Section):
    """Budgets: a missed one is exit code 1. Shares are fractions.

    Attributes:
        max_accuracy_drop: Original's metric minus the result's; 0.01 is one point. Needs labels.
        min_agreement: Share of samples with the same answer as the original.
        min_sqnr: Signal to quantization noise of each output, dB.
        min_speedup: Original's latency over the result's.
        max_size_ratio: Result's file bytes over the original's.
        max_latency_ratio: Result's latency over the original's.
    """

    max_accuracy_drop: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None
    min_agreement: Share | None = None
    min_sqnr: FiniteFloat | None = None
    min_speedup: Ratio | None = None
    max_size_ratio: Ratio | None = None
    max_latency_ratio: Ratio | None = None


class Recipe(Section):
    """Everything that decides what is done to a model."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    target: TargetSpec = TargetSpec()
    data: DataSpec = DataSpec()
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    profile: ProfileSpec = ProfileSpec()
    require: Require = Require()

    _folder: Path = PrivateAttr(default=Path())

    def passes(self) -> list[Pass]:
        """The steps as pass instances, in order.

        Raises:
            RecipeError: A pass or an option does not exist (only for recipes that were not read by `load_recipe`).
        """
        return [build_pass(index, step.name, step.options) for index, step in enumerate(self.steps)]

    def family(self, family: Family) -> Recipe:
        """This recipe with only the steps that ``modelopt <family>`` runs.

        Raises:
            UsageError: There is none.
        """
        kept = tuple(step for step, run in zip(self.steps, self.passes(), strict=True) if run.family == family)
        if not kept:
            names = ", ".join(step.name for step in self.steps)
            raise UsageError(f"has no {family} step (it has: {names})", where=f"recipe {self.name}")
        return self.model_copy(update={"steps": kept})

    def with_option(self, name: str, value: object) -> Recipe:
        """This recipe with an option set in every step whose pass has it; itself where none has.

        Raises:
            RecipeError: The value is out of the option's range.
        """
        steps = tuple(
            step.model_copy(update={"options": {**step.options, name: value}})
            if name in type(run).model_fields
            else step
            for step, run in zip(self.steps, self.passes(), strict=True)
        )
        changed = self if steps == self.steps else self.model_copy(update={"steps": steps})
        changed.passes()
        return changed

    @property
    def dialect(self) -> Dialect:
        """The one written; or onnxruntime's for a recipe that quantizes for its CPU, and standard ONNX otherwise."""
        if self.target.dialect is not None:
            return self.target.dialect
        quantizes = any(run.family == "quantize" for run in self.passes())
        return "onnxruntime" if quantizes and self.target.provider == "cpu" else "onnx"

    @property
    def calibration_path(self) -> Path | None:
        """Where the calibration data is, seen from the working directory."""
        return self._seen_from_here(self.data.calibration.path)

    @property
    def evaluation_path(self) -> Path | None:
        """Where the evaluation data is, seen from the working directory."""
        return self._seen_from_here(self.data.evaluation.path)

    def _seen_from_here(self, path: str | None) -> Path | None:
        if path is None or is_function(path):
            return None if path is None else Path(path)
        return self._folder / path

    def written(self) -> dict[str, Any]:
        """JSON types, as a recipe file says it: sections of defaults only are left out."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"version": self.version, **escape_variables(dumped)}

    def resolved(self) -> dict[str, Any]:
        """JSON types with every default filled in, those of the passes too: what the report stores."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        dumped["target"]["dialect"] = self.dialect
        dumped["steps"] = [{"pass": run.name, "with": run.model_dump(mode="json")} for run in self.passes()]
        resolved: dict[str, Any] = escape_variables(dumped)
        return resolved
