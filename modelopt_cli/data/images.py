"""A folder of images, decoded one at a time and brought to numbers in the way that is declared, never guessed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from modelopt_cli.data.members import Member, RowsMember
from modelopt_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
DECLARATION = "preprocess.yaml"
LABELS = "labels.csv"
Size = Annotated[int, Field(ge=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
_MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}


class Preprocessing(BaseModel):
    """How a picture becomes an input: resize, crop, ``(pixel * range / 255 - mean) / std``, order of channels and axes.

    Attributes:
        input: Name of the model's input; None for a model of one.
        resize: Shorter side, or [height, width] whatever the picture's own proportions; None leaves it.
        crop: Side of a square, or [height, width], cut from the middle; None leaves it.
        range: What 255 becomes before mean and std are taken: 255 or 1.
        mean: Subtracted; one number, or one for each channel.
        std: Divided by; one number, or one for each channel.
        channels: ``rgb``, ``bgr`` or ``gray``.
        layout: ``nchw`` or ``nhwc``.
        dtype: Type of the result; ``uint8`` for models that normalize themselves.
        interpolation: Of the resize.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Annotated[str, Field(min_length=1)] | None = None
    resize: Size | tuple[Size, Size] | None = None
    crop: Size | tuple[Size, Size] | None = None
    range: Literal[1, 255] = 255
    mean: FiniteFloat | tuple[FiniteFloat, ...] = 0.0
    std: Positive | tuple[Positive, ...] = 1.0
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"

    def apply(self, image: Image) -> np.ndarray:
        """One picture as an array of [channels, height, width], or [height, width, channels]."""
        image = self._cropped(self._resized(image.convert(_MODES[self.channels])))
        pixels = np.asarray(image, np.float32)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if self.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        scaled = pixels * np.float32(self.range / 255)
        values = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(values if self.layout == "nhwc" else values.transpose(2, 0, 1), dtype=self.dtype)

    def _resized(self, image: Image) -> Image:
        if self.resize is None:
            return image
        width, height = image.size
        if isinstance(self.resize, int):
            shorter = self.resize / min(width, height)
            size = (round(width * shorter), round(height * shorter))
        else:
            size = (self.resize[1], self.resize[0])
        from PIL import Image as Pillow

        return image if size == image.size else image.resize(size, Pillow.Resampling[self.interpolation.upper()])

    def _cropped(self, image: Image) -> Image:
        if self.crop is None:
            return image
        height, width = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        if width > image.width or height > image.height:
            raise ValueError(f"{image.height} x {image.width} pixels are fewer than the crop of {height} x {width}")
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class ImagesMember:
    """The pictures of a folder as one array, decoded row by row; see `Member`."""

    name: str
    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    preprocessing: Preprocessing
    untyped: bool = False

    @property
    def dtype(self) -> np.dtype:
        """As declared."""
        return np.dtype(self.preprocessing.dtype)

    @property
    def settings(self) -> str:
        """The preprocessing: other values of it are other data."""
        return self.preprocessing.model_dump_json()

    def rows(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The pictures at ``indices``.

        Raises:
            DataError: One is damaged, or of another size than the first.
        """
        for index in indices.tolist():
            array = _decode(self.paths[index], self.preprocessing)
            if array.shape != self.shape[1:]:
                sizes = f"{list(array.shape)}, and the first picture {list(self.shape[1:])}"
                raise DataError(f"gives {sizes}", where=str(self.paths[index]), hint="declare resize and crop")
            yield array

    def read(self) -> np.ndarray:
        """All pictures."""
        return np.stack(list(self.rows(np.arange(len(self.paths)))))


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds pictures or says which there are."""
    return (folder / LABELS).is_file() or any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def image_members(folder: Path, declared: Preprocessing | None = None) -> dict[str, Member]:
    """The pictures of a folder, and the labels of its ``labels.csv`` (columns ``file`` and ``label``) as ``labels``.

    Args:
        folder: Pictures are taken in the order of ``labels.csv``, or of their names without one.
        declared: How they are prepared; None reads ``preprocess.yaml`` in the folder or beside it.

    Raises:
        DataError: No pictures, a bad ``labels.csv``, a missing or damaged picture, a bad declaration.
        UsageError: No preprocessing is declared, or pillow is not installed.
    """
    preprocessing = declared if declared is not None else _declaration_of(folder)
    paths, labels = _listed(folder)
    first = _decode(paths[0], preprocessing)
    name = preprocessing.input or ""
    members: dict[str, Member] = {name: ImagesMember(name, tuple(paths), (len(paths), *first.shape), preprocessing)}
    if labels is not None:
        rows = tuple(np.asarray(label, np.int64) for label in labels)
        members["labels"] = RowsMember("labels", rows, (folder / LABELS,))
    return members


def read_preprocessing(path: Path) -> Preprocessing:
    """What a ``preprocess.yaml`` declares.

    Raises:
        DataError: Not there, not YAML, or a key or a value that there is not.
    """
    import yaml

    try:
        return Preprocessing.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][:1])) or "its content"
        raise DataError(f"{place}: {first['msg']}", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"is not YAML: {' '.join(str(error).split())}", where=str(path)) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _declaration_of(folder: Path) -> Preprocessing:
    path = next((p for p in (folder / DECLARATION, folder.parent / DECLARATION) if p.is_file()), None)
    if path is None:
        raise UsageError(
            "nothing says how its pictures become numbers",
            where=str(folder),
            hint=f"write {folder / DECLARATION} (crop: 224, mean: 127, std: 128), or give --images FILE",
        )
    return read_preprocessing(path)


def _listed(folder: Path) -> tuple[list[Path], list[int] | None]:
    table = folder / LABELS
    if not table.is_file():
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        return paths, None
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise DataError("needs the columns file and label, and a row for each picture", where=str(table))
    try:
        return [folder / row["file"] for row in rows], [int(row["label"]) for row in rows]
    except (ValueError, TypeError):
        raise DataError("a label is no whole number", where=str(table)) from None


def _decode(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    try:
        from PIL import Image as Pillow
        from PIL import ImageOps, UnidentifiedImageError
    except ImportError:
        raise UsageError("pictures need pillow", where=str(path), hint='pip install "modelopt-cli[images]"') from None
    try:
        with Pillow.open(path) as image:
            turned: Any = ImageOps.exif_transpose(image)  # a camera writes which side is up instead of turning
            return preprocessing.apply(turned)
    except FileNotFoundError:
        raise DataError("no such picture", where=str(path), hint=f"{LABELS} names it") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"is not a picture, or is damaged: {error}", where=str(path)) from error
    except ValueError as error:
        raise DataError(str(error), where=str(path)) from error
