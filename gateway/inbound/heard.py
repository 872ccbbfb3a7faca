"""Remembers in which sessions of groups no message was missed: where one was, what was said is read from the platform
before the bot answers there again."""

from __future__ import annotations

from collections import OrderedDict

from channels.message import InboundMessage
from gateway.sessions import session_key
from gateway.store.records import Arrival

MAX_SESSIONS = 5000


class Heard:
    """In memory: after a start, messages may have been missed everywhere. A worker beside others (not `alone`) knows of
    no session that it has heard all of: what is not for the bot may have been given to another one."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._sessions: OrderedDict[str, None] = OrderedDict()

    def catches_up(self, message: InboundMessage) -> bool:
        """Whether messages may have been missed before this one."""
        return message.has_talk and session_key(message.address) not in self._sessions

    def note(self, message: InboundMessage, arrival: Arrival | None) -> None:
        """The message has been accepted, or was not for the bot."""
        if not self._alone or message.address.kind == "direct" or message.kind not in ("new", "command"):
            return
        session = session_key(message.address)
        if arrival is None or arrival.state == "refused":
            self._sessions.pop(session, None)
        elif message.has_talk:
            self._sessions[session] = None
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
