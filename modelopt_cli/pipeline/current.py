"""Whether a result is what a run would make: told by the content of everything that goes into it, not by times."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from modelopt_cli.cache import Cache, key_of
from modelopt_cli.errors import DataError
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.provenance import environment
from modelopt_cli.profiling.custom_ops import custom_ops
from modelopt_cli.recipe.schema import Recipe
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.serialize import from_json, to_json

KIND = "results"
_PACKAGE = Path(__file__).resolve().parents[1]


def run_key(source: SourceModel, recipe: Recipe, options: CompressOptions) -> str:
    """A name for all that a run depends on: model, recipe, data, flags, plan, versions, machine, and this program."""
    data = [each.digest() if each is not None else "" for each in (options.calibration, options.evaluation)]
    asked = {
        "metric": options.metric,
        "providers": list(options.providers),
        "threads": options.threads,
        "batch": options.batch,
        "shapes": {name: list(shape) for name, shape in options.shapes.items()},
        "random": options.allow_random_calibration,
        "plan": None if options.plan is None else asdict(options.plan),
        "locked": options.locked,
    }
    libraries = [hashlib.sha256(path.read_bytes()).hexdigest() for path in custom_ops()]
    described = [recipe.resolved(), asked, environment(), libraries]
    return key_of(source.sha256, *data, json.dumps(described, sort_keys=True, default=str), _code())


def find_current(key: str, output: Path, cache: Cache) -> RunReport | None:
    """The report of the run that made ``output``, when it has this key and the file is still what it wrote."""
    content = cache.get(KIND, key)
    if content is None or not output.is_file():
        return None
    try:
        report = from_json(content.decode())
    except DataError:  # of another version
        return None
    with output.open("rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == report.hashes.get("result")
    if not same:
        return None
    os.utime(output)  # for make, whose rule is now met
    return report


def remember(key: str, report: RunReport, cache: Cache) -> None:
    """Keep the report for `find_current`; a result above 2 GB has no hash, and is always made again."""
    if "result" in report.hashes:
        cache.put(KIND, key, to_json(report).encode())


@functools.cache
def _code() -> str:
    """Digest of this package: a newer program may make another result."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
