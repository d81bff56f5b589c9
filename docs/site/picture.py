"""The README's picture: the top of a report's page, from a real run on a sample model, light and dark.

python docs/site/picture.py     # needs Chromium and pillow; writes docs/images/report-*.png
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "sample_models" / "digits_resnet"
WIDTH, HEIGHT = 1100, 548  # pixels of the page that are shown
COLOURS = 128  # a page of few colours: a third of the bytes, and nobody sees it
SCHEMES = {"light": [], "dark": ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]}
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def make(folder: Path) -> None:
    """Compress, and take the pictures."""
    page = folder / "page.html"
    names = {name: folder / name for name in ("model.onnx", "calib.npz", "eval.npz")}
    for name, path in names.items():
        shutil.copy((MODEL if name != "eval.npz" else MODEL.parent) / name, path)
    command = ["modelopt", "compress", *(str(names["model.onnx"]), "--calib", str(names["calib.npz"]))]
    command += ["--eval", str(names["eval.npz"]), "--report", str(page), "--set", "profile.seconds=8"]
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=True)
    for scheme, flags in SCHEMES.items():
        take(page, ROOT / "docs" / "images" / f"report-{scheme}.png", flags)


def take(page: Path, picture: Path, flags: list[str]) -> None:
    """One picture of the page's top."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no chromium on this machine")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    size = f"--window-size={WIDTH},{HEIGHT}"
    command = [browser, *FLAGS, *flags, profile, size, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
