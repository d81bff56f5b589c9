"""The Typer application: the group that holds the error boundary, and the table of commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelopt_cli import __version__
from modelopt_cli.cli import (
    cache,
    compare,
    compress,
    convert_data,
    diff,
    doctor,
    evaluate,
    fuse,
    inspect,
    passes,
    profile,
    recipes,
    report,
    sensitivity,
)
from modelopt_cli.cli.boundary import boundary
from modelopt_cli.cli.options import DEBUG_KEY

EPILOG = "A model is a path, or - for stdin or stdout. Exit codes, recipes and examples: the README."


class BoundedGroup(TyperGroup):
    """The top group; every command runs inside the boundary, also under typer's CliRunner."""

    def invoke(self, ctx: Any) -> Any:
        with boundary(lambda: bool(ctx.meta.get(DEBUG_KEY))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=BoundedGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half the start-up time, and it is the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"modelopt {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make any ONNX model smaller and faster, and prove it."""


app.command("compress", short_help="Run a recipe, measure the result, write model and report.")(compress.compress)
app.command("fuse")(fuse.fuse)
app.command("prune", short_help="Set weights to zero, or remove channels; fit the others again.")(compress.prune)
app.command("quantize")(compress.quantize)
app.command("profile", short_help="Measure latency and memory; with --baseline, the ratio.")(profile.profile)
app.command("evaluate", short_help="Score a model on labels, or hold it against a baseline.")(evaluate.evaluate)
app.command("compare", short_help="Compare two models: size, latency, accuracy, where they part.")(compare.compare)
app.command("diff", short_help="Show what differs: nodes, initializers, bytes, outputs.")(diff.diff)
app.add_typer(report.group, name="report")
app.command("sensitivity", short_help="Measure what int8, or zeros, cost in each part of a model.")(
    sensitivity.sensitivity
)
app.command("inspect", short_help="Show inputs, outputs, operators, sizes; several side by side.")(inspect.inspect)
app.command("convert-data", short_help="Write any data set (pictures, JSON lines, ...) as one .npz.")(
    convert_data.convert_data
)
app.command("passes")(passes.passes)
app.add_typer(recipes.group, name="recipes")
app.add_typer(cache.group, name="cache")
app.command("doctor", short_help="Check the installation: versions, wheels, providers.")(doctor.doctor)
