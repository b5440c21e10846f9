"""Reads the pages that the tests of the report ask about."""

import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "link", "img", "br", "input", "circle", "path"}


class Page(HTMLParser):
    """Collects what the tests ask about; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.stack[-1] if self.stack else "", data))

    def text_of(self, tag: str) -> list[str]:
        return [text.strip() for holder, text in self.texts if holder == tag and text.strip()]

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def change_study(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    change(values)
    (folder / "study.json").write_text(json.dumps(values), encoding="utf-8")


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def table_rows(text: str, caption: str) -> list[list[str]]:
    """The cells of the first table whose caption begins so, as text, its head first."""
    found = re.search(rf"<caption><span>{re.escape(caption)}.*?</table>", text, flags=re.DOTALL)
    assert found, f"no table with the caption {caption!r}"
    rows = re.findall(r"<tr>(.*?)</tr>", found[0], flags=re.DOTALL)
    return [[plain(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, flags=re.DOTALL)] for row in rows]


def plain(part: str) -> str:
    """HTML as one line of text."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", part)).split())
