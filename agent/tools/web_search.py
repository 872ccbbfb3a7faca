"""The search tool: asks a search service for pages of the web."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import httpx
from pydantic import Field

from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.search_services import URLS, Found, SearchRequest, ServiceName, found, search_request

TIMEOUT = 30.0
MAX_BYTES = 4_000_000
MAX_COUNT = 20

Query = Annotated[str, Field(min_length=1, max_length=1000, description="Words to search for.")]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT, description="How many pages.")]


@dataclass(frozen=True, slots=True)
class SearchService:
    """A service with the operator's `key` for it. `url` is its address, "" for its own."""

    name: ServiceName
    key: str = ""
    url: str = ""


async def search(service: SearchService | None, context: ToolContext, query: Query, count: Count = 5) -> ToolResult:
    """The pages that the service finds. Raises `ToolError`."""
    if service is None:
        raise ToolError("No search service is configured.")
    request = search_request(service.name, service.key, query, count)
    pages = found(service.name, await _ask(service, request), count)
    if pages is None:
        raise ToolError(f"The answer of {service.name} is not one of a search. The operator has to check its address.")
    if not pages:
        return ToolResult(f"Nothing was found for “{query}”.")
    return ToolResult(_text(pages), foreign=tuple(page.url for page in pages))


@tool(effect="read", timeout=45, foreign=True)
async def web_search(context: ToolContext, query: Query, count: Count = 5) -> ToolResult:
    """Searches the web; returns titles, addresses and excerpts. Read a page with fetch_url before you rely on it, and
    name your sources."""
    return await search(None, context, query, count)


def web_search_with(service: SearchService) -> Tool:
    """The tool that asks this service."""
    return replace(web_search, run=partial(search, service))


async def _ask(service: SearchService, request: SearchRequest) -> object:
    """The answer's JSON value. Raises `ToolError`."""
    base = (service.url or URLS[service.name]).rstrip("/")
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, headers={"User-Agent": "Interject"}) as client,
            client.stream(
                "GET" if request.body is None else "POST",
                f"{base}{request.path}",
                headers=request.headers,
                params=request.query or None,
                json=request.body,
            ) as response,
        ):
            body = await _read(service, response)
    except httpx.TimeoutException:
        raise ToolError(f"{service.name} did not answer within {TIMEOUT:g} s. Please try again.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ToolError(f"{service.name} could not be reached: {type(error).__name__}.") from error
    if not response.is_success:
        raise ToolError(_refusal(service, response, body))
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


async def _read(service: SearchService, response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_BYTES:
            raise ToolError(f"The answer of {service.name} is larger than {MAX_BYTES:,} bytes and was not read.")
    return bytes(body)


def _refusal(service: SearchService, response: httpx.Response, body: bytes) -> str:
    """Without the server's words, which may quote the key."""
    name = service.name
    # Brave's code for a wrong key comes with the status of a wrong request.
    match 401 if b"SUBSCRIPTION_TOKEN_INVALID" in body else response.status_code:
        case 403 if name == "searxng":
            return f"{name} does not answer in JSON. The operator has to allow the format json in its settings."
        case 401 | 403:
            return f"{name} did not accept the API key. The operator of this gateway has to check it."
        case 402 | 432 | 433:
            # Tavily's own: https://docs.tavily.com/documentation/api-reference/endpoint/search
            return f"The plan at {name} is used up. The operator of this gateway has to check it."
        case 429:
            wait = response.headers.get("retry-after", "")
            return (
                f"The rate limit of {name} is reached. Try again in {f'{wait} s' if wait.isdecimal() else 'a moment'}."
            )
        case status if status >= 500:
            return f"{name} has an internal error ({status}). Please try again."
        case status:
            return f"{name} rejected the search ({status})."


def _text(pages: list[Found]) -> str:
    return "\n\n".join(
        "\n".join(filter(None, (f"{number}. {page.title}", page.url, page.age, page.text)))
        for number, page in enumerate(pages, 1)
    )
