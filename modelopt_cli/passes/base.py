"""What a pass is: its options, and one method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import BaseModel, ConfigDict

from modelopt_cli.cache import Cache
from modelopt_cli.calibration.memory import WorkingMemory
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.errors import UsageError
from modelopt_cli.progress import Progress, Silent
from modelopt_cli.targets.target import Target

Need = Literal["calibration", "labels"]


@dataclass(frozen=True)
class Skip:
    """Something a pass could have changed and did not, with the reason a person can read."""

    node: str
    reason: str


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Attributes:
        model: The edited model (normally the object that came in).
        changed: How many edits were made; 0 exactly when the serialized bytes are the same.
        skipped: Refusals, with reasons.
        details: Facts for the report and the plan, JSON types only.
    """

    model: ir.Model
    changed: int
    skipped: tuple[Skip, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PassContext:
    """What the runner lends to a pass.

    Attributes:
        target: Provider and instruction set the result is meant for.
        seed: Seed of the run mixed with the step's index; use `rng`.
        calibration: Unlabelled samples, or None when the user gave none; use `need_calibration` in passes that
            cannot do without.
        sample: One batch of inputs that the source runs on, the user's where there is data; None when nobody tried.
        accuracy_drop: What a candidate loses against the source on the labelled samples, as a fraction; None where
            nobody asked for a limit.
        cache: Where statistics of the calibration data are kept between runs; None keeps nothing.
        memory: What calibration may hold.
        explain_s: Seconds that a pass may spend on what nothing but a page shows: the error of each part of its work.
        progress: Where long work says how far it is.
    """

    target: Target
    seed: int = 0
    calibration: Dataset | None = None
    sample: Sample | None = None
    accuracy_drop: Callable[[ir.Model], float] | None = None
    cache: Cache | None = None
    memory: WorkingMemory = field(default_factory=WorkingMemory)
    explain_s: float = 0.0
    progress: Progress = field(default_factory=Silent)

    @property
    def rng(self) -> np.random.Generator:
        """A new generator of the step's seed: the same draws each time it is asked for."""
        return np.random.default_rng(self.seed)

    def need_calibration(self, name: str) -> Dataset:
        """The calibration data, or a refusal that says how to give it.

        Raises:
            UsageError: None was given.
        """
        if self.calibration is None:
            raise UsageError(
                "needs calibration data", where=name, hint="--calib FILE, or data.calibration.path in the recipe"
            )
        return self.calibration


class Pass(BaseModel):
    """One step of a recipe: a frozen set of options with `apply`.

    The first line of a subclass's docstring is what ``modelopt passes`` prints.

    Class attributes:
        name: The word of recipes and reports, verb first: ``prune-magnitude``.
        family: Which of ``fuse``, ``prune``, ``quantize`` commands runs it.
        effect: ``exact`` keeps outputs within rounding, and is checked for that; ``lossy`` may not.
        needs: What the runner must have before it starts.
        min_opset: The runner raises the model to at least this opset before the pass.
        changes_io: Whether dynamic dimensions of inputs and outputs may come out fixed (see `input_shapes`) or named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    family: ClassVar[Literal["fuse", "prune", "quantize"]]
    effect: ClassVar[Literal["exact", "lossy"]]
    needs: ClassVar[frozenset[Need]] = frozenset()
    min_opset: ClassVar[int] = 0
    changes_io: ClassVar[bool] = False

    @abstractmethod
    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Edit ``model`` and say what was done. The runner owns the clone; the source is never seen here."""

    def without(self, parts: Collection[str]) -> Pass | None:
        """This pass with some of the rules that its result names in ``details["rules"]`` switched off.

        The runner asks for it when an exact pass breaks the outputs; None when a pass is all of one piece.
        """
        return None

    def input_shapes(self) -> Mapping[str, Sequence[int]]:
        """Shapes that inputs are fixed to, by name; only of passes that declare ``changes_io``."""
        return {}

    def changes_types(self) -> bool:
        """Whether float32 inputs and outputs may come out in half of the bits."""
        return False

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


PassFactory = Callable[..., Pass]
