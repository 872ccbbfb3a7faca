"""A terminal in front of a gateway that runs elsewhere, by way of its web channel."""

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
from channels.terminal.parse import Said, clean, meant, open_question
from channels.terminal.remote_events import Event, changed, read_events, read_history, read_reply, read_status
from channels.terminal.screen import Screen

CHAT = "terminal"

_PATIENCE = 60.0
"""Seconds without a word after which the line is taken to be dead; the gateway pings every 15."""

_LONGEST_PAUSE = 5.0
_GIVE_UP = 60.0
"""Seconds for which a message that cannot be sent is tried again."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a gateway is and the token that lets one in."""

    origin: str
    token: str


Whereabouts = Callable[[], Link | None]
"""Where the gateway is by now, as far as anybody knows: started anew, it may have another port."""


def parse_link(text: str) -> Link:
    """The link that the gateway prints, `http://127.0.0.1:8321/?token=…`. Raises `ChannelRejected`."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is no port
    except ValueError:
        parts = urlsplit("")
    token = parse_qs(parts.query).get("token", [""])[0]
    if parts.scheme not in ("http", "https") or not parts.netloc or not token:
        raise ChannelRejected("This is not the link that a gateway prints: it looks like http://HOST:PORT/?token=…")
    return Link(f"{parts.scheme}://{parts.netloc}", token)


async def reach(link: Link, *, within: float = 10.0) -> None:
    """Raises `Unreachable` when no gateway answers there, `ChannelRejected` when it does not take the link's token.

    `within` some seconds: for its first visitor a gateway loads its web server.
    """
    try:
        async with asyncio.timeout(within), _client(link, within) as client:
            answer = await client.get("/api/conversations")
            await _check(answer)
            answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise Unreachable(
            f"no gateway answers at {link.origin}. Is it running, and is this its newest link?"
        ) from error


class RemoteGateway:
    """Shows a conversation of the gateway's on the screen, and posts there what the person says. Use as `async with`.

    When the connection is lost, `where` is asked for the gateway; without it, it is expected back where it was.
    Implements `channels.terminal.printer.Files`.
    """

    def __init__(self, link: Link, screen: Screen, *, chat: str = CHAT, where: Whereabouts | None = None) -> None:
        self._screen = screen
        self._address = Address("web", "local", chat)
        self._path = f"/api/conversations/{quote(chat, safe='')}"
        self._client = _client(link, 30.0)
        self._where = where
        self._watching = asyncio.Event()
        self._past: frozenset[str] | None = None
        self._replies: dict[str, Reply] = {}

    async def __aenter__(self) -> RemoteGateway:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    async def run(self) -> None:
        """Until cancelled. Raises `ChannelRejected` when the gateway does not let us in."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._post_all())

    async def read(self, attachment: Attachment) -> bytes:
        path = f"/media/{attachment.hash}/{quote(attachment.name, safe='')}"
        try:
            answer = await self._client.get(path, params={"type": attachment.media_type})
        except httpx.HTTPError as error:
            raise MediaError(f"the gateway cannot be reached ({type(error).__name__})") from error
        if answer.status_code != 200:
            raise MediaError(_words(answer))
        return answer.content

    # --- hearing ---

    async def _watch(self) -> None:
        """Follows the conversation, over every loss of the connection."""
        pause = 0.2
        while True:
            try:
                async with self._client.stream("GET", f"{self._path}/events", timeout=_PATIENCE) as stream:
                    await _check(stream)
                    self._screen.trouble("")
                    pause = 0.2
                    async for event in read_events(stream.aiter_lines()):
                        await self._take(event)
            except httpx.HTTPError:
                self._screen.trouble("The gateway cannot be reached; trying again …")
            except (ValueError, KeyError):
                self._screen.trouble("The gateway says what this terminal does not understand; trying again …")
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(_LONGEST_PAUSE, 2 * pause)
            self._follow()

    def _follow(self) -> None:
        """Turns to where the gateway is by now; what waits to be posted goes there too."""
        link = self._where() if self._where is not None else None
        if link is not None:
            self._client.base_url = httpx.URL(link.origin)
            self._client.headers["Authorization"] = f"Bearer {link.token}"

    async def _take(self, event: Event) -> None:
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
        """What had been answered when we came is the past; what was answered while the line was down is not."""
        statuses, replies = read_history(event.data, self._address)
        if self._past is None:
            self._past = frozenset(reply.id for reply in replies if reply.done)
        for status in statuses:
            await self._screen.show_status(status)
        self._replies.clear()
        for reply in replies:
            if reply.id not in self._past:
                await self._show(reply)
        self._watching.set()

    async def _show(self, reply: Reply) -> None:
        self._replies[reply.id] = reply
        if reply.done:
            del self._replies[reply.id]
        await self._screen.show(reply, self)

    # --- speaking ---

    async def _post_all(self) -> None:
        # An answer that came before the first history would be taken for the past.
        await self._watching.wait()
        while True:
            said = await self._screen.read()
            try:
                async with asyncio.timeout(_GIVE_UP):
                    await self._post(said)
            except TimeoutError:
                await self._screen.failed(said, "the gateway cannot be reached")

    async def _post(self, said: Said) -> None:
        """Posts until the gateway answers; it knows a message that it has had before by its id."""
        text = meant(clean(said.text), open_question(self._replies.values()))
        pause = 0.2
        while True:
            try:
                answer = await self._client.post(f"{self._path}/messages", json={"client_id": said.id, "text": text})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                accepted = answer.json()
                await self._screen.accepted(
                    said, Receipt(accepted["id"], accepted["duplicate"], accepted["reason"] or None)
                )
                return
            if answer is not None and answer.status_code < 500:
                await self._screen.failed(said, _words(answer))
                return
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)


def _client(link: Link, timeout: float) -> httpx.AsyncClient:
    # No proxy of the environment's stands between us and a gateway on this machine.
    return httpx.AsyncClient(
        base_url=link.origin, headers={"Authorization": f"Bearer {link.token}"}, timeout=timeout, trust_env=False
    )


async def _check(answer: httpx.Response) -> None:
    if answer.status_code in (401, 403, 404):
        await answer.aread()
        raise ChannelRejected(_words(answer))
    answer.raise_for_status()


def _words(answer: httpx.Response) -> str:
    """The gateway's own words for what is wrong."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answers with status {answer.status_code}"
