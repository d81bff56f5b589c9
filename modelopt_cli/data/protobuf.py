"""Test sets as the ONNX project keeps them: folders ``test_data_set_0`` with ``input_0.pb``, ``input_1.pb`` ..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from modelopt_cli.data.members import Member
from modelopt_cli.errors import DataError

_INPUT = re.compile(r"input_(\d+)\.pb")


@dataclass(frozen=True)
class TensorMember:
    """One serialized tensor as a member of one sample: what is in the file is what the model is fed."""

    name: str
    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    untyped: bool = False
    settings: str = ""

    def rows(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The tensor, once."""
        return (self.read()[0] for _ in indices.tolist())

    def read(self) -> np.ndarray:
        """The tensor under a sample axis of 1."""
        array: np.ndarray = onnx.numpy_helper.to_array(_read(self.paths[0]))[None]
        return array


def is_test_set(folder: Path) -> bool:
    """Whether a folder is a test set, or holds some."""
    return any(True for _ in _sets(folder))


def read_test_sets(folder: Path) -> list[dict[str, Member]]:
    """The inputs of every test set under ``folder``, by name, a set a sample; expected outputs are not read.

    Raises:
        DataError: A file is damaged, or holds no tensor of numbers.
    """
    return [_inputs(each) for each in _sets(folder)]


def _sets(folder: Path) -> Iterator[Path]:
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    return (path for path in folders if (path / "input_0.pb").is_file())


def _inputs(folder: Path) -> dict[str, Member]:
    found = {int(match[1]): path for path in folder.iterdir() if (match := _INPUT.fullmatch(path.name))}
    members: dict[str, Member] = {}
    for index in sorted(found):
        tensor = _read(found[index])
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if dtype.kind not in "fiub":
            raise DataError(f"holds {dtype}, and only numbers can be fed", where=str(found[index]))
        name = tensor.name or ("" if len(found) == 1 else f"input_{index}")
        members[name] = TensorMember(name, (found[index],), (1, *tensor.dims), dtype)
    return members


def _read(path: Path) -> onnx.TensorProto:
    try:
        return onnx.TensorProto.FromString(path.read_bytes())
    except (DecodeError, ValueError) as error:
        raise DataError("is no serialized tensor", where=str(path)) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
