"""JSON lines, CSV, test sets, code, and all of them as one archive."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelopt_cli.data.archive import columns, write_archive
from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import DataError, UsageError
from modelopt_cli.testing import model_from_text

TEXTS = model_from_text(
    "g (int64[b, s] input_ids, int64[b, s] attention_mask) => (int64[b, s] y) { y = Add(input_ids, attention_mask) }"
)
VECTOR = model_from_text("g (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }")
PAIR = model_from_text("g (float[2, 3] a, int32[1] b) => (float[2, 3] y) { c = Cast<to = 1>(b)  y = Mul(a, c) }")


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_token_ids_keep_their_length_and_get_a_mask(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"input_ids": [5, 6, 7], "label": 1}, {"input_ids": [8], "label": 0})
    bound = bind(open_dataset(path), TEXTS)
    samples = list(bound)
    assert [sample["input_ids"].tolist() for sample in samples] == [[[5, 6, 7]], [[8]]]
    assert [sample["attention_mask"].tolist() for sample in samples] == [[[1, 1, 1]], [[1]]]
    assert bound.labels is not None and bound.labels.tolist() == [1, 0]


def test_a_mask_of_the_file_is_used(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"input_ids": [5, 6, 0], "attention_mask": [1, 1, 0]})
    assert next(iter(bind(open_dataset(path), TEXTS)))["input_ids"].tolist() == [[5, 6]]  # padding is cut off


def test_bare_lists_go_to_the_only_input_and_whole_numbers_are_floats(tmp_path: Path) -> None:
    (sample,) = bind(open_dataset(lines(tmp_path / "t.jsonl", [1, 2, 3])), VECTOR)
    assert sample["x"].dtype == np.float32 and sample["x"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no samples"),
        ('{"x": [1,2,3]}\n{"z": [1]}\n', r"t.jsonl:2: has 'z', but the first line has 'x'"),
        ('{"x": [1,\n', "t.jsonl:1: is not JSON"),
        ('{"x": ["a"]}\n', "'x' is no number"),
        ('{"x": [[1, 2], [3]]}\n', "'x' is no number"),
        ("7\n", "must be an object or a list"),
        ('{"x": [1, 2]}\n', "other dimensions"),
        ('{"x": [1, 2, 3]}\n{"x": [1]}\n', r"sample 1 of input 'x' is \[1\]"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=words):
        list(bind(open_dataset(tmp_path / "t.jsonl"), VECTOR))


def test_values_that_the_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    model = model_from_text("g (int32[n, 1] x) => (int32[n, 1] y) { y = Identity(x) }")
    assert next(iter(bind(open_dataset(lines(tmp_path / "t.jsonl", [7])), model)))["x"].dtype == np.int32
    with pytest.raises(DataError, match="int32 cannot hold"):
        list(bind(open_dataset(lines(tmp_path / "t.jsonl", [2**40])), model))


def test_a_table_is_one_input_and_its_labels(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("width,height,depth,label\n1,2.5,3,0\n4,5,6,1\n")
    bound = bind(open_dataset(tmp_path / "t.csv"), VECTOR)
    assert [sample["x"].tolist() for sample in bound] == [[[1, 2.5, 3]], [[4, 5, 6]]]
    assert bound.labels is not None and bound.labels.tolist() == [0, 1]


def test_columns_name_inputs_and_their_elements(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a[1],a[0],b\n1,2,3\n")
    dataset = open_dataset(tmp_path / "t.csv")
    (sample,) = dataset
    assert {name: array.tolist() for name, array in sample.items()} == {"a": [[2, 1]], "b": [[3]]}


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n", "at least one row"), ("a,b\n1\n", "t.csv:2: has 1 cells"), ("a\nx\n", "column 'a': 'x' is no number")],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path / "t.csv")


def write_set(folder: Path, index: int, **arrays: np.ndarray) -> None:
    where = folder / f"test_data_set_{index}"
    where.mkdir(parents=True)
    for place, (name, array) in enumerate(arrays.items()):
        (where / f"input_{place}.pb").write_bytes(onnx.numpy_helper.from_array(array, name).SerializeToString())


def test_a_test_set_feeds_what_it_holds(tmp_path: Path) -> None:
    arrays = [np.full((2, 3), value, np.float32) for value in (1, 2)]
    for index, array in enumerate(arrays):
        write_set(tmp_path, index, a=array, b=np.array([index], np.int32))
    samples = list(bind(open_dataset(tmp_path), PAIR))
    assert [sample["b"].tolist() for sample in samples] == [[0], [1]]
    np.testing.assert_array_equal(samples[1]["a"], arrays[1])
    assert len(list(bind(open_dataset(tmp_path / "test_data_set_1"), PAIR))) == 1


def test_a_damaged_test_set_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, 0, a=np.zeros((2, 3), np.float32))
    (tmp_path / "test_data_set_0" / "input_0.pb").write_bytes(b"\xff\xff no tensor")
    with pytest.raises(DataError, match=r"input_0.pb: is no serialized tensor"):
        open_dataset(tmp_path)


def test_code_runs_only_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy as np\nraise_it = None\ndef samples():\n    for n in (1, 2):\n"
    (tmp_path / "my_samples.py").write_text(code + "        yield {'x': np.full((1, 3), n, np.float32)}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is code"):
        open_dataset("my_samples:samples")
    bound = bind(open_dataset("my_samples:samples", allow_code=True), VECTOR)
    assert [sample["x"][0, 0] for sample in bound] == [1, 2]
    with pytest.raises(UsageError, match="has no 'missing'"):
        open_dataset("my_samples:missing", allow_code=True)
    with pytest.raises(DataError, match="raised TypeError"):
        open_dataset("my_samples:raise_it", allow_code=True)
    with pytest.raises(UsageError, match="cannot be imported"):
        open_dataset("no_such_module_of_mine:samples", allow_code=True)


def test_any_of_them_becomes_one_archive(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"input_ids": [5, 6, 7], "label": 1}, {"input_ids": [8], "label": 0})
    dataset, file = open_dataset(path), io.BytesIO()
    write_archive(dataset, file, columns(dataset, bind(dataset, TEXTS)), lambda count: None)
    (tmp_path / "t.npz").write_bytes(file.getvalue())
    with np.load(tmp_path / "t.npz") as found:
        assert {name: found[name].tolist() for name in found.files} == {
            "input_ids": [[5, 6, 7], [8, 0, 0]],
            "label": [1, 0],
            "attention_mask": [[1, 1, 1], [1, 0, 0]],
        }
    again = [sample["input_ids"].tolist() for sample in bind(open_dataset(tmp_path / "t.npz"), TEXTS)]
    assert again == [[[5, 6, 7]], [[8]]]


def test_an_archive_takes_the_models_names(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.ones((2, 3), np.float32))
    dataset = open_dataset(tmp_path / "t.npy")
    (named,) = columns(dataset, bind(dataset, VECTOR))
    assert (named.name, named.dtype) == ("x", np.float32)
    assert columns(dataset, None)[0].name == "input"
