"""The clients: the same methods with and without asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TypeVar
from uuid import uuid4

import httpx

from interject.client import requests
from interject.client.errors import StillRunning, Unreachable, raise_for
from interject.client.models import (
    Conversation,
    Decision,
    Draining,
    Event,
    QueuedMessage,
    Run,
    Sent,
    Session,
    Stopped,
    Tool,
    Worker,
)
from interject.client.requests import MAX_WAIT, Ask
from interject.client.streams import EventReader

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds beyond those that the gateway may take by itself."""

SILENCE = 60.0
"""Seconds without a sign of life after which a stream counts as lost; the gateway sends one at least every 15."""

RECONNECT = 1.0
"""Seconds before a lost stream is opened again."""

COMMAND_WAIT = 30.0


class _Settings:
    def __init__(self, url: str, key: str, *, trust_env: bool = True) -> None:
        """`url` is the address that `interject run` prints, without what follows the port; `key` the secret of a key.
        `trust_env`: proxies that the environment names are used. Raises `ValueError` for what can be no address, and
        for a key with blanks in it, whose text would otherwise be part of an error."""
        self._base, self._headers = _base(url), _headers(key)
        self._trust_env = trust_env


def _base(url: str) -> str:
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url} is no address: {error}") from None
    return url.rstrip("/") + "/api/v1"


def _headers(key: str) -> dict[str, str]:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key or not key:
        raise ValueError("the key is not one that interject keys create has printed")
    return {"Authorization": f"Bearer {key}"}


class Interject(_Settings):
    """Use as `with`. All methods raise `ApiError` and `Unreachable`."""

    def __enter__(self) -> Interject:
        self._http = httpx.Client(
            base_url=self._base, headers=self._headers, timeout=TIMEOUT, trust_env=self._trust_env
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def move(self, url: str, key: str) -> None:
        """Goes on with this address and key: those of a gateway that was started again may be others. Raises
        `ValueError` as the constructor does."""
        self._base, self._headers = _base(url), _headers(key)
        self._http.base_url = httpx.URL(self._base)
        self._http.headers.update(self._headers)

    def session(self) -> Session:
        """Whom the gateway takes the caller for."""
        return self._do(requests.session())

    def conversations(self, *, search: str = "", channel: str = "") -> list[Conversation]:
        """Those that the key may see, the newest first."""
        return self._do(requests.conversations(search, channel))

    def send(
        self,
        conversation: str,
        text: str,
        *,
        client_id: str = "",
        files: Iterable[tuple[str, bytes]] = (),
        tools: Iterable[Tool] = (),
        busy: str | None = None,
        commands: bool = False,
    ) -> Sent:
        """Returns when the message is stored. A message that is sent again with the same `client_id` is stored once.
        `busy` is what it does to a running turn: "steer", "queue", "collect" or "interrupt". With `commands`, a text
        such as "/status" is a command, as if a person had written it."""
        client_id = client_id or uuid4().hex
        ask = requests.send(conversation, text, client_id, files=files, tools=tools, busy=busy, commands=commands)
        return self._do(ask)

    def ask(
        self,
        conversation: str,
        text: str,
        *,
        timeout: float = 600.0,
        files: Iterable[tuple[str, bytes]] = (),
        tools: Iterable[Tool] = (),
    ) -> Run:
        """Sends a message and waits until it is answered, or its turn needs somebody (see `Run`). Raises
        `StillRunning` after `timeout` seconds; the run goes on."""
        sent = self.send(conversation, text, files=files, tools=tools)
        return self.wait(sent.run or "", timeout=timeout)

    def command(self, conversation: str, text: str) -> Run | None:
        """A command such as "/status", with its answer."""
        return self._do(requests.command(conversation, text, uuid4().hex, COMMAND_WAIT)).result

    def steer(self, conversation: str, text: str) -> Sent:
        """The running turn reads the message at once."""
        return self._do(requests.steer(conversation, text, uuid4().hex))

    def stop(self, conversation: str, *, background: bool = False) -> Stopped:
        """Stops the running turn and withdraws the queued messages."""
        return self._do(requests.stop(conversation, background=background))

    def fork(
        self,
        conversation: str,
        *,
        message: int | None = None,
        run: str | None = None,
        title: str = "",
        agent: str | None = None,
        name: str | None = None,
    ) -> Conversation:
        """A new conversation with the history of this one, up to and including the turn that read the message with this
        id, or that of this run; without either, up to the last one that has ended. `name` is that of
        `web:local:NAME`."""
        return self._do(requests.fork(conversation, message=message, run=run, title=title, agent=agent, name=name))

    def queue(self, conversation: str) -> list[QueuedMessage]:
        return self._do(requests.queue(conversation))

    def run(self, run: str) -> Run:
        return self._do(requests.run(run, 0, to_end=False))

    def wait(self, run: str, *, timeout: float = 600.0, to_end: bool = False) -> Run:
        """Waits until the run has ended, or, unless `to_end`, needs somebody. Raises `StillRunning`."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = self._do(requests.run(run, min(left, MAX_WAIT), to_end=to_end))
            if found.ended or (found.state == "parked" and not to_end):
                return found
            if left == 0:
                raise StillRunning(run, timeout)

    def submit(self, run: str, results: Mapping[str, str]) -> Run:
        """The results of all pending calls of the run, by call id."""
        return self._do(requests.results(run, results))

    def decisions(self, conversation: str = "") -> list[Decision]:
        """What is asked, in this conversation or in all."""
        return self._do(requests.decisions(conversation))

    def decide(self, decision: str, *, allow: bool | None = None, option: int | None = None) -> None:
        """Decides an approval (`allow`), or chooses an option, counted from 0."""
        return self._do(requests.decide(decision, allow=allow, option=option))

    def workers(self) -> list[Worker]:
        """The processes that work on the database, the oldest first. For a key that may operate everything."""
        return self._do(requests.workers())

    def drain(self, worker: str) -> Draining:
        """Ends the worker with this id after its running turns; others go on with what does not end. The last one that
        works is not ended: `ApiError` with the code "last_worker". For a key that may operate everything."""
        return self._do(requests.drain(worker))

    def read_file(self, url: str) -> bytes:
        """The bytes of a file, by its `url` in an answer."""
        return self._do(Ask("GET", url.removeprefix("/api/v1"), lambda response: response.content))

    def events(self, conversation: str = "", *, last_id: str = "") -> Iterator[Event]:
        """What happens in the conversation, or in all, for ever. A lost connection is opened again where it was."""
        while True:
            with suppress(Unreachable):
                for event in self.stream(conversation, last_id=last_id):
                    last_id = event.id
                    yield event
            time.sleep(RECONNECT)

    def stream(self, conversation: str = "", *, last_id: str = "") -> Iterator[Event]:
        """The same while one connection lasts: it ends when the gateway ends it, and raises `Unreachable` when it is
        lost."""
        reader = EventReader(last_id)
        ask = requests.events(conversation, last_id)
        try:
            with self._http.stream(ask.method, ask.path, headers=ask.headers, timeout=SILENCE) as response:
                if not response.is_success:
                    response.read()
                    raise_for(response)
                for line in response.iter_lines():
                    yield from reader.take(line)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._base} cannot be reached: {error}") from error

    def _do(self, ask: Ask[T]) -> T:
        try:
            response = self._http.request(
                ask.method, ask.path, params=dict(ask.params), json=ask.json, timeout=TIMEOUT + ask.wait
            )
        except httpx.TransportError as error:
            raise Unreachable(f"{self._base} cannot be reached: {error}") from error
        raise_for(response)
        return ask.read(response)


class AsyncInterject(_Settings):
    """`Interject` for asyncio. Use as `async with`."""

    async def __aenter__(self) -> AsyncInterject:
        self._http = httpx.AsyncClient(
            base_url=self._base, headers=self._headers, timeout=TIMEOUT, trust_env=self._trust_env
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def move(self, url: str, key: str) -> None:
        self._base, self._headers = _base(url), _headers(key)
        self._http.base_url = httpx.URL(self._base)
        self._http.headers.update(self._headers)

    async def session(self) -> Session:
        return await self._do(requests.session())

    async def conversations(self, *, search: str = "", channel: str = "") -> list[Conversation]:
        return await self._do(requests.conversations(search, channel))

    async def send(
        self,
        conversation: str,
        text: str,
        *,
        client_id: str = "",
        files: Iterable[tuple[str, bytes]] = (),
        tools: Iterable[Tool] = (),
        busy: str | None = None,
        commands: bool = False,
    ) -> Sent:
        client_id = client_id or uuid4().hex
        ask = requests.send(conversation, text, client_id, files=files, tools=tools, busy=busy, commands=commands)
        return await self._do(ask)

    async def ask(
        self,
        conversation: str,
        text: str,
        *,
        timeout: float = 600.0,  # noqa: ASYNC109 - the gateway holds each request for a bounded time
        files: Iterable[tuple[str, bytes]] = (),
        tools: Iterable[Tool] = (),
    ) -> Run:
        sent = await self.send(conversation, text, files=files, tools=tools)
        return await self.wait(sent.run or "", timeout=timeout)

    async def command(self, conversation: str, text: str) -> Run | None:
        return (await self._do(requests.command(conversation, text, uuid4().hex, COMMAND_WAIT))).result

    async def steer(self, conversation: str, text: str) -> Sent:
        return await self._do(requests.steer(conversation, text, uuid4().hex))

    async def stop(self, conversation: str, *, background: bool = False) -> Stopped:
        return await self._do(requests.stop(conversation, background=background))

    async def fork(
        self,
        conversation: str,
        *,
        message: int | None = None,
        run: str | None = None,
        title: str = "",
        agent: str | None = None,
        name: str | None = None,
    ) -> Conversation:
        return await self._do(
            requests.fork(conversation, message=message, run=run, title=title, agent=agent, name=name)
        )

    async def queue(self, conversation: str) -> list[QueuedMessage]:
        return await self._do(requests.queue(conversation))

    async def run(self, run: str) -> Run:
        return await self._do(requests.run(run, 0, to_end=False))

    async def wait(self, run: str, *, timeout: float = 600.0, to_end: bool = False) -> Run:  # noqa: ASYNC109 - as in `ask`
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = await self._do(requests.run(run, min(left, MAX_WAIT), to_end=to_end))
            if found.ended or (found.state == "parked" and not to_end):
                return found
            if left == 0:
                raise StillRunning(run, timeout)

    async def submit(self, run: str, results: Mapping[str, str]) -> Run:
        return await self._do(requests.results(run, results))

    async def decisions(self, conversation: str = "") -> list[Decision]:
        return await self._do(requests.decisions(conversation))

    async def decide(self, decision: str, *, allow: bool | None = None, option: int | None = None) -> None:
        return await self._do(requests.decide(decision, allow=allow, option=option))

    async def workers(self) -> list[Worker]:
        return await self._do(requests.workers())

    async def drain(self, worker: str) -> Draining:
        return await self._do(requests.drain(worker))

    async def read_file(self, url: str) -> bytes:
        return await self._do(Ask("GET", url.removeprefix("/api/v1"), lambda response: response.content))

    async def events(self, conversation: str = "", *, last_id: str = "") -> AsyncIterator[Event]:
        while True:
            with suppress(Unreachable):
                async with aclosing(self.stream(conversation, last_id=last_id)) as events:
                    async for event in events:
                        last_id = event.id
                        yield event
            await asyncio.sleep(RECONNECT)

    async def stream(self, conversation: str = "", *, last_id: str = "") -> AsyncGenerator[Event]:
        reader = EventReader(last_id)
        ask = requests.events(conversation, last_id)
        try:
            async with self._http.stream(ask.method, ask.path, headers=ask.headers, timeout=SILENCE) as response:
                if not response.is_success:
                    await response.aread()
                    raise_for(response)
                async for line in response.aiter_lines():
                    for event in reader.take(line):
                        yield event
        except httpx.TransportError as error:
            raise Unreachable(f"{self._base} cannot be reached: {error}") from error

    async def _do(self, ask: Ask[T]) -> T:
        try:
            response = await self._http.request(
                ask.method, ask.path, params=dict(ask.params), json=ask.json, timeout=TIMEOUT + ask.wait
            )
        except httpx.TransportError as error:
            raise Unreachable(f"{self._base} cannot be reached: {error}") from error
        raise_for(response)
        return ask.read(response)
