"""The requests of the client. Pure: both clients send them and read their answers with these."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from interject.client.models import (
    Conversation,
    Decision,
    Draining,
    QueuedMessage,
    Run,
    Sent,
    Session,
    Stopped,
    Tool,
    Worker,
)

T = TypeVar("T")

MAX_WAIT = 300.0
"""Seconds for which the gateway holds one request."""


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One request, and how its answer is read. The gateway may take `wait` seconds for it."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    wait: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


def conversations(search: str, channel: str) -> Ask[list[Conversation]]:
    params = {name: value for name, value in (("search", search), ("channel", channel)) if value}
    return Ask("GET", "/conversations", _list_of(Conversation, "conversations"), params)


def send(
    conversation: str,
    text: str,
    client_id: str,
    *,
    files: Iterable[tuple[str, bytes]],
    tools: Iterable[Tool],
    busy: str | None,
    commands: bool,
) -> Ask[Sent]:
    body: dict[str, Any] = {"client_id": client_id, "text": text, "as": "auto" if commands else "message"}
    if busy is not None:
        body["busy"] = busy
    if given := [{"name": name, "data": base64.b64encode(data).decode()} for name, data in files]:
        body["files"] = given
    if declared := [{"name": tool.name, "description": tool.description, "schema": tool.parameters} for tool in tools]:
        body["tools"] = declared
    return Ask("POST", f"{_at(conversation)}/messages", _one(Sent), json=body)


def command(conversation: str, text: str, client_id: str, seconds: float) -> Ask[Sent]:
    body = {"client_id": client_id, "text": text, "as": "command"}
    return Ask("POST", f"{_at(conversation)}/messages", _one(Sent), {"wait": seconds}, body, seconds)


def steer(conversation: str, text: str, client_id: str) -> Ask[Sent]:
    return Ask("POST", f"{_at(conversation)}/steer", _one(Sent), json={"client_id": client_id, "text": text})


def stop(conversation: str, *, background: bool) -> Ask[Stopped]:
    return Ask("POST", f"{_at(conversation)}/stop", _one(Stopped), {"background": background})


def queue(conversation: str) -> Ask[list[QueuedMessage]]:
    return Ask("GET", f"{_at(conversation)}/queue", _list_of(QueuedMessage, "messages"))


def fork(
    conversation: str, *, message: int | None, run: str | None, title: str, agent: str | None, name: str | None
) -> Ask[Conversation]:
    given = {"message": message, "turn": run, "title": title or None, "agent": agent, "name": name}
    body = {field: value for field, value in given.items() if value is not None}
    return Ask("POST", f"{_at(conversation)}/fork", _one(Conversation), json=body)


def run(run: str, seconds: float, *, to_end: bool) -> Ask[Run]:
    params = {"wait": seconds, "until": "end" if to_end else "parked"}
    return Ask("GET", f"/runs/{quote(run, safe='')}", _one(Run), params, wait=seconds)


def results(run: str, given: Mapping[str, str]) -> Ask[Run]:
    body = {"results": [{"call_id": call, "text": text} for call, text in given.items()]}
    return Ask("POST", f"/runs/{quote(run, safe='')}/results", _one(Run), json=body)


def decisions(conversation: str) -> Ask[list[Decision]]:
    path = f"{_at(conversation)}/decisions" if conversation else "/decisions"
    return Ask("GET", path, _list_of(Decision, "decisions"))


def decide(decision: str, *, allow: bool | None, option: int | None) -> Ask[None]:
    body = {"option": option} if allow is None else {"allow": allow}
    return Ask("POST", f"/decisions/{quote(decision, safe='')}", lambda _: None, json=body)


def events(conversation: str, last_id: str) -> Ask[None]:
    path = f"{_at(conversation)}/events" if conversation else "/events"
    return Ask("GET", path, lambda _: None, headers={"Last-Event-ID": last_id} if last_id else {})


def workers() -> Ask[list[Worker]]:
    return Ask("GET", "/workers", _list_of(Worker, "workers"))


def drain(worker: str) -> Ask[Draining]:
    return Ask("POST", f"/workers/{quote(worker, safe='')}/drain", _one(Draining))


def session() -> Ask[Session]:
    return Ask("GET", "/session", _one(Session))


def file_url(conversation: str, hash: str, name: str) -> str:
    """The `url` of a file of the conversation that an event names."""
    return f"/api/v1{_at(conversation)}/files/{hash}/{quote(name, safe='')}"


def _at(conversation: str) -> str:
    return f"/conversations/{quote(conversation, safe='')}"


M = TypeVar("M", Conversation, Decision, Draining, QueuedMessage, Run, Sent, Session, Stopped, Worker)


def _one(kind: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: kind.model_validate(response.json())


def _list_of(kind: type[M], key: str) -> Callable[[httpx.Response], list[M]]:
    return lambda response: [kind.model_validate(each) for each in response.json()[key]]
