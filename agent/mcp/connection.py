"""A connection to an MCP server, over the SDK: its lists, calls, resources and prompts, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, Protocol

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.session import ClientRequestContext
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from agent.gate import one_line
from agent.mcp.errors import McpError, PagesNeeded
from agent.mcp.listing import MAX_TOOLS, ListedTool, Listing
from agent.mcp.prompts import MAX_ARGUMENTS, MAX_PROMPT_NAME, Prompt, PromptArgument
from agent.mcp.results import Contents, prompt_result, resource_result, tool_result
from agent.mcp.sources import ProcessSource, Source, Wire
from agent.mcp.transports import PROBLEMS, bounded, over_http, over_process, over_sse
from agent.media import MediaStore
from agent.tool_result import ToolResult

MAX_PAGES = 20
"""Pages of one list that are read."""

MAX_LISTED = 200
"""Resources, and prompts, that are listed."""

MAX_PAGES_TO_OPEN = 3
"""Pages that a server may have a person open before one call."""

LISTEN_AGAIN = 5.0
"""Seconds between the end of a stream of changes and the next one."""

Sample = Callable[[types.CreateMessageRequestParams], Awaitable[types.CreateMessageResult]]
"""The model's answer to the server. Raises `McpError`."""

Elicit = Callable[[types.ElicitRequestParams], Awaitable[types.ElicitResult]]
"""People's answer to the server. Raises `McpError`."""

Mode = Literal["auto", "legacy"]
OnProgress = Callable[[str], Awaitable[None]]


class Observer(Protocol):
    """What a server says of itself. Called often; must return quickly."""

    def changed(self) -> None:
        """Its tools or prompts are other ones."""

    def closed(self) -> None:
        """Nothing arrives any more."""

    def complains(self, line: str) -> None:
        """A line of its stderr, if it is a program."""

    async def says(self, level: str, text: str) -> None:
        """A line of its log, of any length and with any characters."""


class Connection:
    """Methods raise `McpError`. Cancelling a call cancels it at the server (`notifications/cancelled`)."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def has_resources(self) -> bool:
        """Many servers declare that they can have some, and have none."""
        return self._client.server_capabilities.resources is not None and bool(await self._resource_lines())

    async def tools(self) -> Listing:
        if self._client.server_capabilities.tools is None:
            return Listing()
        found: list[ListedTool] = []
        problems: list[str] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            with _errors():
                page = await self._client.list_tools(cursor=cursor, cache_mode="refresh")
            found += (_listed(tool) for tool in page.tools)
            problems += map(str, (page.meta or {}).get(PROBLEMS, ()))
            cursor = page.next_cursor
            if cursor is None or len(found) > MAX_TOOLS:
                break
        else:
            problems.append(f"its list of tools has more than {MAX_PAGES} pages")
        if len(found) > MAX_TOOLS:
            problems.append(f"it lists more than {MAX_TOOLS} tools")
        return Listing(tuple(found[:MAX_TOOLS]), tuple(problems))

    async def call(
        self, name: str, arguments: Mapping[str, Any], media: MediaStore, on_progress: OnProgress
    ) -> ToolResult:
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            await on_progress(_progress_text(progress, total, message))

        with _errors():
            result = await self._client.call_tool(name, dict(arguments), progress_callback=progress)
        return await tool_result(result, media, self._contents)

    async def resources(self) -> str:
        """The resources, and the patterns of resources, a line each."""
        lines = await self._resource_lines()
        more = f"\n[{len(lines) - MAX_LISTED} more are left out]" if len(lines) > MAX_LISTED else ""
        return "\n".join(lines[:MAX_LISTED]) + more if lines else "The server has no resources."

    async def _resource_lines(self) -> list[str]:
        with _errors():
            listed = await self._client.list_resources(cache_mode="refresh")
        lines = [_line(each.uri, each.title or each.name, each.description) for each in listed.resources]
        with contextlib.suppress(MCPError, ValidationError):
            # Many servers have no patterns, and say so with an error.
            templates = await self._client.list_resource_templates(cache_mode="refresh")
            lines += [
                _line(each.uri_template, each.title or each.name, each.description)
                for each in templates.resource_templates
            ]
        return lines

    async def resource(self, uri: str, media: MediaStore) -> ToolResult:
        return await resource_result(await self._contents(uri), media)

    async def _contents(self, uri: str) -> Sequence[Contents]:
        with _errors():
            return (await self._client.read_resource(uri, cache_mode="refresh")).contents

    async def prompts(self) -> tuple[Prompt, ...]:
        if self._client.server_capabilities.prompts is None:
            return ()
        with _errors():
            listed = await self._client.list_prompts(cache_mode="refresh")
        return tuple(map(_prompt, filter(_is_usable, listed.prompts[:MAX_LISTED])))

    async def prompt(self, name: str, arguments: Mapping[str, str], media: MediaStore) -> ToolResult:
        """A prompt with these arguments."""
        with _errors():
            prompt = await self._client.get_prompt(name, dict(arguments))
        return await prompt_result(prompt.messages, media, self._contents)

    async def listen(self, observer: Observer) -> None:
        """Tells of changes, where the protocol wants that to be asked for. Returns where it does not."""
        if self._client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return
        while True:
            with contextlib.suppress(SubscriptionLost):
                try:
                    async with self._client.listen(tools_list_changed=True, prompts_list_changed=True) as changes:
                        async for _ in changes:
                            observer.changed()
                except (ListenNotSupportedError, MCPError):
                    return
            await asyncio.sleep(LISTEN_AGAIN)
            observer.changed()


@asynccontextmanager
async def connect(
    wire: Wire,
    source: Source,
    mode: Mode,
    observer: Observer,
    sample: Sample | None = None,
    elicit: Elicit | None = None,
) -> AsyncIterator[Connection]:
    """A connection whose handshake is done; `observer` is told what it says. Raises `McpError`.

    `mode` "legacy" leaves out the question for the version of the protocol, which some older servers cannot bear.
    Without `sample` a server is told that it cannot ask the model, and without `elicit` that it cannot ask people.
    """

    async def handle(message: types.ServerNotification | Exception) -> None:
        if isinstance(message, types.ToolListChangedNotification | types.PromptListChangedNotification):
            observer.changed()
        elif isinstance(message, Exception):
            await observer.says("warning", str(message))

    async def handle_log(params: types.LoggingMessageNotificationParams) -> None:
        data = params.data
        await observer.says(params.level, data if isinstance(data, str) else str(data)[:2000])

    async def answer(
        context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        assert sample is not None
        try:
            return await sample(params)
        except McpError as error:
            return types.ErrorData(code=types.INVALID_REQUEST, message=str(error))

    async def ask_people(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        assert elicit is not None
        try:
            return await elicit(params)
        except McpError as error:
            return types.ErrorData(code=types.INVALID_REQUEST, message=str(error))

    client = Client(
        bounded(_transport(wire, source, observer), observer.closed),
        mode=mode,
        cache=None,
        client_info=types.Implementation(name="interject", version="1"),
        logging_callback=handle_log,
        log_level="info",
        message_handler=handle,
        sampling_callback=None if sample is None else answer,
        elicitation_callback=None if elicit is None else ask_people,
    )
    with _errors():
        async with client:
            yield Connection(client)


def _transport(wire: Wire, source: Source, observer: Observer) -> AbstractAsyncContextManager[Any]:
    if isinstance(source, ProcessSource):
        return over_process(source, observer.complains)
    return over_sse(source) if wire == "sse" else over_http(source)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """The SDK's errors as ours."""
    try:
        yield
    except MCPError as error:
        if error.code == types.URL_ELICITATION_REQUIRED:
            raise _pages_needed(error) from error
        # The SDK's words for the answer 404: the server does not know the session (any more).
        unknown = error.message == "Session terminated"
        lost = unknown or error.code == types.CONNECTION_CLOSED
        text = "the connection was lost" if error.code == types.CONNECTION_CLOSED else one_line(error.message, 1000)
        raise McpError(text or f"error {error.code}", lost=lost, not_run=unknown) from error
    except ValidationError as error:
        raise McpError("its answer breaks the protocol") from error
    except httpx2.HTTPError as error:
        raise McpError(f"it cannot be reached ({type(error).__name__})", lost=True) from error
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        raise McpError("the connection is closed", lost=True) from error
    except ExceptionGroup as group:
        # Of the SDK's task groups: one of the errors says enough.
        first: Exception = group
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        with _errors():
            raise first from group
    except RuntimeError as error:
        raise McpError(one_line(error)) from error


def _pages_needed(error: MCPError) -> McpError:
    try:
        pages = UrlElicitationRequiredError.from_error(error.error).elicitations
    except (ValidationError, TypeError, AttributeError):
        pages = []
    if not 0 < len(pages) <= MAX_PAGES_TO_OPEN:
        return McpError(f"it needs {len(pages) or 'no'} pages to be opened: 1 to {MAX_PAGES_TO_OPEN} are allowed")
    return PagesNeeded(pages)


def _listed(tool: types.Tool) -> ListedTool:
    """As the transport has checked it."""
    given = tool.annotations
    hints = {} if given is None else given.model_dump(by_alias=True, exclude_none=True, exclude={"title"})
    return ListedTool(tool.name, tool.description or tool.name, tool.input_schema, hints)


def _is_usable(prompt: types.Prompt) -> bool:
    names = [prompt.name, *(argument.name for argument in prompt.arguments or ())]
    return len(names) <= 1 + MAX_ARGUMENTS and all(0 < len(name) <= MAX_PROMPT_NAME for name in names)


def _prompt(prompt: types.Prompt) -> Prompt:
    arguments = (PromptArgument(argument.name, bool(argument.required)) for argument in prompt.arguments or ())
    about = one_line(prompt.description or prompt.title or prompt.name, 100)
    return Prompt(prompt.name, about, tuple(arguments))


def _line(uri: str, name: str, description: str | None) -> str:
    about = f": {one_line(description, 200)}" if description else ""
    return f"{one_line(uri)} ({one_line(name, 100)}){about}"


def _progress_text(progress: float, total: float | None, message: str | None) -> str:
    share = f"{progress / total:.0%}" if total else f"{progress:g}"
    return f"{share}: {one_line(message, 500)}" if message else share
