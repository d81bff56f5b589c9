"""``modelopt diff``: what differs between two models, in structure and in numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.files import preprocessing, read_model, refuse_two_pipes, require_file
from modelopt_cli.cli.options import CustomOps, Debug, Evaluation, Images, Json, Shape, parse_shapes
from modelopt_cli.errors import GateError

First = Annotated[str, typer.Argument(metavar="A", help="ONNX file, or - for stdin.", show_default=False)]
Second = Annotated[str, typer.Argument(metavar="B", help="ONNX file, or - for stdin.", show_default=False)]
Tolerance = Annotated[
    float, typer.Option("--rtol", min=0.0, metavar="SHARE", help="How far outputs may move, of their largest value.")
]


def diff(
    first: First,
    second: Second,
    evaluation: Evaluation = None,
    images: Images = None,
    custom_ops: CustomOps = None,
    shapes: Shape = None,
    rtol: Tolerance = 1e-4,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what differs: nodes, initializers, bytes, and how far each output moved. Exit code 1 when one did."""
    refuse_two_pipes(first, second, evaluation)
    for name in (first, second):
        require_file(name, "model")
    from modelopt_cli.data.binding import bind
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.pipeline.difference import diff_models

    wanted = parse_shapes(shapes)
    a, b = read_model(first), read_model(second)
    sample = (
        None
        if evaluation is None
        else next(iter(bind(open_dataset(evaluation, images=preprocessing(images)), a.model)))
    )
    found = diff_models(a, b, sample, shapes=wanted, rtol=rtol)
    if as_json:
        print_json(asdict(found) | {"same_outputs": found.same_outputs})
    else:
        from modelopt_cli.cli.render_diff import difference_lines

        print_payload(*difference_lines(found))
    if not found.same_outputs:
        moved = ", ".join(f"'{drift.output}'" for drift in found.outputs if not drift.within)
        raise GateError(f"outputs differ: {moved}", where=second, hint="--rtol SHARE sets what is tolerated")
