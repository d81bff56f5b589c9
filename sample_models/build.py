"""Make the sample models and their data again, from the digits: `python build.py --digits mnist10k.npz [NAME ...]`.

For each model: train by a fixed seed, export `<name>/model.onnx`, write its data beside it, and measure the exported
file with onnxruntime; a model below its floor is an error. Runs on one thread, so that the same machine with the
packages of requirements-build.txt writes the same bytes. The `judge.json` files are written by hand.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from training import architectures, data, detection
from training.export import Exporter, export
from training.fit import classifier_loss, fit

HERE = Path(__file__).resolve().parent
CALIBRATION_SAMPLES = 256
EVALUATION_SCENES = 300
BATCH = 128
SCENE_BATCH = 32
SCENE_BATCHES_PER_EPOCH = 100


@dataclass(frozen=True)
class Sample:
    """How one sample model is made. `floor` is the least top-1 (detector: F1) that the exported file must reach."""

    network: Callable[[], nn.Module]
    epochs: int
    peak_rate: float
    floor: float
    exporter: Exporter = "torchscript"
    keep_batchnorm: bool = False


CLASSIFIERS = {
    "digits_resnet": Sample(architectures.ResNet, epochs=8, peak_rate=6e-3, floor=0.975, keep_batchnorm=True),
    "digits_mobilenet": Sample(architectures.MobileNet, epochs=8, peak_rate=6e-3, floor=0.97),
    "digits_vit": Sample(architectures.VisionTransformer, epochs=24, peak_rate=2e-3, floor=0.96, exporter="dynamo"),
    "digits_lstm": Sample(architectures.RowLSTM, epochs=16, peak_rate=6e-3, floor=0.965),
}
DETECTORS = {"digits_detector": Sample(architectures.Detector, epochs=12, peak_rate=4e-3, floor=0.9)}


def as_stored(image: Tensor) -> NDArray[np.float16]:
    """Images as the .npz files hold them: half the bytes, and within 0.05 % of each pixel. Readers want float32."""
    return image.numpy().astype(np.float16)


def run_model(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Output of the exported model for all images, in batches of 100."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[i : i + 100]})[0] for i in range(0, len(image), 100)])


def build_classifier(sample: Sample, folder: Path, train: data.Digits, test: data.Digits) -> tuple[nn.Module, float]:
    """Train and export one classifier, write its `calib.npz`; its top-1 on the evaluation digits."""
    model, generator = sample.network(), torch.Generator().manual_seed(1)
    batches = partial(data.digit_batches, train, BATCH, generator)
    steps = len(train.image) // BATCH
    fit(model, batches, steps, classifier_loss, epochs=sample.epochs, peak_rate=sample.peak_rate)
    export(
        model,
        train.image[:2],
        folder / "model.onnx",
        "logits",
        exporter=sample.exporter,
        keep_batchnorm=sample.keep_batchnorm,
    )
    np.savez_compressed(folder / "calib.npz", image=as_stored(train.image[:CALIBRATION_SAMPLES]))
    logits = run_model(folder / "model.onnx", as_stored(test.image).astype(np.float32))
    return model, float((logits.argmax(1) == test.label.numpy()).mean())


def build_detector(sample: Sample, folder: Path, train: data.Digits, test: data.Digits) -> tuple[nn.Module, float]:
    """Train and export the detector, write its own `calib.npz` and `eval.npz`; its F1 on the latter."""
    model = sample.network()
    batches = partial(data.scene_batches, train, SCENE_BATCH, SCENE_BATCHES_PER_EPOCH, np.random.default_rng(1))
    fit(
        model,
        batches,
        SCENE_BATCHES_PER_EPOCH,
        detection.detection_loss,
        epochs=sample.epochs,
        peak_rate=sample.peak_rate,
    )
    calibration = data.make_scenes(train, CALIBRATION_SAMPLES, np.random.default_rng(2))
    evaluation = data.make_scenes(test, EVALUATION_SCENES, np.random.default_rng(3))
    export(model, calibration.image[:2], folder / "model.onnx", "detections", exporter=sample.exporter)
    image, boxes = as_stored(evaluation.image), evaluation.boxes.numpy()
    np.savez_compressed(folder / "calib.npz", image=as_stored(calibration.image))
    np.savez_compressed(folder / "eval.npz", image=image, boxes=boxes)
    return model, detection.f1_score(run_model(folder / "model.onnx", image.astype(np.float32)), boxes)


def build(name: str, train: data.Digits, test: data.Digits, out: Path) -> bool:
    """Make one model by name and print its figures; False when it misses its floor."""
    start = time.monotonic()
    print(name, flush=True)
    torch.manual_seed(0)
    folder = out / name
    folder.mkdir(exist_ok=True)
    if name in CLASSIFIERS:
        sample, metric = CLASSIFIERS[name], "top-1"
        model, score = build_classifier(sample, folder, train, test)
    else:
        sample, metric = DETECTORS[name], "F1"
        model, score = build_detector(sample, folder, train, test)
    parameters = sum(p.numel() for p in model.parameters())
    size = (folder / "model.onnx").stat().st_size
    seconds = time.monotonic() - start
    print(f"  {parameters} parameters, {size} bytes, {metric} {score:.4f}, made in {seconds:.0f} s", flush=True)
    if score < sample.floor:
        print(f"  {metric} is below the floor of {sample.floor}", file=sys.stderr)
    return score >= sample.floor


def main() -> int:
    """Parse the command line and build what it names, or everything."""
    names = [*CLASSIFIERS, *DETECTORS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models to make (default: all of {', '.join(names)})")
    parser.add_argument("--digits", type=Path, required=True, help="mnist10k.npz: 8,000 + 2,000 MNIST digits")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this file)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no such model: {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train, test = data.load_digits(args.digits)
    args.out.mkdir(parents=True, exist_ok=True)
    # `image` comes first in every file: readers take the number of samples from the first array.
    np.savez_compressed(args.out / "eval.npz", image=as_stored(test.image), labels=test.label.numpy())
    results = [build(name, train, test, args.out) for name in args.names or names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
