"""Everything that is checked and settled before the long part of a run: data, needs, providers, inputs to feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.data.signature import signature
from modelopt_cli.data.synthetic import RandomDataset
from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.passes.base import Pass
from modelopt_cli.pipeline.aim import aim
from modelopt_cli.pipeline.gates import check_measurable
from modelopt_cli.pipeline.lock import check_inputs
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.plan import recipe_digest, replay, target_of
from modelopt_cli.pipeline.provenance import environment
from modelopt_cli.profiling.feeds import Feeds
from modelopt_cli.profiling.providers import PROVIDERS, parse_provider
from modelopt_cli.profiling.session import open_session
from modelopt_cli.profiling.tensorrt_options import check_profiles
from modelopt_cli.profiling.trial import runnable_feeds
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.targets.target import Target, resolve_target

RANDOM_SAMPLES = 32
SAMPLES_TO_SIZE = 15  # whose median size is taken as typical


@dataclass(frozen=True)
class RunData:
    """The bound data of a run; ``random`` when the calibration data was drawn."""

    calibration: Dataset | None
    evaluation: Dataset | None
    random: bool

    @property
    def judged(self) -> Dataset | None:
        """What fidelity is measured on: held-out data when given, else the calibration data."""
        return self.evaluation if self.evaluation is not None else self.calibration

    def first(self) -> Sample | None:
        """A sample of typical size, for latency and checks: the median of some, since ragged data may open with any."""
        data = self.calibration if self.calibration is not None else self.evaluation
        if data is None:
            return None
        looked_at = [dict(sample) for sample in data.take(SAMPLES_TO_SIZE)]
        by_size = sorted(looked_at, key=lambda sample: sum(array.size for array in sample.values()))
        return by_size[len(by_size) // 2]


@dataclass(frozen=True)
class Prepared:
    """A run that may begin.

    Attributes:
        target: What the result is for, resolved.
        passes: The steps, with the requirements they work towards and the plan they replay.
        data: Bound to the model.
        hashes: sha256 of model, recipe and data.
        providers: Where latency is measured; each has opened the source.
        feeds: One batch of inputs that the source runs on.
    """

    target: Target
    passes: Sequence[Pass]
    data: RunData
    hashes: Mapping[str, str]
    providers: tuple[str, ...]
    feeds: Feeds

    @property
    def measures_target(self) -> bool:
        """Whether the target's own provider is among those that are measured."""
        return self.target.provider in {_word(provider) for provider in self.providers}


def prepare(source: SourceModel, recipe: Recipe, options: CompressOptions) -> Prepared:
    """Check all that can be checked without doing the work; arguments and errors as of `compress`."""
    target = resolve_target(recipe.target.provider, recipe.target.isa, recipe.dialect, recipe.target.max_opset)
    calibrated = options.calibration is not None or options.allow_random_calibration
    passes = aim(recipe.passes(), recipe.require, calibrated=calibrated)
    if options.plan is not None:
        target, passes = target_of(options.plan, recipe.target.max_opset), replay(options.plan, passes)
    data = _bind_data(source, recipe, options)
    hashes = _hashes(source, recipe, data)
    if options.plan is not None and options.locked:
        check_inputs(options.plan, hashes, environment(target))
    _check_needs(passes, data)
    check_measurable(
        recipe.require,
        labels=data.evaluation is not None and data.evaluation.labels is not None,
        data=data.evaluation is not None or data.calibration is not None,
        profile=options.profile,
    )
    providers = tuple(options.providers) or tuple(recipe.profile.providers) or (target.provider,)
    for provider in providers:
        check_profiles(parse_provider(provider).options, source.model)
        open_session(source.path or source.model, provider=provider, optimize="off", arena=False)

    feeds = runnable_feeds(
        source.path or source.model,
        source.model,
        data.first(),
        batch=_batch(recipe, options),
        shapes=_shapes(passes, options),
        provider=providers[0],
    )
    return Prepared(target, passes, data, hashes, providers, feeds)


def _word(provider: str) -> str:
    """Our word for a provider, also where the runtime's own name was given."""
    spec = parse_provider(provider)
    return next((word for word, names in PROVIDERS.items() if spec.names[:1] == names[:1]), spec.word)


def _shapes(passes: Sequence[Pass], options: CompressOptions) -> dict[str, Sequence[int]]:
    """Shapes asked for, and those that passes fix."""
    shapes: dict[str, Sequence[int]] = dict(options.shapes)
    for name, shape in (pinned for step in passes for pinned in step.input_shapes().items()):
        if list(shapes.setdefault(name, shape)) != list(shape):
            raise UsageError(f"input '{name}' is pinned to another shape", where="--shape", hint="leave it out")
    return shapes


def _batch(recipe: Recipe, options: CompressOptions) -> int:
    return options.batch or recipe.profile.batch[0]


def metric_of(recipe: Recipe, options: CompressOptions, data: RunData) -> str | None:
    """The metric asked for; top-1 for labelled data when none was; nothing without held-out data."""
    if data.evaluation is None:
        return None
    asked = options.metric or recipe.data.evaluation.metric
    return asked or ("top1" if data.evaluation.labels is not None else None)


def _bind_data(source: SourceModel, recipe: Recipe, options: CompressOptions) -> RunData:
    calibration = bind(options.calibration, source.model) if options.calibration is not None else None
    evaluation = bind(options.evaluation, source.model) if options.evaluation is not None else None
    if calibration is None and options.allow_random_calibration:
        drawn = RandomDataset(signature(source.model), RANDOM_SAMPLES, recipe.seed, options.shapes)
        return RunData(drawn, evaluation, random=True)
    if calibration is not None:
        calibration = calibration.take(recipe.data.calibration.samples)
    return RunData(calibration, evaluation, random=False)


def _check_needs(passes: Sequence[Pass], data: RunData) -> None:
    for step in passes:
        if "calibration" in step.needs and data.calibration is None:
            hint = "--calib FILE, data.calibration.path in the recipe, or --allow-random-calibration"
            raise UsageError("needs calibration data", where=step.name, hint=hint)
        if "labels" in step.needs and (data.evaluation is None or data.evaluation.labels is None):
            raise UsageError("needs labelled evaluation data", where=step.name, hint="--eval FILE with labels")


def _hashes(source: SourceModel, recipe: Recipe, data: RunData) -> dict[str, str]:
    hashes = {"model": source.sha256, "recipe": recipe_digest(recipe)}
    if data.calibration is not None:
        hashes["calibration"] = data.calibration.digest()
    if data.evaluation is not None:
        hashes["evaluation"] = data.evaluation.digest()
    return hashes
