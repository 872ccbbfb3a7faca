"""Connects a terminal to a running gateway, through its API."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from agent.media import Attachment, MediaError
from channels.address import Address
from channels.channel import ChannelRejected, Unreachable
from channels.message import Receipt
from channels.reply import Reply
from channels.terminal.attaching import CannotAttach, read_attached
from channels.terminal.parse import TypedMessage, clean, expand_option, open_question
from channels.terminal.remote_events import Wire, changed, items_since, read_reply, read_status
from channels.terminal.screen import Screen
from interject import client
from interject.client import ApiError, AsyncInterject, Event, file_url

CHAT = "terminal"

_FIRST_PAUSE = 0.2
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
        async with asyncio.timeout(seconds), _client(link) as gateway:
            await gateway.session()
    except ApiError as error:
        raise _rejected(error) or _silent(link) from error
    except (client.Unreachable, TimeoutError, ValueError) as error:
        raise _silent(link) from error


def _silent(link: GatewayLink) -> Unreachable:
    return Unreachable(f"no gateway answers at {link.origin}. Is it running, and is this its newest link?")


def _rejected(error: ApiError) -> ChannelRejected | None:
    """The refusal, if it is one that stays."""
    if error.status == 401:
        return ChannelRejected("The gateway does not accept the token of this link. Use its newest link.")
    return ChannelRejected(str(error)) if error.status in (403, 404) else None


class RemoteGateway:
    """Shows a conversation on the screen, and posts the person's messages. Use as `async with`.

    After a lost connection, `find` returns the gateway's link; without it, the same link is tried again.
    Implements `channels.terminal.printer.Files`.
    """

    def __init__(self, link: GatewayLink, screen: Screen, *, chat: str = CHAT, find: FindGateway | None = None) -> None:
        self._screen = screen
        self._address = Address("web", "local", chat)
        self._conversation = f"web:local:{chat}"
        self._client = _client(link)
        self._find = find
        self._watching = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._last_id = ""
        self._begun_at: int | None = None
        self._finished_before: frozenset[str] = frozenset()
        self._replies: dict[str, Reply] = {}

    async def __aenter__(self) -> RemoteGateway:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(None, None, None)

    async def run(self) -> None:
        """Until cancelled. Raises `ChannelRejected` when the gateway rejects the token."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._post_all())

    async def read(self, attachment: Attachment) -> bytes:
        try:
            return await self._client.read_file(file_url(self._conversation, attachment.hash, attachment.name))
        except (client.Unreachable, ApiError) as error:
            raise MediaError(str(error)) from error

    # --- inbound ---

    async def _watch(self) -> None:
        """Follows the conversation; reconnects whenever the connection is lost, and goes on where it was."""
        while True:
            try:
                await self._follow()
            except client.Unreachable:
                self._screen.show_trouble("Gateway not reachable, reconnecting …")
            except ApiError as error:
                if rejected := _rejected(error):
                    raise rejected from error
                self._screen.show_trouble("Gateway not reachable, reconnecting …")
            except (ValueError, KeyError):
                self._last_id = ""
                self._screen.show_trouble("Unexpected answer from the gateway, reconnecting …")
            await asyncio.sleep(self._pause * random.uniform(0.7, 1.3))
            self._pause = min(_MAX_PAUSE, 2 * self._pause)
            self._update_link()

    async def _follow(self) -> None:
        """Until the connection ends. Each begins with an event."""
        is_connected = False
        async with aclosing(self._client.stream(self._conversation, last_id=self._last_id)) as events:
            async for event in events:
                if not is_connected:
                    is_connected, self._pause = True, _FIRST_PAUSE
                    self._screen.show_trouble("")
                await self._handle(event)
                self._last_id = event.id

    def _update_link(self) -> None:
        """Switches to the gateway's current link, also for messages still to be posted."""
        link = self._find() if self._find is not None else None
        if link is not None:
            self._client.move(link.origin, link.token)

    async def _handle(self, event: Event) -> None:
        data: Wire = event.data
        match event.type:
            case "snapshot":
                await self._begin(data["items"])
            case "reply":
                await self._show(read_reply(data["reply"], self._address))
            case "reply.changed":
                await self._show(changed(self._replies[data["turn"]], data))
            case "message.state":
                await self._screen.show_status(read_status(data, self._address))

    async def _begin(self, items: list[Wire]) -> None:
        """Replies finished before the first connection are not shown; those finished during an outage are."""
        messages = [item for item in items if item["kind"] == "message"]
        replies = [item["reply"] for item in items if item["kind"] == "reply"]
        if self._begun_at is None:
            self._begun_at = messages[0]["id"] if messages else 0
            self._finished_before = frozenset(reply["id"] for reply in replies if reply["done"])
        for message in messages:
            await self._screen.show_status(read_status(message, self._address))
        self._replies.clear()
        since = {item["reply"]["id"] for item in items_since(items, self._begun_at) if item["kind"] == "reply"}
        for reply in replies:
            if not reply["done"] or reply["id"] in since - self._finished_before:
                await self._show(read_reply(reply, self._address))
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
                files = [(file.name, await asyncio.to_thread(read_attached, file)) for file in typed.files]
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._post(typed, files)
            except CannotAttach as error:
                await self._screen.failed(typed, str(error))
            except TimeoutError:
                await self._screen.failed(typed, "the gateway is not reachable")

    async def _post(self, typed: TypedMessage, files: Sequence[tuple[str, bytes]]) -> None:
        """Posts until the gateway answers; it recognises a repeated message by its id."""
        text = expand_option(clean(typed.text), open_question(self._replies.values()))
        pause = _FIRST_PAUSE
        while True:
            try:
                sent = await self._client.send(self._conversation, text, client_id=typed.id, files=files, commands=True)
            except (client.Unreachable, ValueError):
                # It may have got the message nevertheless.
                pass
            except ApiError as error:
                if error.status < 500 and error.retry_after is None:
                    await self._screen.failed(typed, str(error))
                    return
            else:
                await self._screen.accepted(typed, Receipt(sent.id, sent.duplicate, sent.reason or None))
                return
            await asyncio.sleep(pause)
            pause = min(_MAX_PAUSE, 2 * pause)


def _client(link: GatewayLink) -> AsyncInterject:
    # No proxy from the environment: the gateway usually runs on this machine.
    return AsyncInterject(link.origin, link.token, trust_env=False)
