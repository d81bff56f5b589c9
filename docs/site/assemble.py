"""Put together what Sphinx reads: the README as first page, docs/, and a page for each command.

python docs/site/assemble.py build/docs/source
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from commands import manual_pages

ROOT = Path(__file__).resolve().parent.parent.parent
ORDER = (
    "measuring",
    "recipes",
    "quantization",
    "sensitivity",
    "pruning",
    "structured-pruning",
    "weight-only",
    "fusion",
)


def assemble(target: Path) -> None:
    """Write all sources of the site below ``target``, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "commands").mkdir(parents=True)
    pages = {path.stem: path for path in (ROOT / "docs").glob("*.md")}
    for path in pages.values():
        (target / path.name).write_text(as_page(path.read_text(), folder="docs"))
    shutil.copytree(ROOT / "docs" / "images", target / "images")
    manual = manual_pages()
    for page in manual:
        (target / "commands" / f"{page.name}.md").write_text(page.text)
    order = [*(name for name in ORDER if name in pages), *sorted(set(pages) - set(ORDER))]
    trees = contents("Guide", order) + contents("Commands", [f"commands/{page.name}" for page in manual])
    (target / "index.md").write_text(as_page((ROOT / "README.md").read_text(), folder="") + trees)


def as_page(text: str, folder: str) -> str:
    """Links between pages as they lie in the site; links to other files of the repository become their names."""

    def link(found: re.Match[str]) -> str:
        label, address = found[1], found[2]
        path = (ROOT / folder / address.partition("#")[0]).resolve()
        if re.match(r"[a-z]+:|#", address) or address.endswith((".svg", ".png")):
            return f"[{label}]({address.removeprefix('docs/')})"
        if path.parent == ROOT / "docs" and path.suffix == ".md":
            return f"[{label}]({path.name})"
        return f"`{path.relative_to(ROOT)}`"

    text = re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", link, text)
    return text.replace('="docs/images/', '="images/')


def contents(title: str, names: list[str]) -> str:
    """The pages of one part of the menu."""
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""])


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
