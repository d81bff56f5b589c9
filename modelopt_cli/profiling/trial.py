"""Inputs that a model really runs on, where nobody gave any: sizes and values are tried until one set is taken.

A default of 128 is right for most sequences and wrong for a state of [2, batch, 128] whose batch has no name, or for
an audio window that needs 512; the graph rarely says which.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import ModelError
from modelopt_cli.profiling.feeds import Feeds, feeds_for
from modelopt_cli.profiling.session import Model, open_session, run

SIZES = (512, 1, 256, 16, 64, 1024, 2, 4)  # after the default, the likelier first
INTEGERS = (1, 0)  # 0 is a valid index where 1 is not: a table of one row
MAX_TRIALS = 200
MAX_SECONDS = 20.0
_HINT = "the inputs were made up: --calib FILE gives real ones, --shape NAME=1x128 their sizes"


def runnable_feeds(
    openable: Model,
    model: ir.Model,
    sample: Sample | None = None,
    *,
    batch: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    provider: str = "cpu",
) -> Feeds:
    """As `feeds_for`; what had to be made up is tried on the model, and other sizes and integers after it.

    Data is never tried: when it does not run, that is for the user to know.

    Args:
        openable: What a session opens of the model.
        model: The same as a graph.
        sample: As for `feeds_for`.
        batch: As for `feeds_for`.
        shapes: As for `feeds_for`.
        provider: Where it is tried.

    Raises:
        UsageError: As `feeds_for`.
        ModelError: Nothing that was tried runs; with the complaint about the first try.
    """
    first = feeds_for(model, sample, batch=batch, shapes=shapes)
    if not first.arrays or (sample is not None and not first.assumed and first.arrays.keys() <= sample.keys()):
        return first
    session = open_session(openable, provider=provider, optimize="off", arena=False)
    refusal: ModelError | None = None
    started = time.perf_counter()
    for sizes, integer in itertools.islice(_trials(first.assumed), MAX_TRIALS):
        feeds = feeds_for(model, sample, batch=batch, shapes=shapes, assume=sizes, integer=integer)
        try:
            run(session, feeds.arrays)
        except ModelError as error:
            refusal = refusal or error
            if time.perf_counter() - started > MAX_SECONDS:
                break
        else:
            return feeds
    assert refusal is not None
    raise ModelError(refusal.message, where=refusal.where, hint=_HINT)


def _trials(assumed: Mapping[str, int]) -> Iterator[tuple[dict[str, int], int]]:
    """Sizes of the assumed dimensions with an integer, the defaults first, then what differs from them least."""
    choices = [(default, *(size for size in SIZES if size != default)) for default in assumed.values()]
    lengths = [len(each) for each in choices]
    for total in range(sum(lengths) - len(lengths) + 1):
        for ranks in _ranks(lengths, total):
            sizes = {name: options[rank] for name, options, rank in zip(assumed, choices, ranks, strict=True)}
            yield from ((sizes, integer) for integer in INTEGERS)


def _ranks(lengths: Sequence[int], total: int) -> Iterator[tuple[int, ...]]:
    """Every choice of one rank below each length that add up to ``total``."""
    if not lengths:
        yield from [()] if total == 0 else []
        return
    for first in range(min(total, lengths[0] - 1) + 1):
        yield from ((first, *rest) for rest in _ranks(lengths[1:], total - first))
