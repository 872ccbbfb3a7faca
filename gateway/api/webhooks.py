"""Webhooks: events as signed requests to servers of the operator's, after the Standard Webhooks specification.

Each webhook gets its events in order, one at a time, and each until it has answered with a 2xx status. Of several
workers one holds it, and sends what happens in any of them; only of its own channels each worker tells itself. Ends of
runs survive the end of any worker: how far a webhook has come is stored, and what ended since then is read from the
store. All other events are kept in memory only.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import httpx

from agent.gate import one_line
from agent.toolset import matches
from gateway.api.events import Event, RunEnded, to_json
from gateway.api.follower import Follower, run_ended
from gateway.api.ids import channel_of
from gateway.app import Gateway
from gateway.lifecycle.connectors import Connectors
from gateway.store import watching
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)
# httpx logs the URL of each request, which may contain a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

CURSORS = "/webhooks"
"""Where the read positions of webhooks are stored: no channel can have this name."""

SECRET_PREFIX = "whsec_"

MAX_WAITING = 1_000
"""Events of one webhook in memory. Beyond that the oldest are dropped, and ends of runs are left to the store, from
which as many are read at once."""

TIMEOUT_SECONDS = 15.0
FIRST_PAUSE = 1.0
MAX_PAUSE = 300.0
GIVE_UP_AFTER = timedelta(hours=24)
"""An event is tried for so long while the server cannot be reached, or fails, or asks to wait."""

MAX_REFUSALS = 5
"""An event that the server refuses (with another status) is dropped after so many attempts."""

OVERLAP = timedelta(minutes=1)
"""For a new holder, ends of runs of so long before the stored position are sent again: events may overtake the store.
"""

LOOK_INTERVAL = 5.0
"""Seconds between two looks for workers that have ended."""

OF_CHANNELS = frozenset({"channel.trouble", "channel.ok"})
"""What each worker tells of its own channels."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """`events` are types. `conversations` are patterns of ids and `channels` names: None for all."""

    url: str
    secret: str
    events: frozenset[str]
    conversations: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None

    @property
    def host(self) -> str:
        """For the log: the rest of the URL may contain a secret."""
        return httpx.URL(self.url).host

    @property
    def key(self) -> str:
        return hashlib.sha256(self.url.encode()).hexdigest()[:32]

    @property
    def lease(self) -> str:
        """What the worker that sends to it holds."""
        return f"webhook:{self.host[:100]}:{self.key[:8]}"

    def wants(self, event: Event) -> bool:
        if event.type not in self.events:
            return False
        conversation = str(getattr(event, "conversation", ""))
        channel = channel_of(conversation) if conversation else str(getattr(event, "channel", ""))
        return (self.channels is None or channel in self.channels) and (
            self.conversations is None or (bool(conversation) and matches(conversation, self.conversations))
        )


def signature(secret: str, id: str, timestamp: str, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over id, timestamp (seconds since 1970) and body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX)) if secret.startswith(SECRET_PREFIX) else secret.encode()
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


@dataclass(frozen=True, slots=True)
class _Message:
    """`id` is the same for each attempt, and for the same end of a run after a restart. `ended_at` is that of a turn,
    whose end can be read from the store again; None for all others. `is_own`: it is about this worker only."""

    id: str
    at: datetime
    body: bytes
    ended_at: datetime | None
    is_own: bool


class _Refused(Exception):
    """The server has answered with a status that says that the event is not welcome."""


class _Gone(Exception):
    """The server has answered 410: it wants no more events."""


class _Unavailable(Exception):
    """The server was not reached, or failed, or asks to wait: `after` seconds, if it says how long."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Webhooks:
    """Its `run` is a service of the gateway."""

    def __init__(
        self,
        gateway: Gateway,
        connectors: Connectors,
        follower: Follower,
        own: Follower,
        hooks: Sequence[Webhook],
        *,
        since: datetime,
        overlap: timedelta = OVERLAP,
        look_interval: float = LOOK_INTERVAL,
        first_pause: float = FIRST_PAUSE,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """The `follower` tells what happens in any worker, `own` what happens in this one. A webhook that is new is
        told of runs that ended after `since`. `overlap`: see `OVERLAP`; longer than it takes to notice that a worker
        has ended. `max_waiting`: the events of one webhook in memory."""
        self._gateway = gateway
        self._connectors = connectors
        self._follower = follower
        self._own = own
        self._look_interval = look_interval
        self._senders = [
            _Sender(gateway, hook, partial(connectors.take, hook.lease), since, overlap, first_pause, max_waiting)
            for hook in hooks
        ]

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    follow_redirects=False,
                    timeout=TIMEOUT_SECONDS,
                    headers={"User-Agent": "Interject", "Accept-Encoding": "identity"},
                    trust_env=False,
                )
            )
            group = await stack.enter_async_context(asyncio.TaskGroup())
            for sender in self._senders:
                group.create_task(self._serve(sender, client))

    async def _serve(self, sender: _Sender, client: httpx.AsyncClient) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold(sender))
                if sender.hook.events & OF_CHANNELS:
                    group.create_task(self._follow_own(sender))
                group.create_task(sender.run(client))
        finally:
            if self._connectors.held(sender.hook.lease):
                # Nothing is sent any more: another worker goes on.
                await self._connectors.release(sender.hook.lease)

    async def _hold(self, sender: _Sender) -> None:
        """Waits until this worker holds the webhook, and has the sender told what happens from then on."""
        await self._connectors.take(sender.hook.lease)
        known = await self._last_ended()
        with self._follower.listen(sender.tell, sender.missed):
            # What ends from now on is told; what ended before is read.
            await self._follower.started()
            sender.missed()
            while self._gateway.store.is_shared:
                await asyncio.sleep(self._look_interval)
                last = await self._last_ended()
                if last is not None and last != known:
                    # One that was killed may not have told what ended there.
                    sender.missed()
                    known = last
            await asyncio.Event().wait()

    async def _last_ended(self) -> str | None:
        """The id of the worker that has ended last; None if the store does not say."""
        try:
            return await self._gateway.store.last_ended_worker()
        except StoreError as error:
            log.info("webhooks: whether other workers have ended is not known: %s", error)
            return None

    async def _follow_own(self, sender: _Sender) -> None:
        with self._own.listen(sender.tell_own, _untold):
            await asyncio.Event().wait()


def _untold() -> None:
    """What was missed of channels cannot be read."""


class _Sender:
    """Sends the events of one webhook. Ends of turns are sent in their order: the stored position never passes one that
    was not sent. `take` returns when this worker holds the webhook."""

    def __init__(
        self,
        gateway: Gateway,
        hook: Webhook,
        take: Callable[[], Awaitable[object]],
        since: datetime,
        overlap: timedelta,
        first_pause: float,
        max_waiting: int,
    ) -> None:
        self._gateway = gateway
        self.hook = hook
        self._take = take
        self._since = since
        self._overlap = overlap
        self._first_pause = first_pause
        self._max_waiting = max_waiting
        self._waiting: deque[_Message] = deque()
        self._news = asyncio.Event()
        self._known: deque[str] = deque(maxlen=2 * max_waiting)
        self._is_behind = False
        self._read_to: datetime | None = None
        self._gone = False

    def tell_own(self, event: Event) -> None:
        """Something has happened in this worker."""
        if event.type in OF_CHANNELS:
            self._tell(event)

    def tell(self, event: Event) -> None:
        """Something has happened in a worker."""
        if event.type not in OF_CHANNELS:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._gone or not self.hook.wants(event):
            return
        message = _message(event, self._gateway.mask)
        is_full = len(self._waiting) >= self._max_waiting
        if message.ended_at is not None and (self._is_behind or is_full):
            self._is_behind = True
        elif not is_full or self._drop_oldest():
            self._add(message)
        self._news.set()

    def _add(self, message: _Message) -> None:
        """Ends of turns may come twice: told, and read."""
        if message.ended_at is not None:
            if message.id in self._known:
                return
            self._known.append(message.id)
        self._waiting.append(message)

    def _drop_oldest(self) -> bool:
        """Drops the oldest event that cannot be read again, if there is one."""
        log.warning("webhook %s: too many events wait; the oldest is dropped", self.hook.host)
        oldest = next((each for each in self._waiting if each.ended_at is None), None)
        if oldest is not None:
            self._waiting.remove(oldest)
        return oldest is not None

    def _leave_to_store(self) -> None:
        """Ends of turns that wait are read again later, after those before them."""
        left = {each.id for each in self._waiting if each.ended_at is not None}
        self._waiting = deque(each for each in self._waiting if each.id not in left)
        self._known = deque((id for id in self._known if id not in left), self._known.maxlen)
        self._is_behind = True

    def missed(self) -> None:
        """Events may have been missed."""
        self._is_behind = True
        self._news.set()

    async def run(self, client: httpx.AsyncClient) -> None:
        """Sends until cancelled, or until the server wants no more."""
        try:
            while True:
                if self._is_behind and not self._waiting:
                    await self._catch_up()
                while self._waiting:
                    message = self._waiting[0]
                    await self._deliver(client, message)
                    if self._waiting and self._waiting[0] is message:
                        self._waiting.popleft()
                    await self._remember(message)
                if not self._is_behind:
                    self._news.clear()
                    await self._news.wait()
        except _Gone:
            log.warning("webhook %s: it answered 410 and is told nothing more until a restart", self.hook.host)
            self._gone = True
            self._waiting.clear()

    async def _catch_up(self) -> None:
        """Adds the ends of turns that it was not told of, before those that it is told of meanwhile."""
        self._is_behind = False
        if "run.ended" not in self.hook.events:
            return
        try:
            ended = await self._read_ended()
            found = [message for turn, _ in ended for message in await self._ends_of(turn)]
        except StoreError as error:
            log.warning("webhook %s: what ended meanwhile cannot be read: %s", self.hook.host, error)
            self._leave_to_store()
            await asyncio.sleep(self._first_pause)
            return
        is_all = len(ended) < self._max_waiting
        self._read_to = None if is_all else ended[-1][1]
        if not is_all:
            self._leave_to_store()
        told, self._waiting = self._waiting, deque()
        for message in found:
            self._add(message)
        self._waiting.extend(told)

    async def _read_ended(self) -> tuple[tuple[str, datetime], ...]:
        """The next turns that ended after the stored position, with the time of their ends. Raises `StoreError`."""
        store = self._gateway.store
        since = self._read_to
        if since is None:
            position = (await store.cursors(CURSORS)).get(self.hook.key)
            if position is None:
                # It is new: what ended before is none of its business.
                since = self._since
                await self._keep_position(since)
            else:
                since = max(datetime.fromisoformat(position) - self._overlap, datetime.now(UTC) - GIVE_UP_AFTER)
        return await store.read(partial(watching.ended_since, time=since, limit=self._max_waiting))

    async def _ends_of(self, turn: str) -> list[_Message]:
        """The ends of the runs that the turn has answered. Raises `StoreError`."""
        messages = await self._gateway.store.read(partial(watching.read_by, turn=turn))
        found = [await run_ended(self._gateway, message) for message in messages]
        return [_message(each, self._gateway.mask) for each in found if each is not None and self.hook.wants(each)]

    async def _remember(self, message: _Message) -> None:
        if message.ended_at is None:
            return
        try:
            await self._keep_position(message.ended_at)
        except StoreError as error:
            log.warning("webhook %s: its position cannot be stored: %s", self.hook.host, error)

    async def _keep_position(self, position: datetime) -> None:
        """Nothing happens if another worker holds the webhook. Raises `StoreError`."""
        await self._gateway.store.keep_cursor_as_holder(self.hook.lease, CURSORS, self.hook.key, position.isoformat())

    async def _deliver(self, client: httpx.AsyncClient, message: _Message) -> None:
        """Sends until the server has it, or the event is given up. Raises `_Gone`."""
        pause, refusals, host = self._first_pause, 0, self.hook.host
        while True:
            if not message.is_own:
                await self._take()
            try:
                await self._send(client, message)
                return
            except _Refused as error:
                refusals += 1
                if refusals >= MAX_REFUSALS:
                    log.error("webhook %s: it refuses event %s (%s), which is dropped", host, message.id, error)
                    return
                wait = pause
            except _Unavailable as error:
                if datetime.now(UTC) - message.at > GIVE_UP_AFTER:
                    log.error("webhook %s: event %s is dropped: %s", host, message.id, error)
                    return
                log.info("webhook %s: %s; it is tried again", host, error)
                wait = pause if error.after is None else max(pause, min(error.after, MAX_PAUSE))
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))
            pause = min(2 * pause, MAX_PAUSE)

    async def _send(self, client: httpx.AsyncClient, message: _Message) -> None:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self.hook.secret, message.id, timestamp, message.body),
        }
        try:
            # The body of the answer is of no interest, and is not read.
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                client.stream("POST", self.hook.url, content=message.body, headers=headers) as response,
            ):
                _check(response)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _Unavailable(f"not reachable: {one_line(error) or type(error).__name__}") from error


def _check(response: httpx.Response) -> None:
    match response.status_code:
        case status if 200 <= status < 300:
            return
        case 410:
            raise _Gone
        case 408 | 425 | 429 | 500 | 502 | 503 | 504 as status:
            after = response.headers.get("retry-after", "")
            raise _Unavailable(f"it answered {status}", float(after) if after.isdecimal() else None)
        case status:
            raise _Refused(f"it answered {status}")


def _message(event: Event, mask: Callable[[str], str]) -> _Message:
    data = mask(to_json(event).decode())
    body = f'{{"type":{json.dumps(event.type)},"timestamp":{json.dumps(event.at.isoformat())},"data":{data}}}'
    ended_at = event.run.ended_at if isinstance(event, RunEnded) else None
    id = f"run.ended-{event.run.run}" if isinstance(event, RunEnded) else f"msg-{uuid4().hex}"
    return _Message(id, event.at, body.encode(), ended_at, event.type in OF_CHANNELS)
