"""What sessions make of a stream of samples: in order, several samples at work at once, memory bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.errors import DataError
from modelopt_cli.parallel import cores, in_order
from modelopt_cli.profiling.session import Session, fitted, one_line, runtime_errors
from modelopt_cli.progress import Progress

CHUNK_BYTES = 16 << 20  # inputs and outputs that one worker holds; a pool holds twice as many chunks as workers
CHUNK_STEPS = 64  # handing out work costs about a millisecond, as much as ten runs of a small model

Outputs = list[np.ndarray]


def session_outputs(
    sessions: Sequence[Session],
    names: Sequence[str],
    data: Dataset,
    progress: Progress,
    label: str,
    *,
    threads: int,
    workers: int | None = None,
) -> Iterator[tuple[Outputs, ...]]:
    """Per sample and session the outputs, each with a batch axis of 1 where the model has one.

    Sessions run on all processors, one step of the data in each thread; what is yielded does not depend on how many
    there are.

    Args:
        sessions: Opened with ``threads`` threads.
        names: Outputs to compute.
        data: Samples that fit all sessions.
        progress: Where to say how far it is.
        label: What to call it there.
        threads: Of each session: as many processors does a run keep busy. 0: all.
        workers: Runs at a time, which each take memory; None for as many as the processors allow.

    Raises:
        DataError: No samples, or one on which a model does not run.
    """
    if not len(data):
        raise DataError("holds no samples", where=data.source)
    workers = workers or (max(1, cores() // threads) if threads else 1)
    work = _Work(sessions, names)
    with progress.task(label, len(data)) as advance:
        remaining = len(data)
        for _, results in in_order(work.run, work.chunks(data), workers):
            for result in results:
                valid = min(data.batch_size, remaining)
                for row in range(valid):
                    yield tuple([_row(array, row, data.batch_size) for array in outputs] for outputs in result)
                remaining -= valid
                advance(valid)


class _Work:
    """Chunks of steps, cut by what the largest step so far took; the first ones are single steps."""

    def __init__(self, sessions: Sequence[Session], names: Sequence[str]) -> None:
        self._sessions, self._names = sessions, list(names)
        self._largest = 0

    def chunks(self, data: Dataset) -> Iterator[list[Sample]]:
        source = iter(data)
        while chunk := list(islice(source, self._size())):
            yield chunk

    def run(self, samples: list[Sample]) -> list[tuple[Outputs, ...]]:
        results = []
        for sample in samples:
            result = tuple(_run(session, self._names, sample) for session in self._sessions)
            arrays = (
                *sample.values(),
                *(each for outputs in result for each in outputs if isinstance(each, np.ndarray)),
            )
            self._largest = max(self._largest, sum(array.nbytes for array in arrays), 1)
            results.append(result)
        return results

    def _size(self) -> int:
        return max(1, min(CHUNK_STEPS, CHUNK_BYTES // self._largest)) if self._largest else 1


def _run(session: Session, names: list[str], sample: Sample) -> Outputs:
    try:
        return session.run(names, fitted(session, sample))
    except runtime_errors() as error:
        shapes = ", ".join(f"'{name}' {array.dtype}{list(array.shape)}" for name, array in sample.items())
        raise DataError(f"the model does not run on {shapes}: {one_line(error)}") from error


def _row(array: np.ndarray, row: int, batch: int) -> np.ndarray:
    return array if batch == 1 or array.shape[:1] != (batch,) else array[row : row + 1]
