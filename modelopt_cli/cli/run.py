"""One run of a recipe: everything checked first, then the work, then model, report and depfile."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.cli.console import print_error, print_json, print_payload, progress_sink
from modelopt_cli.cli.files import PIPE, preprocessing, read_model, refuse_two_pipes
from modelopt_cli.cli.jobs import Job, plan_jobs
from modelopt_cli.cli.options import RunFlags, check_providers, parse_shapes
from modelopt_cli.errors import GateError, ModelError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelopt_cli.data.files import FileDataset
    from modelopt_cli.graph.io import SourceModel
    from modelopt_cli.pipeline.options import CompressOptions
    from modelopt_cli.pipeline.runner import CompressResult
    from modelopt_cli.recipe.schema import Recipe
    from modelopt_cli.report.model import RunReport


def read_recipe(name: str, flags: RunFlags) -> Recipe:
    """The recipe called ``name`` with what the flags override.

    Raises:
        RecipeError: All of its mistakes.
    """
    from modelopt_cli.recipe.load import load_recipe

    return _searching(load_recipe(name, overrides=[*(flags.overrides or ()), *_overrides(flags)]), flags)


def recipe_of_flags(settings: Mapping[str, Any], flags: RunFlags) -> Recipe:
    """The recipe that the flags of ``fuse``, ``prune`` and ``quantize`` spell.

    Raises:
        RecipeError: An option is out of its range, in the recipe's words.
    """
    from modelopt_cli.recipe.load import parse_recipe

    text = json.dumps({"version": 1, **settings})  # JSON is YAML
    return _searching(parse_recipe(text, "flags", overrides=[*(flags.overrides or ()), *_overrides(flags)]), flags)


def run_recipe(
    models: Sequence[str],
    recipe: Recipe,
    recipe_name: str | None,
    flags: RunFlags,
    more: Callable[[RunReport], Iterable[RenderableType]] | None = None,
) -> None:
    """Run, write, print; a missed requirement is the last thing that is said.

    Args:
        models: As the user named them; of several, each is run whatever becomes of the others.
        recipe: With all overrides applied.
        recipe_name: As the user named it, for the depfile; None for a recipe that flags spell.
        flags: What all of these commands have in common.
        more: What to print after the report.

    Raises:
        GateError: A requirement of the recipe was missed; the model is written all the same, but for
            ``--strict-output``.
    """
    refuse_two_pipes(*models, flags.calibration, flags.evaluation)
    _check_flags(models, flags)
    jobs = plan_jobs(models, recipe.name, flags)
    options = _options(recipe, flags)
    if len(jobs) > 1:
        from modelopt_cli.cli.batch import run_many

        run_many(jobs, lambda job: _execute(job, recipe, recipe_name, options), more)
        return
    report = _execute(jobs[0], recipe, recipe_name, options)
    if report is not None:
        _tell(report, jobs[0], more)


def _check_flags(models: Sequence[str], flags: RunFlags) -> None:
    """Refuse what cannot work before anything is read."""
    if flags.as_json and (flags.output == PIPE or (flags.output is None and PIPE in models)):
        raise UsageError("stdout cannot hold both the model and the report", where="--json", hint="give -o FILE")
    if flags.reports:
        from modelopt_cli.report.write import check_report_path

        for path in flags.reports:
            check_report_path(path)
    if flags.if_changed and (flags.output == PIPE or PIPE in models):
        raise UsageError("what goes through a pipe is always made", where="--if-changed", hint="give MODEL and -o FILE")
    if flags.locked and flags.plan is None:
        raise UsageError("there is no plan to be locked to", where="--locked", hint="give --plan FILE")


def _execute(job: Job, recipe: Recipe, recipe_name: str | None, options: CompressOptions) -> RunReport | None:
    """One model, from reading it to writing all files; None for a dry run, whose plan is printed."""
    flags, output = job.flags, job.output
    if flags.plan is not None:
        from modelopt_cli.pipeline.plan import read_plan

        options = replace(options, plan=read_plan(flags.plan))
    source = read_model(job.model)
    if output is not None and output.parent.is_dir():  # a dry run makes no folder
        from modelopt_cli.graph.io import check_room

        check_room(output, source.file_bytes)
    if flags.dry_run:
        _print_plan(source, output, recipe, options, flags)
        return None
    inputs = _inputs(source, options, recipe_name)
    if flags.if_changed and output is not None:
        report = _current(job, output, source, recipe, options, inputs)
    else:
        report = _make(job, source, recipe, options, inputs)
    if flags.plan_out is not None:
        from modelopt_cli.pipeline.plan import plan_of, write_plan

        write_plan(plan_of(report), flags.plan_out)
    return report


def _make(job: Job, source: SourceModel, recipe: Recipe, options: CompressOptions, inputs: list[Path]) -> RunReport:
    """Run the recipe, and write the model with what describes it."""
    from modelopt_cli.pipeline.runner import compress
    from modelopt_cli.report.write import write_report

    flags, output = job.flags, job.output
    result = compress(source, recipe, options)
    wanted = is_wanted(result.report, flags)
    report = _write(result, output, flags, inputs) if wanted else result.report
    if not wanted or output is None:
        for path in flags.reports or ():
            write_report(report, path)
    return report


def _current(
    job: Job, output: Path, source: SourceModel, recipe: Recipe, options: CompressOptions, inputs: list[Path]
) -> RunReport:
    """The run that made ``output`` when nothing of it has changed since; else a new one."""
    from modelopt_cli.cache import open_cache
    from modelopt_cli.pipeline.current import find_current, remember, run_key
    from modelopt_cli.pipeline.write import write_descriptions

    flags, cache = job.flags, open_cache()
    key = run_key(source, recipe, options)
    report = find_current(key, output, cache)
    if report is None:
        report = _make(job, source, recipe, options, inputs)
        remember(key, report, cache)
        return report
    options.progress.note(f"{output} is up to date")
    report = replace(report, model=source.label, output=str(output))
    write_descriptions(report, output, reports=flags.reports or (), depfile=flags.depfile, depends_on=inputs)
    return report


def is_wanted(report: RunReport, flags: RunFlags) -> bool:
    """Whether the model is written: with ``--strict-output`` only when every requirement is met."""
    return report.gates_met or not flags.strict_output


def _tell(report: RunReport, job: Job, more: Callable[[RunReport], Iterable[RenderableType]] | None) -> None:
    flags, written = job.flags, is_wanted(report, job.flags)
    to_stderr = written and job.output is None
    _print_report(report, flags, to_stderr=to_stderr)
    if flags.annotations == "github":
        annotate(report)
    if more is not None:
        print_payload(*more(report), to_stderr=to_stderr)
    if not report.gates_met:
        raise gate_error(report, job.output, written=written)


def _options(recipe: Recipe, flags: RunFlags) -> CompressOptions:
    from modelopt_cli.cache import open_cache, parse_size
    from modelopt_cli.evaluation.metrics import find_metric
    from modelopt_cli.pipeline.options import CompressOptions
    from modelopt_cli.report.write import DETAILED, PAGE_S

    metric = flags.metric or recipe.data.evaluation.metric
    if metric is not None:
        find_metric(metric)
    return CompressOptions(
        calibration=_dataset(flags.calibration, recipe.calibration_path, recipe, flags),
        evaluation=_dataset(flags.evaluation, recipe.evaluation_path, recipe, flags),
        metric=metric,
        providers=check_providers(flags.providers),
        threads=flags.threads,
        batch=flags.batch,
        shapes=parse_shapes(flags.shapes),
        allow_random_calibration=flags.allow_random,
        inside=any(path.suffix.lower() in DETAILED for path in flags.reports or ()),
        explain_s=PAGE_S if any(path.suffix.lower() == ".html" for path in flags.reports or ()) else 0.0,
        max_memory=None if flags.max_memory is None else parse_size(flags.max_memory, "--max-memory"),
        locked=flags.locked,
        cache=open_cache(),
        progress=progress_sink(flags.quiet),
    )


def _write(result: CompressResult, output: Path | None, flags: RunFlags, inputs: list[Path]) -> RunReport:
    from modelopt_cli.pipeline.write import write_result

    if output is not None:
        return write_result(result, output, reports=flags.reports or (), depfile=flags.depfile, depends_on=inputs)
    if result.file is None:
        raise ModelError("the result is too large for a pipe", where=PIPE, hint="give -o FILE")
    result.file.copy_to(sys.stdout.buffer)
    sys.stdout.flush()
    return result.report


def _inputs(source: SourceModel, options: CompressOptions, recipe: str | None) -> list[Path]:
    """Every file of the user's that the result was made from, for the depfile."""
    from modelopt_cli.graph.io import external_tensors

    model = [] if source.path is None else [source.path, *(Path(each.path) for each in external_tensors(source.model))]
    recipes = [] if recipe is None else [path for path in [Path(recipe)] if path.is_file()]
    datasets = [data for data in (options.calibration, options.evaluation) if data is not None]
    data = [path for each in datasets for path in each.paths]
    return list(dict.fromkeys([*model, *recipes, *data]))


def _dataset(flag: str | None, of_recipe: Path | None, recipe: Recipe, flags: RunFlags) -> FileDataset | None:
    from modelopt_cli.data.files import open_dataset

    path = flag if flag is not None else of_recipe
    if path is None:
        return None
    return open_dataset(path, images=preprocessing(flags.images) or recipe.data.images, allow_code=flags.allow_code)


def _overrides(flags: RunFlags) -> list[str]:
    """Flags that are settings of the recipe: they hold over ``--set``, and the report shows them."""
    from modelopt_cli.profiling.providers import PROVIDERS, parse_provider

    words = [parse_provider(name).word for name in check_providers(flags.providers)[:1]]
    seed = [] if flags.seed is None else [f"seed={flags.seed}"]
    return [*seed, *(f"target.provider={word}" for word in words if word in PROVIDERS)]


def _searching(recipe: Recipe, flags: RunFlags) -> Recipe:
    """The recipe with ``--budget`` in every step that searches.

    Raises:
        UsageError: None does.
    """
    if flags.budget is None:
        return recipe
    changed = recipe.with_option("budget", flags.budget)
    if changed is recipe:
        raise UsageError(f"no step of recipe {recipe.name} searches", where="--budget", hint="leave it out")
    return changed


def _print_plan(
    source: SourceModel, output: Path | None, recipe: Recipe, options: CompressOptions, flags: RunFlags
) -> None:
    """What a run would do and take; all that can be checked without doing it is checked."""
    from modelopt_cli.pipeline.preflight import check_memory, estimate
    from modelopt_cli.pipeline.prepare import prepare

    expected = estimate(prepare(source, recipe, options), source, recipe, options)
    check_memory(expected, source)
    plan = {
        "model": source.label,
        "output": PIPE if output is None else str(output),
        "recipe": recipe.resolved(),
        "calibration": None if options.calibration is None else options.calibration.source,
        "evaluation": None if options.evaluation is None else options.evaluation.source,
        "takes": {name: value for name, value in asdict(expected).items() if name != "working"},
    }
    if flags.as_json:
        print_json(plan)
        return
    from modelopt_cli.cli.render import plan_lines

    print_payload(*plan_lines(plan))


def _print_report(report: RunReport, flags: RunFlags, *, to_stderr: bool) -> None:
    """The report on stdout; on stderr when stdout carries the model, and then not with ``--quiet``."""
    if flags.as_json:
        from modelopt_cli.report.serialize import to_json

        sys.stdout.write(to_json(report))
    elif not (to_stderr and flags.quiet):
        from modelopt_cli.cli.render import report_lines

        print_payload(*report_lines(report), to_stderr=to_stderr)


def annotate(report: RunReport) -> None:
    from modelopt_cli.report.annotations import github_annotations

    print_error(github_annotations(report))


def gate_error(report: RunReport, output: Path | None, *, written: bool) -> GateError:
    from modelopt_cli.report.verdict import gate_text

    missed = "; ".join(gate_text(gate) for gate in report.gates if not gate.met)
    where = "stdout" if output is None else str(output)
    hint = f"{where} is written all the same; --strict-output writes none" if written else "no model is written"
    return GateError(f"missed {missed}", where="require", hint=hint)
