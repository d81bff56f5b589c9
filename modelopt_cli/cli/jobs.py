"""One or many models on one command line: which files each of them is read from and written to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelopt_cli.cli.files import PIPE, check_outputs, output_path, require_file
from modelopt_cli.cli.options import RunFlags
from modelopt_cli.errors import UsageError

STEM = "{stem}"


@dataclass(frozen=True)
class Job:
    """One model, where its result goes (None: stdout), and the flags with its own file names in them."""

    model: str
    output: Path | None
    flags: RunFlags


def plan_jobs(models: Sequence[str], recipe: str, flags: RunFlags) -> list[Job]:
    """The runs that a command line asks for, every path of them checked.

    ``-o`` is a file for one model; a folder (one that is there, or a name that ends in ``/``) for any number. In
    ``--report``, ``--depfile``, ``--plan`` and ``--plan-out`` ``{stem}`` stands for the model's name without ``.onnx``.

    Args:
        models: As the user named them.
        recipe: Name of the recipe, which the names of results are made of.
        flags: As given.

    Raises:
        UsageError: A path that cannot be written, two results of one name, or one file for several models.
        ModelError: A model is not there.
    """
    if len(models) > 1:
        _check_many(models, flags)
    for model in models:
        require_file(model, "model")
    folder = _folder(flags)
    if folder is not None and not folder.is_dir():
        check_outputs(models[0], output=folder)  # what holds it must be there and writable
        if not flags.dry_run:
            folder.mkdir()
    jobs = [_job(model, recipe, flags, folder) for model in models]
    _refuse_same(jobs)
    return jobs


def _check_many(models: Sequence[str], flags: RunFlags) -> None:
    if PIPE in models or flags.output == PIPE:
        raise UsageError("a pipe carries one model", where=PIPE, hint="give several models as files, and -o FOLDER/")
    if flags.output is not None and _folder(flags) is None:
        raise UsageError("is one file for several models", where=flags.output, hint=f"a folder: -o {flags.output}/")
    for path in (*(flags.reports or ()), flags.depfile, flags.plan_out):
        if path is not None and STEM not in str(path):
            hint = f"put {STEM} into the name: {path.with_name(f'{STEM}.{path.name}')}"
            raise UsageError("is one file for several models", where=str(path), hint=hint)


def _folder(flags: RunFlags) -> Path | None:
    """The folder that ``-o`` names, if it names one."""
    if flags.output in (None, PIPE):
        return None
    path = Path(str(flags.output))
    ends = (os.sep, os.altsep) if os.altsep else (os.sep,)
    return path if path.is_dir() or str(flags.output).endswith(ends) else None


def _job(model: str, recipe: str, flags: RunFlags, folder: Path | None) -> Job:
    stem = "stdin" if model == PIPE else Path(model).name.removesuffix(".onnx")
    output = output_path(model, flags.output, recipe) if folder is None else folder / f"{stem}.{recipe}.onnx"
    own = replace(
        flags,
        reports=[Path(str(path).replace(STEM, stem)) for path in flags.reports or ()],
        depfile=_filled(flags.depfile, stem),
        plan=_filled(flags.plan, stem),
        plan_out=_filled(flags.plan_out, stem),
    )
    paths = {"output": [output], "report": own.reports or (), "depfile": [own.depfile], "plan-out": [own.plan_out]}
    to_come = folder is not None and not folder.is_dir()  # only in a dry run
    if to_come:
        paths = {flag: [path for path in each if path and path.parent != folder] for flag, each in paths.items()}
    check_outputs(model, **paths)
    if own.depfile is not None and (output is None or model == PIPE):
        raise UsageError(
            "a rule of make needs the names of two files", where="--depfile", hint="give MODEL and -o FILE"
        )
    return Job(model, output, own)


def _filled(path: Path | None, stem: str) -> Path | None:
    return None if path is None else Path(str(path).replace(STEM, stem))


def _refuse_same(jobs: Sequence[Job]) -> None:
    """Two results in one file: the second would replace the first."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        for path in (job.output, *(job.flags.reports or ()), job.flags.depfile, job.flags.plan_out):
            if path is not None and (other := seen.setdefault(path.resolve(), job)) is not job:
                message = f"would hold the results of both {other.model} and {job.model}"
                raise UsageError(message, where=str(path), hint="run one of them with another -o")
