"""The flags of ``modelopt profile`` that say what to measure, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelopt_cli.cli import completion
from modelopt_cli.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.pipeline.profile import Point

Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME[:KEY=VALUE,...]",
        help="cpu, cuda, tensorrt, openvino, onnxruntime's name, or a plug-in's library or package (repeatable).",
        autocompletion=completion.provider_names,
    ),
]
AllowFallback = Annotated[
    bool, typer.Option("--allow-fallback", help="Measure a model of which the provider runs a part only.")
]
SessionConfig = Annotated[
    list[str] | None,
    typer.Option("--session-config", metavar="KEY=VALUE", help="Session setting of onnxruntime (repeatable)."),
]
Cpus = Annotated[
    str | None, typer.Option("--cpus", metavar="LIST", help="Run on these processors only: 0-3 or 0,2. Default: any.")
]
Batches = Annotated[str | None, typer.Option("--batch", metavar="N/N", help="Batch sizes: 8, or 1/8/32.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1x128", help="Shape of an input; 1x16/64 measures two (repeatable)."),
]
Duration = Annotated[
    float, typer.Option("--duration", min=0.05, metavar="S", help="Seconds of timing per provider and shape.")
]
Runs = Annotated[
    int | None, typer.Option("--runs", min=1, metavar="N", help="Time at least N runs, instead of a duration.")
]
UntilCi = Annotated[
    str | None,
    typer.Option("--until-ci", metavar="1%", help="Go on until the interval is this narrow, 60 s at most."),
]
Streams = Annotated[
    str | None, typer.Option("--streams", metavar="N/N", help="Throughput with N requests in flight: 1/2/4.")
]
PerOpFlag = Annotated[
    bool, typer.Option("--per-op", help="Time of each operator type and node, and its share of the machine's peak.")
]
Trace = Annotated[Path | None, typer.Option("--trace", metavar="FILE", help="Write what ran as a Chrome trace (JSON).")]
ProfileReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write all figures to FILE: .json.")
]


def parse_counts(text: str | None, where: str) -> tuple[int, ...]:
    """``1/8/32`` -> (1, 8, 32); None -> ().

    Raises:
        UsageError: Not of that form, or a number below 1.
    """
    if text is None:
        return ()
    parts = text.split("/")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"'{text}' is no number above 0", where=where, hint="8, or several: 1/8/32")
    return tuple(dict.fromkeys(map(int, parts)))


def parse_points(batch: str | None, shapes: Sequence[str] | None) -> tuple[Point, ...]:
    """Every shape to measure at: batch sizes crossed with the steps of the shapes, which go together.

    Raises:
        UsageError: Not of that form, an input named twice, or sweeps of different lengths.
    """
    from modelopt_cli.pipeline.profile import Point

    sweeps: dict[str, list[list[int]]] = {}
    for text in shapes or ():
        name, _, dims = text.rpartition("=")
        if not name or not dims:
            raise UsageError(f"'{text}' is not a shape", where="--shape", hint="NAME=1x3x224x224 or NAME=1x16/64/256")
        if name in sweeps:
            raise UsageError(f"input '{name}' is named twice", where="--shape")
        sweeps[name] = _sweep(text, dims)
    steps = max((len(sweep) for sweep in sweeps.values()), default=1)
    uneven = [name for name, sweep in sweeps.items() if len(sweep) not in (1, steps)]
    if uneven:
        message = f"input '{uneven[0]}' has {len(sweeps[uneven[0]])} sizes where another has {steps}"
        raise UsageError(message, where="--shape", hint="sizes of several inputs are stepped together")
    batches: tuple[int | None, ...] = parse_counts(batch, "--batch") or (None,)
    return tuple(
        Point(size, {name: sweep[step % len(sweep)] for name, sweep in sweeps.items()})
        for size, step in product(batches, range(steps))
    )


def parse_config(texts: Sequence[str] | None) -> dict[str, str]:
    """``["session.intra_op.allow_spinning=0"]`` -> a mapping.

    Raises:
        UsageError: Not of that form.
    """
    config = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"'{text}' is not KEY=VALUE", where="--session-config")
        config[key] = value
    return config


def parse_share(text: str | None, where: str) -> float | None:
    """``1%`` or ``0.01`` -> 0.01.

    Raises:
        UsageError: Neither, or not above 0.
    """
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1e6:
        raise UsageError(f"'{text}' is no share above 0", where=where, hint="1% or 0.01")
    return share


def pin(text: str | None) -> None:
    """Let this process, and what it starts, run on some processors only.

    Raises:
        UsageError: Not a list of numbers, none that this process may use, or a system that cannot pin.
    """
    if text is None:
        return
    cpus: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            raise UsageError(f"'{text}' is no list of processors", where="--cpus", hint="0-3 or 0,2")
        cpus |= set(range(int(low), int(high or low) + 1))
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system cannot pin a process", where="--cpus")
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise UsageError(f"none of {text} is a processor that this process may use", where="--cpus") from error


def _sweep(text: str, dims: str) -> list[list[int]]:
    parts = [_sizes(text, dim) for dim in dims.split("x")]
    steps = max(map(len, parts))
    if any(len(part) not in (1, steps) for part in parts):
        raise UsageError(f"'{text}' has dimensions of different numbers of sizes", where="--shape")
    return [[part[step % len(part)] for part in parts] for step in range(steps)]


def _sizes(text: str, dim: str) -> list[int]:
    sizes = dim.split("/")
    if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise UsageError(f"'{text}' is not a shape", where="--shape", hint="NAME=1x3x224x224 or NAME=1x16/64/256")
    return list(map(int, sizes))
