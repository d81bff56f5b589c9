import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.data.arrays import array_members
from modelopt_cli.errors import DataError, ExitCode


def rows(path: Path, name: str) -> list[np.ndarray]:
    member = array_members(path)[name]
    return list(member.rows(np.arange(member.shape[0])))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<i8", "|u1", "|b1"])
def test_rows_are_those_of_numpy(tmp_path, save, dtype):
    array = (np.random.default_rng(0).standard_normal((7, 3, 5)) * 50).astype(dtype)
    save(tmp_path / "a.npz", x=array, other=np.arange(3))
    read = rows(tmp_path / "a.npz", "x")
    np.testing.assert_array_equal(read, array)
    assert read[0].dtype == np.dtype(dtype).newbyteorder("=")


def test_npy_is_one_unnamed_member(tmp_path):
    array = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(rows(tmp_path / "a.npy", ""), array)


@pytest.mark.parametrize("archive", [True, False])
def test_column_major_arrays_are_read_by_row_too(tmp_path, archive):
    array = np.asfortranarray(np.arange(60).reshape(5, 4, 3))
    path = tmp_path / ("a.npz" if archive else "a.npy")
    if archive:
        np.savez_compressed(path, x=array)
    else:
        np.save(path, array)
    name = "x" if archive else ""
    assert array_members(path)[name].fortran
    np.testing.assert_array_equal(rows(path, name), array)
    np.testing.assert_array_equal(array_members(path)[name].read(), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_chosen_rows_skip_the_others(tmp_path, save):
    array = np.random.default_rng(1).standard_normal((50, 300))
    save(tmp_path / "a.npz", x=array)
    chosen = np.array([0, 7, 8, 49])
    np.testing.assert_array_equal(list(array_members(tmp_path / "a.npz")["x"].rows(chosen)), array[chosen])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_holds_a_few_rows_whatever_their_number(tmp_path, save):
    row = 64 * 1024
    save(tmp_path / "a.npz", x=np.zeros((400, row), np.uint8))
    member = array_members(tmp_path / "a.npz")["x"]
    tracemalloc.start()
    try:
        for _ in member.rows(np.arange(400)):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * row + 200_000  # the whole array is 400 rows


def test_the_content_decides_not_the_suffix(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert array_members(tmp_path / "a.npz")[""].shape == (3,)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        for member in array_members(path).values():
            list(member.rows(np.arange(member.shape[0])))
    assert caught.value.exit_code == ExitCode.INPUT
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.npz")


def test_a_folder_is_not_a_file(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.npz").touch()
    assert "is empty" in refusal(tmp_path / "a.npz")


def test_not_numpy(tmp_path):
    (tmp_path / "a.npz").write_text("hello, world")
    assert "neither .npz nor .npy" in refusal(tmp_path / "a.npz")


def test_archive_without_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert "holds no arrays" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_archive(tmp_path, keep):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000.0))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert "truncated" in refusal(path)


def test_truncated_npy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000.0))
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or truncated" in refusal(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_noticed_by_the_checksum(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, x=np.random.default_rng(0).standard_normal(2000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert refusal(path) == f"{path}:x: is damaged or truncated"


def test_python_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    assert "Python objects" in refusal(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.array([None]), allow_pickle=True)
    assert "Python objects" in refusal(tmp_path / "b.npy")


def test_a_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"not an array at all")
    assert "not a NumPy array" in refusal(tmp_path / "a.npz")
