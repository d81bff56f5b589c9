"""Runs on several processors at once change nothing but the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import DataError, UsageError
from modelopt_cli.evaluation import evaluate
from modelopt_cli.evaluation.outputs import CHUNK_BYTES, session_outputs
from modelopt_cli.progress import Silent
from modelopt_cli.testing import model_from_text

MODEL = "g (float[b,2] x) => (float[b,2] y) { y = Neg(x) }"


class Runs:
    """A session that calls ``work`` with the sample's first number."""

    def __init__(self, work: Callable[[int], object], size: int = 1) -> None:
        self._work, self._size = work, size

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=[None, 2])]

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        value = int(feeds["x"][0, 0])
        self._work(value)
        return [np.full((1, self._size), value, np.float32)]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    values = np.repeat(np.arange(201, dtype=np.float32)[:, None], 2, axis=1)
    np.savez(tmp_path / "d.npz", x=values, labels=np.arange(201) % 2)
    return bind(open_dataset(str(tmp_path / "d.npz")), model_from_text(MODEL))


def outputs(session: Runs, data: Dataset, threads: int = 1) -> Iterator[float]:
    found = session_outputs([session], ["y"], data, Silent(), "running", threads=threads)
    return (float(each[0][0][0, 0]) for each in found)


@pytest.mark.parametrize("processors", [1, 2, 5])
def test_samples_stay_in_order(data: Dataset, processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.evaluation.outputs.cores", lambda: processors)
    assert list(outputs(Runs(lambda _: None), data)) == list(range(201))


def test_two_samples_are_at_work_at_once(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.evaluation.outputs.cores", lambda: 2)
    both = threading.Barrier(2, timeout=20)  # broken, and so an error, unless two runs meet here
    assert list(outputs(Runs(lambda value: value < 2 and both.wait()), data)) == list(range(201))


def test_threads_of_a_session_leave_fewer_runs_at_once(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.evaluation.outputs.cores", lambda: 4)
    seen: set[int] = set()
    list(outputs(Runs(lambda _: seen.add(threading.get_ident())), data, threads=4))
    assert seen == {threading.get_ident()}


def test_large_outputs_are_held_a_few_at_a_time(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.evaluation.outputs.cores", lambda: 2)
    started: list[int] = []
    stream = outputs(Runs(started.append, size=CHUNK_BYTES // 8), data)  # half a chunk each: two steps a chunk
    next(stream)
    assert len(started) <= 8
    stream.close()


def test_a_failure_in_a_thread_is_the_users_error(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.evaluation.outputs.cores", lambda: 2)

    def fail(value: int) -> None:
        if value == 150:
            raise ValueError("bad axis")

    with pytest.raises(DataError, match=r"does not run on 'x' float32\[1, 2\]: bad axis"):
        list(outputs(Runs(fail), data))


def test_a_batch_gives_the_answers_of_single_samples(data: Dataset, tmp_path: Path) -> None:
    model = model_from_text(MODEL)
    alone = evaluate(model, data, "top1")
    batched = bind(open_dataset(str(tmp_path / "d.npz")), model, batch=16)
    assert [each["x"].shape[0] for each in batched] == [16] * 13
    assert evaluate(model, batched, "top1") == alone == pytest.approx(101 / 201)


def test_a_batch_that_the_model_does_not_take(data: Dataset, tmp_path: Path) -> None:
    fixed = model_from_text(MODEL.replace("[b,", "[3,"))
    assert bind(open_dataset(str(tmp_path / "d.npz")), fixed, batch=3).batch_size == 3
    with pytest.raises(UsageError, match="batch 4 is not for this model: 3 is fixed"):
        bind(open_dataset(str(tmp_path / "d.npz")), fixed, batch=4)
