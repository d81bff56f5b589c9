"""What a run is given besides the model and the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelopt_cli.cache import Cache
from modelopt_cli.data.files import FileDataset
from modelopt_cli.pipeline.plan import RunPlan
from modelopt_cli.progress import Progress, Silent


@dataclass(frozen=True)
class CompressOptions:
    """Data, measuring and behaviour of one `compress` run.

    Attributes:
        calibration: Unlabelled samples for passes and for agreement; None leaves only what can be done without.
        evaluation: Held-out samples; with labels they give accuracy, without agreement.
        metric: Name of the metric for labelled data; None takes the recipe's, then ``top1``.
        providers: Where latency is measured; empty takes the recipe's, then the target's.
        threads: Intra-op threads of every session; None takes the recipe's, then 1.
        batch: Batch size of the latency measurement; None takes the recipe's first, then 1.
        shapes: Input name -> shape, for dynamic dimensions that no data decides.
        budget_s: Seconds spent on measuring latency, per provider; None takes the recipe's.
        allow_random_calibration: Draw calibration data at random when none is given; stamped in the report.
        max_memory: Bytes that the process may take, its largest arrays being sized by that; None for as little as does
            not cost time. Less means more passes over the data, more lets more cores work.
        profile: Measure latency at all.
        inside: Also look inside of the models, for the report: every layer's error and zeros, the time of every kernel.
        explain_s: Seconds that each pass may spend on measuring what the parts of its work cost alone, for the report.
        plan: Decisions to replay instead of measuring.
        cache: Where what a later run can use is kept; None keeps nothing.
        locked: Refuse where anything differs from what ``plan`` was made with, the result included.
        progress: Where long work says how far it is.
    """

    calibration: FileDataset | None = None
    evaluation: FileDataset | None = None
    metric: str | None = None
    providers: Sequence[str] = ()
    threads: int | None = None
    batch: int | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    budget_s: float | None = None
    allow_random_calibration: bool = False
    max_memory: int | None = None
    profile: bool = True
    inside: bool = False
    explain_s: float = 0.0
    plan: RunPlan | None = None
    locked: bool = False
    cache: Cache | None = None
    progress: Progress = field(default_factory=Silent)
