"""Calibration in the cache: what it found, and what it had found when it was interrupted."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelopt_cli.cache import Cache, key_of
from modelopt_cli.calibration.ranges import ObserverName, ObserverOptions, Range
from modelopt_cli.calibration.watch import RangeChoices, RangeWatch
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.serialize import serialize
from modelopt_cli.profiling.session import runtime
from modelopt_cli.targets.detect import detect_isa

KIND = "statistics"
SAVE_EVERY_S = 5.0  # of a calibration that is under way; a shorter one is sooner done again than read


def statistics_key(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    observers: Sequence[ObserverName],
    options: ObserverOptions,
) -> str:
    """A name for all that ranges depend on.

    Graph, weights, data, tensors, observers, runtime, instruction set, and the code of this package.
    """
    asked = [list(tensors), list(observers), astuple(options), dataset.batch_size, len(dataset)]
    where = [runtime().__version__, detect_isa(), np.__version__]
    return key_of(serialize(model).sha256(), dataset.digest(), json.dumps(asked), json.dumps(where), _code())


class SavedStatistics:
    """One calibration in the cache.

    Args:
        cache: Where it is kept.
        key: Its `statistics_key`.
        grouping: What the state of an interrupted run depends on besides: the bound that tensors are grouped by.
        clock: Seconds, for tests.
    """

    def __init__(self, cache: Cache, key: str, grouping: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache, self._key, self._clock = cache, key, clock
        self._unfinished = f"{key}.{grouping:.9g}.unfinished"
        self._saved_at = clock()

    def finished(self) -> RangeChoices | None:
        """What an earlier run found, if there was one."""
        content = self._cache.get(KIND, self._key)
        if content is None:
            return None
        known = json.loads(content)
        ranges = {rule: {name: Range(*ends) for name, ends in each.items()} for rule, each in known["ranges"].items()}
        return RangeChoices(ranges, known["samples"])

    def finish(self, choices: RangeChoices) -> None:
        """Store what was found."""
        ranges = {rule: {name: astuple(found) for name, found in each.items()} for rule, each in choices.ranges.items()}
        self._cache.put(KIND, self._key, json.dumps({"ranges": ranges, "samples": choices.samples}).encode())
        self._cache.drop(KIND, self._unfinished)

    def resume(self, watch: RangeWatch) -> bool:
        """Take up what an interrupted run left; whether there was something."""
        content = self._cache.get(KIND, self._unfinished)
        if content is None:
            return False
        with np.load(io.BytesIO(content)) as state:
            watch.restore(state)
        return True

    def follow(self, watch: RangeWatch) -> None:
        """Save now and then what a watch holds."""

        def save() -> None:
            if self._clock() - self._saved_at >= SAVE_EVERY_S:
                buffer = io.BytesIO()
                np.savez(buffer, allow_pickle=False, **watch.state())
                self._cache.put(KIND, self._unfinished, buffer.getvalue())
                self._saved_at = self._clock()

        watch.after_sample = save


@functools.cache
def _code() -> str:
    """Digest of the code that finds ranges: a changed rule must not find what the old one left."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
