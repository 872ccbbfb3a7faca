"""Connects a terminal to a running gateway, through its web channel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import httpx

from agent.media import Attachment, MediaError
from channels.address import Address
from channels.channel import ChannelRejected, Unreachable
from channels.message import Receipt
from channels.reply import Reply
from channels.terminal.parse import TypedMessage, clean, expand_option, open_question
from channels.terminal.remote_events import Event, changed, read_events, read_history, read_reply, read_status
from channels.terminal.screen import Screen

CHAT = "terminal"

_READ_TIMEOUT = 60.0
"""Seconds without an event after which the connection is considered lost; the gateway pings every 15."""

_MAX_PAUSE = 5.0
_SEND_TIMEOUT = 60.0
"""Seconds for which sending a message is retried."""


@dataclass(frozen=True, slots=True)
class GatewayLink:
    """A gateway's address and the token for signing in."""

    origin: str
    token: str


FindGateway = Callable[[], GatewayLink | None]
"""Returns the gateway's current link, if known: after a restart, it may have another port."""


def parse_link(text: str) -> GatewayLink:
    """The link that the gateway prints, `http://127.0.0.1:8321/?token=…`. Raises `ChannelRejected`."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no port
    except ValueError:
        parts = urlsplit("")
    token = parse_qs(parts.query).get("token", [""])[0]
    if parts.scheme not in ("http", "https") or not parts.netloc or not token:
        raise ChannelRejected("Not a sign-in link: expected http://HOST:PORT/?token=…, as the gateway prints it")
    return GatewayLink(f"{parts.scheme}://{parts.netloc}", token)


async def check_reachable(link: GatewayLink, *, seconds: float = 10.0) -> None:
    """Raises `Unreachable` when no gateway answers there, `ChannelRejected` when it rejects the token.

    Waits at most so many `seconds`: for the first request a gateway loads its web server.
    """
    try:
        async with asyncio.timeout(seconds), _client(link, seconds) as client:
            answer = await client.get("/api/conversations")
            await _check(answer)
            answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise Unreachable(
            f"no gateway answers at {link.origin}. Is it running, and is this its newest link?"
        ) from error


class RemoteGateway:
    """Shows a conversation on the screen, and posts the person's messages. Use as `async with`.

    After a lost connection, `find` returns the gateway's link; without it, the same link is tried again.
    Implements `channels.terminal.printer.Files`.
    """

    def __init__(self, link: GatewayLink, screen: Screen, *, chat: str = CHAT, find: FindGateway | None = None) -> None:
        self._screen = screen
        self._address = Address("web", "local", chat)
        self._path = f"/api/conversations/{quote(chat, safe='')}"
        self._client = _client(link, 30.0)
        self._find = find
        self._watching = asyncio.Event()
        self._finished_before: frozenset[str] | None = None
        self._replies: dict[str, Reply] = {}

    async def __aenter__(self) -> RemoteGateway:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    async def run(self) -> None:
        """Until cancelled. Raises `ChannelRejected` when the gateway rejects the token."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._post_all())

    async def read(self, attachment: Attachment) -> bytes:
        path = f"/media/{attachment.hash}/{quote(attachment.name, safe='')}"
        try:
            answer = await self._client.get(path, params={"type": attachment.media_type})
        except httpx.HTTPError as error:
            raise MediaError(f"the gateway is not reachable ({type(error).__name__})") from error
        if answer.status_code != 200:
            raise MediaError(_error_of(answer))
        return answer.content

    # --- inbound ---

    async def _watch(self) -> None:
        """Follows the conversation; reconnects whenever the connection is lost."""
        pause = 0.2
        while True:
            try:
                async with self._client.stream("GET", f"{self._path}/events", timeout=_READ_TIMEOUT) as stream:
                    await _check(stream)
                    self._screen.show_trouble("")
                    pause = 0.2
                    async for event in read_events(stream.aiter_lines()):
                        await self._handle(event)
            except httpx.HTTPError:
                self._screen.show_trouble("Gateway not reachable, reconnecting …")
            except (ValueError, KeyError):
                self._screen.show_trouble("Unexpected answer from the gateway, reconnecting …")
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(_MAX_PAUSE, 2 * pause)
            self._update_link()

    def _update_link(self) -> None:
        """Switches to the gateway's current link, also for messages still to be posted."""
        link = self._find() if self._find is not None else None
        if link is not None:
            self._client.base_url = httpx.URL(link.origin)
            self._client.headers["Authorization"] = f"Bearer {link.token}"

    async def _handle(self, event: Event) -> None:
        match event.name:
            case "history":
                await self._begin(event)
            case "reply":
                await self._show(read_reply(event.data, self._address))
            case "change":
                await self._show(changed(self._replies[event.data["id"]], event.data))
            case "status":
                await self._screen.show_status(read_status(event.data, self._address))

    async def _begin(self, event: Event) -> None:
        """Replies finished before the first connection are not shown; those finished during an outage are."""
        statuses, replies = read_history(event.data, self._address)
        if self._finished_before is None:
            self._finished_before = frozenset(reply.id for reply in replies if reply.done)
        for status in statuses:
            await self._screen.show_status(status)
        self._replies.clear()
        for reply in replies:
            if reply.id not in self._finished_before:
                await self._show(reply)
        self._watching.set()

    async def _show(self, reply: Reply) -> None:
        self._replies[reply.id] = reply
        if reply.done:
            del self._replies[reply.id]
        await self._screen.show(reply, self)

    # --- outbound ---

    async def _post_all(self) -> None:
        # A reply that comes before the first history would count as finished before.
        await self._watching.wait()
        while True:
            typed = await self._screen.read()
            try:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._post(typed)
            except TimeoutError:
                await self._screen.failed(typed, "the gateway is not reachable")

    async def _post(self, typed: TypedMessage) -> None:
        """Posts until the gateway answers; it recognises a repeated message by its id."""
        text = expand_option(clean(typed.text), open_question(self._replies.values()))
        pause = 0.2
        while True:
            try:
                answer = await self._client.post(f"{self._path}/messages", json={"client_id": typed.id, "text": text})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                body = answer.json()
                receipt = Receipt(body["id"], body["duplicate"], body["reason"] or None)
                await self._screen.accepted(typed, receipt)
                return
            if answer is not None and answer.status_code < 500:
                await self._screen.failed(typed, _error_of(answer))
                return
            await asyncio.sleep(pause)
            pause = min(_MAX_PAUSE, 2 * pause)


def _client(link: GatewayLink, timeout: float) -> httpx.AsyncClient:
    # No proxy from the environment: the gateway usually runs on this machine.
    return httpx.AsyncClient(
        base_url=link.origin, headers={"Authorization": f"Bearer {link.token}"}, timeout=timeout, trust_env=False
    )


async def _check(answer: httpx.Response) -> None:
    if answer.status_code in (401, 403, 404):
        await answer.aread()
        raise ChannelRejected(_error_of(answer))
    answer.raise_for_status()


def _error_of(answer: httpx.Response) -> str:
    """The error in the gateway's answer."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answers with status {answer.status_code}"
