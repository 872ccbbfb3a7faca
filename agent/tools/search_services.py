"""Search services: how each is asked, and what it finds. Pure; all of them answer in JSON over HTTP."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

ServiceName = Literal["brave", "tavily", "exa", "searxng"]

URLS: Mapping[ServiceName, str] = {
    "brave": "https://api.search.brave.com/res/v1",
    "tavily": "https://api.tavily.com",
    "exa": "https://api.exa.ai",
    "searxng": "",
}

MAX_SNIPPET = 1_500
MAX_TITLE = 300
MAX_URL = 2_000

_TAG = re.compile(r"<[^<>]{0,500}>")


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A GET request with `query`, or a POST request with a JSON `body`, to a path below the service's address."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A page: `age` says when it was published, as the service writes it."""

    title: str
    url: str
    text: str = ""
    age: str = ""


def search_request(service: ServiceName, key: str, query: str, count: int) -> SearchRequest:
    match service:
        case "brave":
            # https://api-dashboard.search.brave.com/app/documentation/web-search/get-started
            headers = {"X-Subscription-Token": key, "Accept": "application/json"}
            return SearchRequest("/web/search", headers, {"q": query[:400], "count": str(min(count, 20))})
        case "tavily":
            # https://docs.tavily.com/documentation/api-reference/endpoint/search
            body = {"query": query, "max_results": min(count, 20)}
            return SearchRequest("/search", {"Authorization": f"Bearer {key}"}, body=body)
        case "exa":
            # https://docs.exa.ai/reference/search
            contents = {"highlights": {"numSentences": 3, "highlightsPerUrl": 1}}
            body = {"query": query, "numResults": count, "contents": contents}
            return SearchRequest("/search", {"x-api-key": key}, body=body)
        case "searxng":
            # https://docs.searxng.org/dev/search_api.html
            return SearchRequest("/search", {}, {"q": query, "format": "json"})
        case _:
            assert_never(service)


def found(service: ServiceName, answer: object, count: int) -> list[Found] | None:
    """The pages in the service's answer, best first; None if it is no answer of this service."""
    match service, answer:
        case "brave", {"web": {"results": list(results)}}:
            pages = _pages(results, "title", "url", "description", "age")
        case "brave", {"type": "search"}:
            # It has no section of the web when it has found nothing.
            return []
        case "tavily", {"results": list(results)}:
            pages = _pages(results, "title", "url", "content", "published_date")
        case "exa", {"results": list(results)}:
            pages = _pages(results, "title", "url", "highlights", "publishedDate")
        case "searxng", {"results": list(results)}:
            pages = _pages(results, "title", "url", "content", "publishedDate")
        case _:
            return None
    return list(pages)[:count]


def _pages(results: list[object], title: str, url: str, text: str, age: str) -> Iterator[Found]:
    for result in results:
        if not isinstance(result, dict):
            continue
        address = result.get(url)
        if isinstance(address, str) and address.startswith(("http://", "https://")) and len(address) <= MAX_URL:
            name = _plain(result.get(title), MAX_TITLE) or address
            yield Found(name, address, _plain(result.get(text), MAX_SNIPPET), _plain(result.get(age), 40))


def _plain(value: object, limit: int) -> str:
    """Text without markup, on one line."""
    if isinstance(value, list):
        value = " … ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return ""
    line = " ".join(html.unescape(_TAG.sub("", value[: 4 * limit])).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
