"""Events to many watchers: each is encoded once, kept for a while, and passed on without slowing others."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex

EVERYTHING = ""
"""The topic that has the events of all conversations and channels; the others are those of one session."""

MAX_FRAMES = 5_000
MAX_BYTES = 4_000_000
"""What is kept of a topic, so that clients can come back for it."""

MAX_TOPICS = 1_000
WARM_SECONDS = 60.0
"""How long a topic is kept without watchers, at least while there are fewer than `MAX_TOPICS`."""

SLICE = 4
"""Watchers that are woken in one go, before everything else may run."""

REST = 4.0
"""After passing on events, so many times the time that it took belongs to everything else."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded event. `conversation` is the id of its conversation, "" for those of channels. `renews`: what a client
    has of the conversation is out of date."""

    number: int
    conversation: str
    data: bytes
    renews: bool = False


@dataclass(frozen=True, slots=True)
class Missed:
    """Events after the watcher's position are not kept any more."""


@dataclass(eq=False, slots=True)
class Topic:
    """The events of one session, or of all, since `lost`: the number of the last event that is not kept. `snapshot` is
    one that watchers share; whoever makes one holds `lock`."""

    key: str
    lost: int
    max_frames: int
    max_bytes: int
    frames: deque[Frame] = field(default_factory=deque)
    size: int = 0
    watchers: set[Watcher] = field(default_factory=set)
    cold_since: float = 0.0
    snapshot: Frame | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.size += len(frame.data)
        while len(self.frames) > self.max_frames or self.size > self.max_bytes:
            gone = self.frames.popleft()
            self.size -= len(gone.data)
            self.lost = gone.number

    def lose(self, number: int) -> None:
        """Nothing up to this event is kept."""
        self.frames.clear()
        self.size = 0
        self.lost = number

    def remove(self, conversation: str) -> None:
        self.frames = deque(frame for frame in self.frames if frame.conversation != conversation)
        self.size = sum(len(frame.data) for frame in self.frames)

    def after(self, number: int) -> list[Frame] | None:
        """The events after this one; None if not all of them are kept."""
        if number < self.lost:
            return None
        found: list[Frame] = []
        for frame in reversed(self.frames):
            if frame.number <= number:
                break
            found.append(frame)
        found.reverse()
        return found


class Watcher:
    """A reader of a topic at `position`, the number of the last event that it has. It has no queue: one that does not
    keep up finds that events are missed."""

    def __init__(self, topic: Topic, position: int) -> None:
        self.topic = topic
        self.position = position
        self._news = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def next(self, seconds: float) -> list[Frame] | Missed | None:
        """The next events, none if there are none for so many seconds; None when the stream is to end."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._news.clear()
                    found = self.topic.after(self.position)
                    if found:
                        self.position = found[-1].number
                        return found
                    if self._closed:
                        return None
                    if found is None:
                        return Missed()
                    await self._news.wait()
        except TimeoutError:
            return []


class Broadcast:
    """Topics, and the events in them. Ids of events are `<epoch>-<number>`: the epoch is this process's."""

    def __init__(
        self, *, warm_seconds: float = WARM_SECONDS, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES
    ) -> None:
        """`max_frames` and `max_bytes` are kept of each topic."""
        self.number = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._epoch = token_hex(4)
        self._warm_seconds = warm_seconds
        self._topics: dict[str, Topic] = {}
        self._fresh: set[Topic] = set()
        self._news = asyncio.Event()
        self._closed = False

    # --- watching ---

    def id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def number_of(self, id: str) -> int | None:
        """The number in an id of this process; None for any other."""
        found = re.fullmatch(r"([0-9a-f]+)-([0-9]{1,15})", id)
        return int(found[2]) if found and found[1] == self._epoch and int(found[2]) <= self.number else None

    @contextmanager
    def watch(self, key: str) -> Iterator[Watcher]:
        """A watcher of the session, or of `EVERYTHING`, from now on. The topic has all events since it began."""
        if key not in self._topics:
            self._make_room()
            # Nobody who left before can go on here: what happened meanwhile was not published.
            self.number += 1
            self._topics[key] = Topic(key, self.number, self._max_frames, self._max_bytes)
        topic = self._topics[key]
        watcher = Watcher(topic, self.number)
        topic.watchers.add(watcher)
        if self._closed:
            watcher.close()
        try:
            yield watcher
        finally:
            topic.watchers.discard(watcher)
            topic.cold_since = asyncio.get_running_loop().time()

    def is_watched(self, session: str) -> bool:
        """Whether events of this session are kept."""
        return session in self._topics or EVERYTHING in self._topics

    @property
    def is_idle(self) -> bool:
        return not self._topics

    # --- events ---

    def publish(
        self,
        session: str,
        conversation: str,
        encode: Callable[[str], bytes],
        *,
        renews: bool = False,
        erases: bool = False,
    ) -> None:
        """Adds an event, which `encode` makes with its id. Of a channel: session and conversation are "". `renews` is
        as in `Frame`. With `erases`, nothing published of the conversation before is kept: it was deleted."""
        topics = [self._topics[key] for key in {session, EVERYTHING} if key in self._topics]
        self.number += 1
        frame = Frame(self.number, conversation, encode(self.id(self.number)), renews)
        for topic in topics:
            if erases:
                topic.remove(conversation)
            topic.add(frame)
            self._fresh.add(topic)
        self._news.set()

    def lose(self) -> None:
        """Events were missed: every watcher has to begin again."""
        self.number += 1
        for topic in self._topics.values():
            topic.lose(self.number)
            self._fresh.add(topic)
        self._news.set()

    def close(self) -> None:
        """Ends all streams, also those that begin later."""
        self._closed = True
        for topic in self._topics.values():
            for watcher in topic.watchers:
                watcher.close()

    def expire(self) -> None:
        """Drops topics that nobody has watched for a while."""
        now = asyncio.get_running_loop().time()
        for key, topic in list(self._topics.items()):
            if not topic.watchers and now - topic.cold_since >= self._warm_seconds:
                del self._topics[key]

    async def distribute(self) -> None:
        """Wakes watchers, few at a time and with rests in between, so that a thousand of them slow nobody else. Those
        of topics with few watchers come first."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            topics, self._fresh = self._fresh, set()
            began, woken = loop.time(), 0
            for topic in sorted(topics, key=lambda topic: len(topic.watchers)):
                for watcher in list(topic.watchers):
                    watcher.wake()
                    woken += 1
                    if woken % SLICE == 0:
                        await asyncio.sleep(0)
            if woken >= SLICE:
                await asyncio.sleep(REST * (loop.time() - began))

    def _make_room(self) -> None:
        cold = [topic for topic in self._topics.values() if not topic.watchers]
        if len(self._topics) >= MAX_TOPICS and cold:
            del self._topics[min(cold, key=lambda topic: topic.cold_since).key]
