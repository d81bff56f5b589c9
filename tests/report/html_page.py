"""What a browser would see of a page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "rect", "line", "circle", "path"}
NOT_SHOWN = ("style", "title")
OF_THE_USER = ("pre", "code")  # commands, names: their digits are not figures


class Page(HTMLParser):
    """What a browser would see: tags that are closed in order, attributes, texts of the facts, other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.facts: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.loose: list[str] = []
        self._fact: tuple[str, str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)
        found = dict(attrs)
        if "data-path" in found:
            self._fact = (found["data-path"] or "", found["data-value"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "span":
            self._fact = None

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if self._fact is not None:
            self.facts.append((*self._fact, data))


def find(content: Any, pointer: str) -> Any:
    """The value at a JSON pointer."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content
