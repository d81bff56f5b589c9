"""Data meets model: names, types and dimensions are matched once, values are checked as they stream."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import LABEL_NAMES, Sample
from modelopt_cli.data.files import FileDataset
from modelopt_cli.data.members import Member
from modelopt_cli.data.signature import Dim, InputSpec, Signature, signature
from modelopt_cli.data.trimming import trim, trim_plan
from modelopt_cli.errors import DataError, UsageError

WIDENINGS = {("float16", "float32"), ("int32", "int64")}
UNNAMED = ("", "arr_0")  # a .npy file; numpy.savez(FILE, array)


@dataclass(frozen=True)
class BoundDataset:
    """Samples as one model takes them: its names, its types, its batch dimension.

    Attributes:
        files: The samples in the files.
        members: Model input -> member of the files.
        inputs: The model's signature.
        batch_size: Samples that the model takes at a time: the number that its batch dimension is fixed to, otherwise
            1 or what was asked for.
        trimmed: Whether padding behind an attention mask is cut off.
    """

    files: FileDataset
    members: dict[str, str]
    inputs: Signature
    batch_size: int = 1
    trimmed: bool = True

    @property
    def source(self) -> str:
        """What the user called it."""
        return self.files.source

    @property
    def labels(self) -> np.ndarray | None:
        """Ground truth, or None."""
        return self.files.labels

    def extra(self, name: str) -> np.ndarray:
        """All of a member that is not a model input; see `FileDataset.extra`."""
        return self.files.extra(name)

    def take(self, count: int) -> BoundDataset:
        """At most ``count`` samples, spread evenly."""
        return replace(self, files=self.files.take(count))

    def digest(self) -> str:
        """Hex sha256 over the bytes of all files and the choice of samples."""
        return self.files.digest()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.files)

    def __iter__(self) -> Iterator[Sample]:
        """Yield ``batch_size`` samples at a time.

        Raises:
            DataError: A value is NaN or infinite, or the file is damaged.
        """
        plan = trim_plan(self.inputs) if self.trimmed else {}
        for sample in self._batches():
            yield trim(sample, plan)

    def _batches(self) -> Iterator[Sample]:
        pending: list[Sample] = []
        for sample in self._rows():
            pending.append(sample)
            if len(pending) == self.batch_size:
                yield _stack(pending)
                pending = []
        if pending:
            yield _stack(pending + [pending[-1]] * (self.batch_size - len(pending)))

    def _rows(self) -> Iterator[Sample]:
        for position, row in zip(self.files.positions.tolist(), self.files, strict=True):
            sample = {}
            for spec in self.inputs:
                array = row[self.members[spec.name]]
                if array.dtype.kind in "fc" and not np.isfinite(array).all():
                    raise DataError(f"input '{spec.name}' has NaN or Inf in sample {position}", where=self.source)
                if spec.shape is not None and array.ndim == len(spec.shape) + 1:
                    array = np.asarray(array[0])  # the model has no batch dimension: a row is what it takes
                self._check_row(array, spec, position)
                sample[spec.name] = self._cast(array, spec)
            yield sample

    def _check_row(self, array: np.ndarray, spec: InputSpec, position: int) -> None:
        """Rows may differ in length (JSON lines), and the longest alone says nothing of the others."""
        fixed = zip(array.shape[1:], (spec.shape or ())[1:], strict=False)
        if any(isinstance(want, int) and want != have for have, want in fixed):
            got = ", ".join(map(str, array.shape[1:]))
            raise DataError(
                f"sample {position} of input '{spec.name}' is [{got}], the model takes {spec}", where=self.source
            )

    def _cast(self, array: np.ndarray, spec: InputSpec) -> np.ndarray:
        cast = array.astype(spec.dtype, copy=False)
        if array.dtype.kind in "iu" and spec.dtype.kind in "iub" and not np.array_equal(cast, array):
            raise DataError(f"input '{spec.name}' has values that {spec.dtype} cannot hold", where=self.source)
        return cast


def bind(
    dataset: FileDataset, model: ir.Model | Signature, *, trim: bool = True, batch: int | None = None
) -> BoundDataset:
    """Match the members of a data set to the inputs of a model.

    Members are matched by name; one unnamed array goes to a model of one input. Types must be equal, or float16 for
    float32, or int32 for int64. A member may lack the model's batch dimension in one case only: each file of a folder
    is a single sample. A model without a batch dimension takes one row at a time.

    Args:
        dataset: What `open_dataset` gave.
        model: The model, or its `signature`.
        trim: Cut padding: where an input is an attention mask (integer, "mask" in its name, [batch, sequence]) that
            ends in zeros, every axis of that symbol is cut to the last position in use.
        batch: Samples at a time, of one length; None: 1, or what the model is fixed to. More are faster where a run is
            short, but whoever quantizes dynamically does it over the whole batch: answers then depend on neighbours.

    Raises:
        DataError: Names, types, rank or fixed dimensions differ, or the number of samples does between inputs.
        UsageError: A batch that the model does not take.
    """
    specs = signature(model) if isinstance(model, ir.Model) else model
    members = _match_names(dataset, specs)
    whole = _files_are_samples(dataset, specs, members)
    for file in dataset.files:
        for spec in specs:
            _check_member(file[members[spec.name]], spec, dataset.source, whole=whole)
    selected = dataset.select(tuple(members.values()), whole=whole)
    sizes = [_fixed_batch(spec, selected.files[0][members[spec.name]], whole=whole) for spec in specs]
    fixed = {size for size in sizes if size is not None}
    if len(fixed) > 1:
        raise DataError(f"the model's inputs are fixed to different batch sizes: {sorted(fixed)}", where=dataset.source)
    if fixed and batch is not None and batch not in fixed:
        raise UsageError(f"batch {batch} is not for this model: {fixed.pop()} is fixed", where="--batch")
    return BoundDataset(selected, members, specs, fixed.pop() if fixed else batch or 1, trim)


def _match_names(dataset: FileDataset, specs: Signature) -> dict[str, str]:
    present = dataset.files[0]
    data_members = [name for name in present if name not in LABEL_NAMES]
    if len(specs) == 1 and specs[0].name not in present and len(data_members) == 1 and data_members[0] in UNNAMED:
        return {specs[0].name: data_members[0]}
    missing = [spec.name for spec in specs if spec.name not in present]
    if not missing:
        return {spec.name: spec.name for spec in specs}
    takes = ", ".join(f"'{spec.name}' {spec}" for spec in specs)
    holds = ", ".join(f"'{name or '<unnamed>'}'" for name in present)
    raise DataError(
        f"has no array for input '{missing[0]}': the model takes {takes}; the data holds {holds}",
        where=dataset.source,
        hint=_suggestion(missing[0], data_members),
    )


def _suggestion(missing: str, present: list[str]) -> str:
    close = difflib.get_close_matches(missing, present, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'? rename it to '{missing}'" if close else f"name the array '{missing}'"


def _files_are_samples(dataset: FileDataset, specs: Signature, members: dict[str, str]) -> bool:
    """Whether each file of a folder is one sample without a sample axis: every input lacks exactly that axis."""
    return bool(specs) and all(
        spec.shape is not None and len(file[members[spec.name]].shape) == len(spec.shape) - 1
        for file in dataset.files
        for spec in specs
    )


def _check_member(member: Member, spec: InputSpec, source: str, *, whole: bool) -> None:
    shape: tuple[int, ...] = (1, *member.shape) if whole else member.shape
    got = f"{member.dtype.newbyteorder('=')}[{', '.join(map(str, member.shape))}]"
    both = f"input '{spec.name}': the model takes {spec}, the data holds {got}"
    if not _fits(member, spec):
        raise DataError(f"{both}: another type", where=source, hint=f"convert it: array.astype('{spec.dtype}')")
    if spec.shape is None:
        return
    if len(shape) not in (len(spec.shape), len(spec.shape) + 1):
        raise DataError(
            f"{both}: another number of axes", where=source, hint="the first axis of the data counts samples"
        )
    expected: tuple[Dim, ...] = spec.shape[1:] if len(shape) == len(spec.shape) else spec.shape
    if any(isinstance(want, int) and want != have for want, have in zip(expected, shape[1:], strict=True)):
        raise DataError(f"{both}: other dimensions", where=source, hint="resize or transpose the data")


def _fits(member: Member, spec: InputSpec) -> bool:
    """The same type, or one that holds every value; numbers in text have a kind only, and whole ones are floats too."""
    if member.dtype.newbyteorder("=") == spec.dtype or (member.dtype.name, spec.dtype.name) in WIDENINGS:
        return True
    if not member.untyped:
        return False
    kinds = {"i": "iufb", "f": "f", "b": "biu"}
    return spec.dtype.kind in kinds.get(member.dtype.kind, "")


def _fixed_batch(spec: InputSpec, member: Member, *, whole: bool) -> int | None:
    """Samples that the model insists on taking at a time; None where that is free."""
    if spec.shape is None:
        return None
    if not spec.shape or len(member.shape) + whole != len(spec.shape):
        return 1
    return spec.shape[0] if isinstance(spec.shape[0], int) else None


def _stack(samples: list[Sample]) -> Sample:
    if len(samples) == 1:
        return samples[0]
    if any(array.shape[1:] != samples[0][name].shape[1:] for sample in samples for name, array in sample.items()):
        raise DataError("samples of different lengths do not go into one batch", hint="pad them")
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
