"""Sphinx: the pages of docs/ with the README in front, and a page of the manual for each command."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from commands import manual_pages

from modelopt_cli import __version__

project = "modelopt"
version = release = __version__
copyright = "the modelopt authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"modelopt {version}"
html_show_sphinx = False
exclude_patterns: list[str] = []
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]  # links to files of the repository; console text
man_pages = [(f"commands/{page.name}", page.name, page.summary, "", 1) for page in manual_pages()]
