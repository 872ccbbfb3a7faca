"""Reads the messages that were written while the gateway was down: Slack sends an event again for some minutes only."""

from __future__ import annotations

import logging
import time

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.channel import Cursors
from channels.position_saver import PositionSaver
from channels.slack.api import Api, error_code
from channels.slack.content import Json
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

MAX_AGE = 24 * 3600.0
"""Seconds after which a message is not answered any more."""

MAX_PLACES = 100
"""Channels and threads that are read, those in which somebody wrote last."""

PAGE = 200
SAVE_INTERVAL = 2.0
"""Seconds between two writes of the positions."""


class MissedMessages:
    """Keeps the newest message that was read in the direct chats, channels and threads where the bot is."""

    def __init__(self, api: Api, cursors: Cursors) -> None:
        self._api = api
        self._cursors = cursors
        self._newest: dict[str, str] = {}
        self._saver = PositionSaver(cursors, self._newest.get, SAVE_INTERVAL)

    async def load(self) -> None:
        for place, ts in (await self._cursors.load()).items():
            self._newest.setdefault(place, ts)
        self._drop_oldest()

    def read(self, chat: str, thread: str | None, ts: str) -> None:
        """A message was read. `thread`: of a thread where the bot is."""
        place = f"{chat} {thread or ''}".rstrip()
        if self._newest.get(place, "") < ts:
            self._newest[place] = ts
            self._saver.changed(place)
            self._drop_oldest()

    async def events(self) -> list[Json]:
        """The messages since then, as Slack's events, in order. Raises no error of Slack's."""
        recent = sorted(self._newest.items(), key=lambda position: position[1], reverse=True)
        found: dict[tuple[str, str], Json] = {}
        for place, position in recent:
            chat, _, thread = place.partition(" ")
            try:
                messages = await self._since(chat, thread, max(position, f"{time.time() - MAX_AGE:.6f}"))
            except SlackApiError as error:
                log.warning("missed messages of %s cannot be read: %s", place, error_code(error) or "no answer")
            except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError, *MALFORMED) as error:
                log.warning("missed messages of %s cannot be read: %r", place, error)
            else:
                found |= {(message["ts"], chat): message for message in messages}
        return [
            {
                "type": "event_callback",
                "event_id": f"missed:{chat}:{ts}",
                "event": {"type": "message", **message, "channel": chat},
            }
            for (ts, chat), message in sorted(found.items(), key=lambda each: each[0])
        ]

    async def _since(self, chat: str, thread: str, oldest: str) -> list[Json]:
        """https://docs.slack.dev/reference/methods/conversations.history"""
        method = "conversations.replies" if thread else "conversations.history"
        page = await self._api.call(method, channel=chat, ts=thread or None, oldest=oldest, limit=PAGE)
        return [message for message in page["messages"] if message["ts"] > oldest]

    async def run(self) -> None:
        """Saves changed positions until cancelled."""
        await self._saver.run()

    async def save(self) -> None:
        await self._saver.save()

    def _drop_oldest(self) -> None:
        """Threads are begun for ever, and only the newest are read again."""
        if len(self._newest) > MAX_PLACES:
            for place in sorted(self._newest, key=self._newest.__getitem__)[:-MAX_PLACES]:
                del self._newest[place]
                self._saver.changed(place)
