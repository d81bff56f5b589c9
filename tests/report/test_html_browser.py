"""Pages of real runs in a real Chromium: a CNN, a transformer and a pruned model; two widths, light and dark.

A script around a frame of the very width (browsers have a least width of windows) measures what does not fit.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from html_page import Page
from test_html_numbers import assert_all_numbers_are_of_the_json

from modelopt_cli import CompressOptions, compress, load_model, load_recipe, open_dataset
from modelopt_cli.report.html import to_html
from modelopt_cli.report.serialize import to_json

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser's own calls home end here too
    "--allow-file-access-from-files",
]
DARK = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
RUNS = {
    "cnn": ("digits_resnet", "int8"),
    "transformer": ("digits_vit", "int8"),
    "pruned": ("digits_resnet", "prune-int8"),
    "channels": ("digits_resnet", "prune-30-macs"),
}
FRAME = """<body style="margin:0"><iframe id="page" src="%s" style="border:0;width:%dpx;height:4000px"></iframe>
<script>
addEventListener("load", () => {
  const page = document.getElementById("page").contentDocument, root = page.documentElement;
  const inner = (e) => e.closest(".scroll, .tall, pre, svg, .of");
  const text = (e) => e.className + ": " + e.textContent.slice(0, 40);
  const wide = [...page.body.querySelectorAll("*")]
    .filter((e) => !inner(e) || e.matches(".scroll, .tall"))
    .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1);
  const cut = [...page.querySelectorAll("h1, h2, .card *, .label *, .kernel b")]
    .filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != "inline");
  const asked = page.defaultView.performance.getEntriesByType("resource").map((e) => e.name);
  const ground = getComputedStyle(page.body).backgroundColor;
  document.title = JSON.stringify({scroll: root.scrollWidth, wide: wide.map(text), cut: cut.map(text), ground, asked});
});
</script>"""


@dataclass(frozen=True)
class Seen:
    """What the script found, and the page's picture."""

    found: dict[str, object]
    picture: Path


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        # A browser is 400 MB and not of the package index; what the page holds is tested as text without it.
        pytest.skip("no chromium on this machine")
    return found


@pytest.fixture(scope="module", params=RUNS)
def page(request: pytest.FixtureRequest, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run, with its JSON beside it."""
    model, recipe = RUNS[request.param]
    options = CompressOptions(
        calibration=open_dataset(samples / model / "calib.npz"),
        evaluation=open_dataset(samples / "eval.npz"),
        budget_s=0.5,
        inside=True,
    )
    report = compress(load_model(samples / model / "model.onnx"), load_recipe(recipe), options).report
    path = tmp_path_factory.mktemp(request.param) / "page.html"
    path.write_text(to_html(report))
    path.with_suffix(".json").write_text(to_json(report))
    return path


def look(browser: str, page: Path, width: int, *, dark: bool) -> Seen:
    folder = page.parent / f"{width}-{dark}"
    folder.mkdir(exist_ok=True)
    (folder / "frame.html").write_text(FRAME % (page.as_uri(), width))
    flags = [*FLAGS, *(DARK if dark else []), f"--window-size={max(width, 520)},4000"]
    picture = folder / "page.png"
    url = (folder / "frame.html").as_uri()
    dump = [browser, *flags, f"--user-data-dir={folder / 'a'}", "--dump-dom", url]
    done = subprocess.run(dump, check=True, capture_output=True, text=True, timeout=120)
    shot = [browser, *flags, f"--user-data-dir={folder / 'b'}", f"--screenshot={picture}", url]
    subprocess.run(shot, check=True, capture_output=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stdout[:2000]
    return Seen(json.loads(title[1].replace("&amp;", "&").replace("&gt;", ">").replace("&lt;", "<")), picture)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_or_runs_out_of_the_page(browser: str, page: Path, width: int, dark: bool) -> None:
    from PIL import Image

    seen = look(browser, page, width, dark=dark)
    assert seen.found["scroll"] == width
    assert seen.found["wide"] == []
    assert seen.found["cut"] == []
    ground = [int(part) for part in re.findall(r"\d+", str(seen.found["ground"]))]
    assert (max(ground) < 60) if dark else (min(ground) > 200)
    with Image.open(seen.picture) as image:
        shown = image.convert("RGB").crop((0, 0, width, 4000))
        assert len(shown.getcolors(maxcolors=1 << 24) or ()) > 100
        assert max(abs(a - b) for a, b in zip(shown.getpixel((2, 2)), ground, strict=False)) < 4


def test_nothing_is_requested(browser: str, page: Path) -> None:
    assert look(browser, page, 1280, dark=False).found["asked"] == []


def test_a_request_would_be_seen(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://example.org/a.png">')
    assert look(browser, page, 1280, dark=False).found["asked"] == ["http://example.org/a.png"]


def test_a_page_of_a_real_run_is_small_and_says_what_the_json_says(page: Path) -> None:
    text = page.read_text()
    assert len(text.encode()) < 1_000_000
    assert_all_numbers_are_of_the_json(Page(text), json.loads(page.with_suffix(".json").read_text()))
