from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.data.images import Preprocessing
from modelopt_cli.errors import DataError, UsageError
from modelopt_cli.graph.io import load_model
from modelopt_cli.testing import model_from_text

Image = pytest.importorskip("PIL.Image")
MODEL = model_from_text("g (float[n, 3, 4, 4] x) => (float[n, 3, 4, 4] y) { y = Relu(x) }")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of 6 x 8 pixels: red 10 times the index plus the column, green the row, blue 200."""
    where = tmp_path / "pictures"
    where.mkdir()
    rows, columns = np.mgrid[0:6, 0:8]
    for index in range(2):
        pixels = np.stack([columns + 10 * index, rows, np.full_like(rows, 200)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(where / f"{index}.png")
    return where


def first(folder: Path, **declared: object) -> np.ndarray:
    return next(iter(open_dataset(folder, images=Preprocessing(**declared))))[""][0]


def test_pictures_bind_to_the_only_input(folder: Path) -> None:
    bound = bind(open_dataset(folder, images=Preprocessing(crop=4)), MODEL)
    samples = [sample["x"] for sample in bound]
    assert [(sample.shape, sample.dtype) for sample in samples] == [((1, 3, 4, 4), np.float32)] * 2
    assert samples[1][0, 0, 0].tolist() == [12, 13, 14, 15]  # cut from the middle
    assert samples[0][0, 1, :, 0].tolist() == [1, 2, 3, 4]
    assert bound.labels is None


def test_numbers_follow_the_declaration(folder: Path) -> None:
    plain = first(folder)
    np.testing.assert_allclose(first(folder, mean=127, std=128), (plain - 127) / 128, rtol=1e-6)
    by_channel = first(folder, range=1, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    np.testing.assert_allclose(by_channel[2], (200 / 255 - 0.3) / 0.3, rtol=1e-5)
    assert first(folder, channels="bgr")[0, 0, 0] == 200
    assert first(folder, layout="nhwc").shape == (6, 8, 3)
    assert first(folder, channels="gray").shape == (1, 6, 8)
    assert first(folder, dtype="uint8").dtype == np.uint8
    assert first(folder, resize=3).shape == (3, 3, 4)  # the shorter side; proportions stay
    assert first(folder, resize=(5, 5)).shape == (3, 5, 5)


def test_labels_come_from_the_table_and_its_order_counts(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\n1.png,7\n0.png,3\n")
    (folder / "preprocess.yaml").write_text("crop: 4\nmean: 127\n")
    dataset = open_dataset(folder)
    assert dataset.labels is not None and dataset.labels.tolist() == [7, 3]
    assert next(iter(dataset))[""][0, 0, 0, 0] == 12 - 127


def test_the_declaration_may_lie_beside_the_folder(folder: Path) -> None:
    (folder.parent / "preprocess.yaml").write_text("{crop: 4, input: x}\n")
    assert bind(open_dataset(folder), MODEL).members == {"x": "x"}


def test_another_preprocessing_is_other_data(folder: Path) -> None:
    digests = {open_dataset(folder, images=Preprocessing(crop=4, mean=mean)).digest() for mean in (0, 0, 1)}
    assert len(digests) == 2


def test_nothing_is_guessed(folder: Path) -> None:
    with pytest.raises(UsageError, match="nothing says how") as refused:
        open_dataset(folder)
    assert "preprocess.yaml" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [("crops: 4", "crops: Extra"), ("std: 0", "std: "), ("crop: [", "is not YAML"), ("layout: hwc", "layout: ")],
)
def test_a_bad_declaration_is_named(folder: Path, text: str, words: str) -> None:
    (folder / "preprocess.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("file,label\n9.png,1\n", "no such picture"),
        ("name,y\n0.png,1\n", "columns file"),
        ("file,label\n0.png,a", "no whole"),
    ],
)
def test_a_bad_table_is_named(folder: Path, labels: str, words: str) -> None:
    (folder / "labels.csv").write_text(labels)
    with pytest.raises(DataError, match=words):
        open_dataset(folder, images=Preprocessing())


def test_pictures_that_differ_or_are_damaged_are_named(folder: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "1.png")
    with pytest.raises(DataError, match=r"1.png: gives \[3, 9, 9\], and the first picture \[3, 6, 8\]"):
        list(open_dataset(folder, images=Preprocessing()))
    with pytest.raises(DataError, match="fewer than the crop"):
        open_dataset(folder, images=Preprocessing(crop=7))
    (folder / "1.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(DataError, match="not a picture"):
        list(open_dataset(folder, images=Preprocessing()))


@pytest.mark.zoo
def test_the_real_classifier_takes_its_photos(zoo: Path) -> None:
    folder = zoo / "efficientnet_lite0"
    images = Preprocessing(mean=127, std=128)
    bound = bind(open_dataset(folder / "eval", images=images, samples=4), load_model(folder / "model.onnx").model)
    assert bound.labels is not None and len(bound.labels) == 4
    sample = next(iter(bound))["input"]
    assert sample.shape == (1, 3, 224, 224) and -1 <= sample.min() < sample.max() <= 1
