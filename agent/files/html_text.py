"""The worker process that turns an HTML page into text: JSON with `html` and `base` on stdin, UTF-8 text on stdout.

It is a process of its own because a malicious page can keep a parser busy for minutes.
"""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin

_NEVER_SHOWN = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "canvas", "title"})
_NAVIGATION = frozenset({"nav"})
_HEADING_TAGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_PARAGRAPHS = _HEADING_TAGS | {"p", "blockquote", "pre", "ul", "ol", "table", "figure", "section", "article"}
_BLOCKS = _PARAGRAPHS | {
    *("address", "aside", "body", "dd", "details", "dialog", "div", "dl", "dt", "fieldset", "figcaption", "footer"),
    *("form", "header", "hr", "li", "main", "nav", "summary", "tbody", "tfoot", "thead", "tr"),
}
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}


def html_to_text(html: str, base: str) -> str:
    """The page's text with its title, headings, lists, and links as `text (address)`."""
    page = _Page(base, _NEVER_SHOWN | _NAVIGATION)
    page.feed(html)
    page.close()
    if page.hidden:
        # An end tag is missing: rather include the navigation than lose half of the page.
        page = _Page(base, _NEVER_SHOWN - {"svg", "title"})
        page.feed(html)
        page.close()
    return page.text()


class _Page(HTMLParser):
    def __init__(self, base: str, skipped_tags: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.hidden: list[str] = []
        self._base = base
        self._skipped_tags = skipped_tags
        self._title: list[str] = []
        self._lines: list[str] = []
        self._line: list[str] = []
        self._prefix = ""
        self._lists: list[int | None] = []
        self._links: list[tuple[int, str]] = []
        self._preformatted = 0

    def text(self) -> str:
        self._break()
        title = " ".join("".join(self._title).split())
        lines = [title, "", *self._lines] if title else self._lines
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._skipped_tags:
            self.hidden.append(tag)
        if self.hidden:
            return
        attributes = dict(attrs)
        if tag in _BLOCKS:
            self._break()
            if tag in _PARAGRAPHS and not (tag in ("ul", "ol") and self._lists):
                self._lines.append("")
        match tag:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._prefix = _HEADINGS[tag]
            case "ul":
                self._lists.append(None)
            case "ol":
                self._lists.append(0)
            case "li":
                self._prefix = self._bullet()
            case "br":
                self._break()
            case "pre":
                self._preformatted += 1
                self._lines.append("```")
            case "td" | "th":
                if self._line:
                    self._line.append(" | ")
            case "img":
                if alt := (attributes.get("alt") or "").strip():
                    self._line.append(f"[image: {alt}]")
            case "a":
                self._links.append((len(self._line), attributes.get("href") or ""))
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        if self.hidden:
            if tag == self.hidden[-1]:
                self.hidden.pop()
            return
        match tag:
            case "a" if self._links:
                self._end_link(*self._links.pop())
            case "ul" | "ol" if self._lists:
                self._lists.pop()
            case "pre" if self._preformatted:
                self._break()
                self._preformatted -= 1
                self._lines.append("```")
            case _:
                pass
        if tag in _BLOCKS:
            self._break()
            if tag in _PARAGRAPHS and not self._lists:
                self._lines.append("")

    def handle_data(self, data: str) -> None:
        if self.hidden:
            if self.hidden[-1] == "title" and "svg" not in self.hidden:
                self._title.append(data)
        else:
            self._line.append(data)

    def _bullet(self) -> str:
        indent = "  " * (len(self._lists) - 1)
        if self._lists and (number := self._lists[-1]) is not None:
            self._lists[-1] = number + 1
            return f"{indent}{number + 1}. "
        return f"{indent}- "

    def _end_link(self, start: int, href: str) -> None:
        text = "".join(self._line[start:]).strip()
        if not text or not href or href.startswith(("#", "javascript:", "data:")):
            return
        try:
            address = urljoin(self._base, href.strip())
        except ValueError:
            return
        if address != text:
            self._line.append(f" ({address})")

    def _break(self) -> None:
        text = "".join(self._line)
        self._line.clear()
        self._links = [(0, href) for _, href in self._links]
        if self._preformatted:
            self._lines.extend(text.strip("\n").split("\n") if text.strip() else ())
        elif collapsed := " ".join(text.split()):
            self._lines.append(f"{self._prefix}{collapsed}")
            self._prefix = ""


if __name__ == "__main__":
    request = json.load(sys.stdin.buffer)
    sys.stdout.buffer.write(html_to_text(request["html"], request["base"]).encode(errors="replace"))
