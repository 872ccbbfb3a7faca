"""The input of a Responses request: the conversation as a list of items, and what of it the server has already.

Source: https://platform.openai.com/docs/guides/conversation-state
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import assert_never

from agent.gate import json_value
from agent.log import Call, MessagesRead, ModelAnswered, Native, Part, Text, Thinking
from agent.models.content import (
    ContentPart,
    LoadedImages,
    call_as_text,
    joined_text,
    message_content,
    notice_text,
    result_as_text,
    result_text,
)
from agent.models.protocols.call_forms import plain_id, plain_name
from agent.models.protocols.history import PICTURES, arguments_json, pictures_of
from agent.models.protocols.reading import as_sent, mapping, mappings, stored
from agent.models.protocols.wire import JsonObject, Target
from agent.transcript import Exchange, Results, SystemNote

KEPT = "response"

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_PLAIN = ("message", "function_call")
"""Items that can be sent back without what the server gave to them."""

Item = JsonObject


@dataclass(frozen=True, slots=True)
class Kept:
    """What the server gave to an answer besides its parts: an id, and to each item its own ids.

    `fingerprint` is that of all input since the response `previous` ("": since the beginning), and of the answer. It is
    "" where the server does not keep the conversation.
    """

    items: tuple[JsonObject, ...]
    id: str = ""
    previous: str = ""
    fingerprint: str = ""

    def native(self, provider: str) -> Native:
        data = {"type": KEPT, "items": self.items}
        if self.fingerprint:
            data |= {"id": self.id, "previous": self.previous, "fingerprint": self.fingerprint}
        return Native(provider, json.dumps(json_value(data)), foreign=False)


def with_kept(parts: Sequence[Part], kept: Kept, body: JsonObject, target: Target) -> tuple[Part, ...]:
    """The parts of the answer to `body`, and after them what is kept with them, if it is needed."""
    if not parts:
        return ()
    if target.takes("previous_response_id") and kept.id:
        answer = Conversation(target, {})
        answer.add(ModelAnswered(0, (*parts, kept.native(target.provider))))
        previous = body.get("previous_response_id") or ""
        fingerprint = _fingerprint([*mappings(body.get("input")), *answer.items])
        kept = Kept(kept.items, kept.id, previous, fingerprint)
    is_needed = kept.fingerprint or any(item.get("type") not in _PLAIN or "phase" in item for item in kept.items)
    return (*parts, kept.native(target.provider)) if is_needed else tuple(parts)


class Conversation:
    """The items of a conversation, in order. An answer that came from this provider is sent back item by item as it
    came, with its reasoning; of any other only what people and tools saw.

    The server refuses reasoning without the item that followed it, and an item without the reasoning that led to it.
    """

    def __init__(self, target: Target, images: LoadedImages) -> None:
        self.items: list[Item] = []
        self._target = target
        self._images = images
        self._call_ids: dict[str, str] = {}
        self._ends: list[tuple[Kept, int]] = []

    def add(self, exchange: Exchange) -> None:
        match exchange:
            case MessagesRead():
                self._add_user(message_content(exchange, self._images))
            case ModelAnswered():
                self._add_answer(exchange.parts)
            case Results():
                self._add_results(exchange)
            case SystemNote():
                self.add_message(notice_text(exchange))
            case _:
                assert_never(exchange)

    def add_message(self, words: str) -> None:
        self._add_user([words])

    def known(self) -> JsonObject:
        """The fields of a request to a server that keeps the conversation: what comes after the last response that it
        gave to exactly this conversation, or everything."""
        ends: dict[str, int] = {"": 0}
        last = ""
        for kept, end in self._ends:
            start = ends.get(kept.previous)
            if start is not None and kept.fingerprint == _fingerprint(self.items[start:end]):
                ends[kept.id] = end
                last = kept.id
        after = self.items[ends[last] :]
        return {"previous_response_id": last, "input": after} if last and after else {"input": self.items}

    def _add_user(self, parts: Sequence[ContentPart]) -> None:
        words = joined_text(parts)
        content = [_content(part) for part in parts] if words is None else words
        last = self.items[-1] if self.items else {}
        if last.get("role") == "user" and not self._target.takes("consecutive_roles"):
            self.items[-1] = {"role": "user", "content": [*_contents(last["content"]), *_contents(content)]}
        else:
            self.items.append({"role": "user", "content": content})

    def _add_results(self, results: Results) -> None:
        pictures = pictures_of(results, self._images)
        if not self._target.takes("tools"):
            self._add_user([*map(result_as_text, results.results), *pictures])
            return
        for result in results.results:
            call_id = self._call_ids.get(result.call.id) or plain_id(result.call.id)
            self.items.append({"type": "function_call_output", "call_id": call_id, "output": result_text(result)})
        if pictures:
            self._add_user([PICTURES, *pictures])

    def _add_answer(self, parts: Sequence[Part]) -> None:
        group: list[Part] = []
        for part in parts:
            kept = _kept(part, self._target.provider)
            if kept is None:
                group.append(part)
                continue
            self.items += self._as_it_came(group, kept) or self._bare(group)
            if kept.fingerprint:
                self._ends.append((kept, len(self.items)))
            group = []
        self.items += self._bare(group)

    def _bare(self, parts: Iterable[Part]) -> Iterator[Item]:
        for part in parts:
            match part:
                case Text(words):
                    if words.strip():
                        yield {"role": "assistant", "content": words}
                case Call() if not self._target.takes("tools"):
                    yield {"role": "assistant", "content": call_as_text(part)}
                case Call():
                    yield _call(part, plain_id(part.id))
                case Thinking() | Native():
                    pass
                case _:
                    assert_never(part)

    def _as_it_came(self, parts: Sequence[Part], kept: Kept) -> list[Item]:
        """The items of the answer; empty if its parts are not any more those that came."""
        if len(parts) != len(kept.items):
            return []
        told: list[Item] = []
        call_ids: dict[str, str] = {}
        for part, given in zip(parts, kept.items, strict=True):
            item = self._item(part, given)
            if item is None:
                return []
            if isinstance(part, Call):
                if item["call_id"] in (*self._call_ids.values(), *call_ids.values()):
                    item["call_id"] = plain_id(part.id)
                call_ids[part.id] = item["call_id"]
            if item:
                told.append(item)
        if any(map(_is_reasoning, told)) and not all("id" in item for item in told):
            return []
        self._call_ids |= call_ids
        return [*dropwhile(_is_reasoning, reversed(told))][::-1]

    def _item(self, part: Part, given: JsonObject) -> Item | None:
        """The item as it came; empty if nothing of it is to be sent; None if the part is not that of the item."""
        match part, given.get("type"):
            case Thinking(), "reasoning":
                return self._reasoning(part, given)
            case Text(words), "message":
                return _message(words.lstrip("\n"), given) if words.strip() else {}
            case Call(), "function_call" if self._target.takes("tools"):
                return _call(part, given["call_id"] if is_id(given.get("call_id")) else plain_id(part.id)) | _id(given)
            case Native(), str(kind) if part.provider == self._target.provider:
                item = mapping(json_value(stored(part.data)))
                return item if item.get("type") == kind else None
            case _:
                return None

    def _reasoning(self, part: Thinking, given: JsonObject) -> Item | None:
        """Reasoning that the server can read; it has none of it stored."""
        if not self._target.takes("encrypted_reasoning"):
            return None
        item = {"type": "reasoning", **_id(given), "summary": []}
        if item.get("id") != part.id or part.id is None:
            return None
        if part.signature:
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            return {**item, "summary": summary, "encrypted_content": part.signature}
        if given.get("plain") and part.text:
            return {**item, "content": [{"type": "reasoning_text", "text": part.text}]}
        return None


def _is_reasoning(item: Item) -> bool:
    return bool(item.get("type") == "reasoning")


def _message(words: str, given: JsonObject) -> Item:
    phase = {"phase": given["phase"]} if given.get("phase") else {}
    if not (id := _id(given)):
        return {"role": "assistant", "content": words, **phase}
    content = [{"type": "output_text", "text": words, "annotations": []}]
    return {"type": "message", "role": "assistant", "status": "completed", "content": content, **id, **phase}


def _call(call: Call, call_id: str) -> Item:
    name, arguments = plain_name(call.name), arguments_json(call)
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def _contents(content: str | list[JsonObject]) -> list[JsonObject]:
    return [_content(content)] if isinstance(content, str) else content


def _content(part: ContentPart) -> JsonObject:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    url = f"data:{part.media_type};base64,{part.data}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def _kept(part: Part, provider: str) -> Kept | None:
    """What the part keeps for this provider; None if it is another part."""
    if not isinstance(part, Native) or part.provider != provider:
        return None
    data = mapping(stored(part.data))
    if data.get("type") != KEPT:
        return None
    id, previous, fingerprint = (as_sent(data.get(name)) or "" for name in ("id", "previous", "fingerprint"))
    return Kept(tuple(mappings(data.get("items"))), id, previous, fingerprint)


def _id(given: JsonObject) -> JsonObject:
    """The id, if the protocol takes it."""
    return {"id": given["id"]} if is_id(given.get("id")) else {}


def is_id(value: object) -> bool:
    """Whether the protocol takes it as an id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _fingerprint(items: Iterable[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, sort_keys=True).encode())
    return digest.hexdigest()
