"""``modelopt convert-data``: any data set as one ``.npz``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.console import print_payload, progress_sink
from modelopt_cli.cli.files import PIPE, check_outputs, preprocessing, read_model
from modelopt_cli.cli.options import AllowCode, Debug, Images, Quiet
from modelopt_cli.errors import UsageError


def convert_data(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="npz, npy, jsonl, csv, a folder, - or MODULE:FUNCTION.", show_default=False
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The .npz; - is stdout.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Check against its inputs; take their names and types."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, metavar="N", help="At most N, spread evenly. Default: all.")
    ] = None,
    images: Images = None,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write any data set (pictures, test sets, JSON lines, CSV ...) as one .npz."""
    from modelopt_cli.data.archive import columns, write_archive
    from modelopt_cli.data.binding import bind
    from modelopt_cli.data.files import open_dataset
    from modelopt_cli.graph.io import replacing

    if output == PIPE and sys.stdout.isatty():
        raise UsageError("an archive is not written to a terminal", where="-o", hint="give -o FILE, or pipe it on")
    if output != PIPE:
        check_outputs(data, output=Path(output))
    dataset = open_dataset(data, samples=samples, images=preprocessing(images), allow_code=allow_code)
    bound = None if model is None else bind(dataset, read_model(model).model)
    written = columns(dataset, bound)
    with progress_sink(quiet).task("converting", len(dataset) * len(written)) as advance:
        if output == PIPE:
            write_archive(dataset, sys.stdout.buffer, written, advance)
            return
        with replacing(Path(output)) as file:
            write_archive(dataset, file, written, advance)
    if not quiet:
        print_payload(f"written: {output}, {len(dataset)} samples of {', '.join(each.name for each in written)}")
