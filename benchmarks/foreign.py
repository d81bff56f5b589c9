"""Run every command on every foreign model and print a table of outcomes: ``python -m benchmarks.foreign``.

A command must work or refuse in one line with its exit code; nothing may crash, no invalid model may be written, no
source may change. On the models of the wheels everything must work. Ends with 1 when one of these does not hold.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.foreign_models import Foreign, backend_models, odd_models, wheel_models
from benchmarks.table import table

GROUPS = ("wheels", "odd", "simple", "pytorch-converted", "pytorch-operator", "light", "node")
REFUSALS = {2: "usage", 3: "input", 5: "provider"}  # anything else but 0 is a failure
SHORT = ("--set", "profile.seconds=0.02")
UNTIMED = (*SHORT, "--set", "steps.quantize.budget=0")  # the table's plan: a search by the clock takes 15 s a model
# Name -> words before and after the model; {calib} is left out with its flag where nothing is known to run.
COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": (),
    "fuse": ("-o", "{out}", "{calib}", *SHORT),
    "prune": ("-o", "{out}", "{calib}", *SHORT),
    "quantize": ("-o", "{out}", "{calib}", *UNTIMED),
    "quantize --method dynamic": ("-o", "{out}", *SHORT),
    "compress": ("-o", "{out}", *UNTIMED),
    "profile": ("--duration", "0.05", "{calib}"),
}
ONCE_EACH = ("profile",)  # starts a process for each model: left out for the 2,000 of one node each


@dataclass(frozen=True)
class Outcome:
    """How one command ended on one model.

    Attributes:
        code: Exit code; -1 when the process died.
        said: The first line on stderr of a refusal.
        broken: What does not hold of the contract; empty when all does.
    """

    model: str
    group: str
    command: str
    code: int
    said: str
    broken: str
    seconds: float

    @property
    def state(self) -> str:
        """``ok``, the kind of refusal, or ``BROKEN``."""
        return "BROKEN" if self.broken else "ok" if self.code == 0 else REFUSALS[self.code]


def try_model(foreign: Foreign, commands: Iterable[str] = COMMANDS) -> list[Outcome]:
    """Every command on one model, in this process."""
    with tempfile.TemporaryDirectory(prefix="foreign-") as name:
        folder = Path(name)
        source = folder / "model.onnx"
        source.write_bytes(foreign.content)
        calib = _write_feeds(foreign, folder)
        chosen = [command for command in commands if foreign.group != "node" or command not in ONCE_EACH]
        return [_try(foreign, command, source, calib) for command in chosen]


def _write_feeds(foreign: Foreign, folder: Path) -> Path | None:
    if not foreign.feeds:
        return None
    path = folder / "calib.npz"
    arrays = {name: array[None] for name, array in foreign.feeds.items()}
    with contextlib.suppress(ValueError):  # a name that no archive can hold
        np.savez(path, **arrays)
        return path
    return None


def _try(foreign: Foreign, command: str, source: Path, calib: Path | None) -> Outcome:
    from typer.testing import CliRunner

    from modelopt_cli.cli.root import app

    out = source.with_name("out.onnx")
    out.unlink(missing_ok=True)
    words = [*command.split()[:1], str(source), *command.split()[1:]]
    for word in COMMANDS[command]:
        words += ["--calib", str(calib)] if word == "{calib}" and calib else []
        words += [] if word == "{calib}" else [word.format(out=out)]
    started = time.perf_counter()
    with _quiet_native():
        done = CliRunner().invoke(app, words, env={"NO_COLOR": "1", "COLUMNS": "200"}, prog_name="modelopt")
    seconds = time.perf_counter() - started
    said = next((line for line in done.stderr.splitlines() if "error: " in line), "")
    return Outcome(
        foreign.name,
        foreign.group,
        command,
        done.exit_code,
        said.replace(str(source), "MODEL").removeprefix("modelopt: error: "),
        _broken(foreign, done.exit_code, done.stderr, source, out),
        seconds,
    )


def _broken(foreign: Foreign, code: int, stderr: str, source: Path, out: Path) -> str:
    """What does not hold, in words."""
    if source.read_bytes() != foreign.content:
        return "the source changed"
    if code != 0:
        errors = [line for line in stderr.splitlines() if line.startswith("modelopt: error: ")]
        if code not in REFUSALS:
            return f"exit {code}: {stderr.strip().splitlines()[0] if stderr.strip() else 'no word'}"
        if len(errors) != 1:
            return f"a refusal of {len(errors)} lines"
        if out.exists():
            return "a refusal that left a model"
        return f"must succeed: {errors[0]}" if foreign.must_succeed else ""
    return _broken_result(foreign.content, out.read_bytes()) if out.exists() else ""


def _broken_result(before: bytes, after: bytes) -> str:
    source, result = onnx.ModelProto.FromString(before), onnx.ModelProto.FromString(after)
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        try:
            onnx.checker.check_model(source, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            return ""  # the source was no better
        return f"invalid model: {str(error).strip().splitlines()[0]}"
    given = {each.name for each in source.graph.initializer}
    names = [[v.name for v in g.input if v.name not in given] for g in (source.graph, result.graph)]
    if names[0] != names[1] or [v.name for v in source.graph.output] != [v.name for v in result.graph.output]:
        return "names of inputs or outputs changed"
    kept = ("producer_name", "producer_version", "domain", "model_version", "doc_string")
    if lost := [name for name in kept if getattr(source, name) != getattr(result, name)]:
        return f"{lost[0]} changed"
    metadata = {each.key: each.value for each in result.metadata_props}
    if lost := [each.key for each in source.metadata_props if metadata.get(each.key) != each.value]:
        return f"metadata '{lost[0]}' lost"
    opsets = [{o.domain or "ai.onnx": o.version for o in m.opset_import}.get("ai.onnx", 0) for m in (source, result)]
    if opsets[0] == opsets[1] and source.ir_version != result.ir_version and not _needs_ir(source, result):
        return f"ir_version {source.ir_version} became {result.ir_version}, opset {opsets[0]} stayed"
    return ""


def _needs_ir(source: onnx.ModelProto, result: onnx.ModelProto) -> bool:
    """Before IR version 4 every weight had to be an input; a result with weights of its own cannot be older."""
    return source.ir_version < 4 <= result.ir_version


@contextlib.contextmanager
def _quiet_native() -> Iterator[None]:
    """What C++ writes to file descriptor 2 is nobody's report here."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def try_all(models: Sequence[Foreign], commands: Sequence[str], workers: int) -> Iterator[Outcome]:
    """All models over worker processes; a model that kills its worker is named, the others go on."""
    waiting = list(models)
    while waiting:
        lost: list[Foreign] = []
        with _pool(workers) as pool:
            futures = {pool.submit(try_model, model, commands): model for model in waiting}
            for future in concurrent.futures.as_completed(futures):
                try:
                    yield from future.result()
                except BrokenProcessPool:
                    lost.append(futures[future])
        waiting = []
        for model in lost:  # which of them it was, one process each
            with _pool(1) as pool:
                try:
                    yield from pool.submit(try_model, model, commands).result()
                except BrokenProcessPool:
                    yield Outcome(model.name, model.group, "any", -1, "", "the process died", 0.0)


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def collect(groups: Sequence[str], part: str = "") -> list[Foreign]:
    """The models of these groups whose name holds ``part``, one for each content."""
    found: dict[str, Foreign] = {}
    for group in groups:
        models = {"wheels": wheel_models, "odd": odd_models}.get(group, lambda group=group: backend_models(group))()
        for model in models:
            if part in model.name:
                found.setdefault(hashlib.sha256(model.content).hexdigest(), model)
    return list(found.values())


def tables(outcomes: Sequence[Outcome], groups: Sequence[str], commands: Sequence[str]) -> str:
    """Counts by group and command; then the refusals by reason; then everything that is broken."""
    rows = []
    for group in groups:
        here = [each for each in outcomes if each.group == group]
        cells = []
        for command in commands:
            states = collections.Counter(each.state for each in here if each.command == command)
            cells.append(", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=_ok_first)))
        rows.append((group, str(len({each.model for each in here})), *cells))
    parts = [table(("group", "models:", *commands), rows)]
    broken = [(each.model, each.command, each.broken) for each in outcomes if each.broken]
    if broken:
        parts += ["", table(("BROKEN", "command", "what"), sorted(broken))]
    return "\n".join(parts)


def _ok_first(item: tuple[str, int]) -> tuple[bool, str]:
    return item[0] != "ok", item[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"any of {', '.join(GROUPS)}; default all")
    parser.add_argument("--model", default="", help="only models with this in their name")
    parser.add_argument("--command", action="append", choices=COMMANDS, help="only this command (repeatable)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="append every outcome to this file, one a line")
    asked = parser.parse_args()
    groups, commands = asked.groups or list(GROUPS), asked.command or list(COMMANDS)
    models = collect(groups, asked.model)
    started = time.perf_counter()
    outcomes = []
    for outcome in try_all(models, commands, asked.workers):
        outcomes.append(outcome)
        if asked.json:  # line by line: one can look while it runs
            with asked.json.open("a") as lines:
                lines.write(json.dumps(vars(outcome) | {"state": outcome.state}) + "\n")
    print(tables(outcomes, groups, commands))
    if "wheels" in groups and not any(each.group == "wheels" for each in models):
        print("\nthe wheels' models are not here: make foreign installs them")
    print(f"\n{len(models)} models, {len(outcomes)} runs, {time.perf_counter() - started:.0f} s")
    sys.exit(any(each.broken for each in outcomes))


if __name__ == "__main__":
    main()
