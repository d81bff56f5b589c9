"""Everything that needs a GPU, in one run: ``make gpu`` writes RESULTS-gpu.md. Without a GPU it says so and stops (5).

For each model and each way of making it smaller: speed against the original on the same provider, size, agreement, and
which provider took what share of the nodes. A refusal is a row as well, with its reason.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import machine
from benchmarks.table import table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS-gpu.md"
FOLDERS = (HERE.parent / "sample_models", HERE.parent.parent / "shared" / "zoo")
MODELOPT = (sys.executable, "-m", "modelopt_cli")


@dataclass(frozen=True)
class Way:
    """A recipe on a provider; ``provider`` as after ``--provider``."""

    provider: str
    recipe: str


WAYS = (
    Way("cuda", "fuse"),
    Way("cuda", "fp16"),
    Way("cuda", "int8-weights"),
    Way("cuda", "int4-weights"),
    Way("tensorrt", "fuse"),
    Way("tensorrt:fp16=1", "fuse"),
    Way("tensorrt:fp16=1", "int8"),
)
HEAD = ("model", "provider", "recipe", "time, share of the original's", "size", "agreement", "nodes on it", "exit")


def refusal() -> str:
    """Why there is nothing to run on; empty when a model runs on CUDA."""
    import onnx

    from modelopt_cli.errors import ModelOptError
    from modelopt_cli.profiling.session import open_session

    text = '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Add(x, x) }'
    try:
        open_session(onnx.parser.parse_model(text).SerializeToString(), provider="cuda")
    except ModelOptError as error:
        return str(error)
    return ""


def models(folders: Sequence[Path] = FOLDERS) -> list[Path]:
    """Every model that has calibration data beside it."""
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*/model.onnx"))]
    return [path for path in found if calibration(path) is not None]


def calibration(model: Path) -> Path | None:
    """The data beside a model."""
    names = ("calib.npz", "calib.f16.npz", "calib")
    return next((path for name in names if (path := model.with_name(name)).exists()), None)


def measure(model: Path, way: Way, seconds: float = 4.0) -> tuple[str, ...]:
    """One row of the table."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        out = Path(folder) / "out.onnx"
        words = ("compress", model, "--recipe", way.recipe, "--provider", way.provider, "--calib", calibration(model))
        done = _run(*words, "-o", out, "--json", "-q", "--set", f"profile.seconds={seconds}")
        head = (model.parent.name, way.provider, way.recipe)
        if not done.stdout:
            reason = next((line for line in done.stderr.splitlines() if "error: " in line), "no word")
            return (*head, reason.partition("error: ")[2] or reason, "", "", "", str(done.returncode))
        report = json.loads(done.stdout)
        return (*head, *_figures(report), _placement(out, way), str(done.returncode))


def _figures(report: dict) -> tuple[str, str, str]:
    latency = report["latency"][0]
    ratio = f"{latency['ratio']:.2f} [{latency['ratio_low']:.2f}, {latency['ratio_high']:.2f}]"
    size = f"{report['result']['file_bytes'] / report['original']['file_bytes']:.2f}"
    outputs = (report["fidelity"] or {}).get("agreement", [])
    top1 = min((each["top1"] for each in outputs if each["top1"] is not None), default=None)
    worst = min((float(each["sqnr_db"]) for each in outputs), default=float("nan"))
    return ratio, size, f"{worst:.1f} dB" if top1 is None else f"{top1:.1%}, {worst:.1f} dB"


def _placement(out: Path, way: Way) -> str:
    done = _run("profile", out, "--provider", way.provider, "--allow-fallback", "--duration", "0.2", "--json")
    if done.returncode:
        return next((line for line in done.stderr.splitlines() if "error: " in line), "no word")
    placement = json.loads(done.stdout)["entries"][0]["placement"]
    shares = [] if placement is None else placement["shares"]
    return ", ".join(f"{each['provider']} {each['node_share']:.0%}" for each in shares)


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODELOPT, *map(str, words)], capture_output=True, text=True, check=False, timeout=3600)


def write(rows: Sequence[Sequence[str]], path: Path = RESULTS) -> None:
    """The page."""
    doctor = _run("doctor").stdout.rstrip()
    parts = [
        "# Results on a GPU\n\nWritten by `make gpu`, never by hand.\n",
        table(HEAD, rows),
        f"\nGPU: {_gpu()}; {machine()}.\n\n```\n{doctor}\n```\n",
    ]
    path.write_text("\n".join(parts))


def _gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none"
    words = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="only models with this in their path")
    parser.add_argument("--check", action="store_true", help="only say whether there is a GPU to run on")
    asked = parser.parse_args()
    if why := refusal():
        print(f"make gpu: nothing was run, and {RESULTS.name} is as it was: {why}", file=sys.stderr)
        sys.exit(5)
    if asked.check:
        return
    rows = []
    for model in models():
        for way in WAYS if asked.model in str(model) else ():
            rows.append(measure(model, way))
            print("  ".join(rows[-1]), flush=True)
            write(rows)  # after each: an interrupted run keeps what it has


if __name__ == "__main__":
    main()
