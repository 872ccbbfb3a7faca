"""Recognises copies of people's messages: proxy apps, such as PluralKit, delete a person's message and post its words
again through a webhook, under another name."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from channels.discord.content import Json
from channels.visible import dicts

WINDOW = 5.0
"""Seconds after a person's message in which its copy comes."""

DELETION_DELAY = 1.0
"""Seconds that the deletion of such a message waits for the copy, which may come after it."""

MAX_MARKS = 100
"""Characters around the words by which a person tells the proxy whom they speak as; the copy is without them."""

_REMEMBERED = ("id", "channel_id", "author", "member", "content", "attachments")
_MAX_RECENT = 1000
_MAX_COPIES = 5000


@dataclass(frozen=True, slots=True)
class _Recent:
    message: Json
    at: float


class Proxies:
    """Given each message of a server as it arrives. `trusted` are the ids of applications whose copies may be edited
    and deleted in the name of the people whose messages they copy."""

    def __init__(self, trusted: Collection[str] = ()) -> None:
        self._trusted = frozenset(trusted)
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._originals: OrderedDict[str, Json] = OrderedDict()
        """By the id of a copy."""
        self._copies: dict[str, str] = {}
        """By the id of an original."""
        self._followed: set[str] = set()
        """Copies by trusted applications."""
        self._deleted: set[str] = set()
        """Messages that a copy may stand for: a proxy deletes what it has copied. What only repeats the words of a
        message that is still there is somebody else's."""

    def resolved(self, event: str, data: Json) -> Json | None:
        """The event as one of the person whose message it concerns. None: the proxy acts, and nobody says anything."""
        id = str(data["id"])
        if event == "MESSAGE_DELETE" and (id in self._recent or id in self._copies):
            self._deleted.add(id)
        match event:
            case "MESSAGE_CREATE" if data.get("guild_id"):
                return self._created(id, data)
            case "MESSAGE_UPDATE" if self._stands_for_its_original(id):
                original = self._originals[id]
                person = {"author": original["author"], "member": original.get("member"), "webhook_id": None}
                return {**data, **person, "id": original["id"]}
            case "MESSAGE_DELETE" if self._stands_for_its_original(id):
                return {**data, "id": self._originals[id]["id"]}
            case "MESSAGE_DELETE" if id in self._copies:
                return None
        return data

    def may_be_copied(self, id: str) -> bool:
        """Whether its copy may still come."""
        recent = self._recent.get(id)
        return recent is not None and time.monotonic() - recent.at < WINDOW

    def is_copied(self, id: str) -> bool:
        return id in self._copies

    def author_of(self, message: Json) -> Json:
        """Whose message it is: the person, for the copy by a trusted application."""
        id = str(message["id"])
        return self._originals[id] if self._stands_for_its_original(id) else message

    def shown_as(self, id: str) -> str:
        """The message that people see now in place of that one."""
        return self._copies.get(id, id)

    def _stands_for_its_original(self, id: str) -> bool:
        return id in self._followed and str(self._originals[id]["id"]) in self._deleted

    def _created(self, id: str, data: Json) -> Json | None:
        if not data.get("webhook_id"):
            self._remember(id, data)
            return data
        original = self._originals.get(id) or self._original_of(data)
        if original is None:
            return data
        self._add(id, original)
        if str(data.get("application_id")) not in self._trusted:
            return data
        self._followed.add(id)
        return None

    def _remember(self, id: str, data: Json) -> None:
        while self._recent:
            oldest = next(iter(self._recent))
            if self.may_be_copied(oldest) and len(self._recent) < _MAX_RECENT:
                break
            del self._recent[oldest]
            if oldest not in self._copies:
                self._deleted.discard(oldest)
        message = {name: data[name] for name in _REMEMBERED if name in data}
        self._recent[id] = _Recent(message, time.monotonic())

    def _original_of(self, copy: Json) -> Json | None:
        """The newest message with the words and files of the copy, in its channel."""
        for id in reversed(self._recent):
            message = self._recent[id].message
            if not self.may_be_copied(id):
                return None
            if message["channel_id"] == copy["channel_id"] and _has_words_of(message, copy) and id not in self._copies:
                return message
        return None

    def _add(self, id: str, original: Json) -> None:
        self._originals[id] = original
        self._copies[str(original["id"])] = id
        if len(self._originals) > _MAX_COPIES:
            oldest, original = self._originals.popitem(last=False)
            self._copies.pop(str(original["id"]), None)
            self._deleted.discard(str(original["id"]))
            self._followed.discard(oldest)


def _has_words_of(message: Json, copy: Json) -> bool:
    own, copied = (" ".join(str(each.get("content") or "").split()) for each in (message, copy))
    files, copied_files = (
        [str(file.get("filename")) for file in dicts(each.get("attachments"))] for each in (message, copy)
    )
    if not (copied or copied_files) or (copied_files and files != copied_files):
        return False
    return copied in own and len(own) - len(copied) <= MAX_MARKS
