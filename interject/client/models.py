"""What the API answers. Fields that a newer gateway adds are kept, so that an older client goes on working."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

FINAL = frozenset({"completed", "failed", "stopped", "withdrawn", "refused", "read", "superseded"})


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class File(_Model):
    """A stored file; `url` is the path of its bytes on the gateway, `size` is in bytes."""

    hash: str
    name: str
    media_type: str
    size: int
    url: str


class Call(_Model):
    """A call of a tool that your program runs, whose result is pending."""

    id: str
    name: str
    arguments: dict[str, Any]


class Run(_Model):
    """What became of a message. `text` is the Markdown of the answer so far; `cost` is in dollars. A run that is
    "parked" waits for results of `calls`, for an answer or for an approval."""

    run: str
    conversation: str
    state: str
    outcome: str | None
    reason: str
    text: str
    files: list[File]
    cost: float
    model: str
    agent: str
    calls: list[Call]

    @property
    def ended(self) -> bool:
        return self.state in FINAL


class Sent(_Model):
    """A message that is stored. `duplicate`: it was before. `run` is None for one that gets no answer of its own.
    `command` is the command that it was taken as, if any."""

    id: int
    conversation: str
    state: str
    reason: str
    duplicate: bool
    run: str | None
    conflicts: list[str]
    command: str | None = None
    result: Run | None = None


class Conversation(_Model):
    id: str
    channel: str
    title: str
    last_at: datetime
    running: bool


class Decision(_Model):
    """Something that a turn asks people: an approval, or a question with its options."""

    id: str
    conversation: str
    kind: str
    state: str
    question: str
    options: list[str]
    tool: str | None
    arguments: dict[str, Any] | None
    until: datetime | None


class Session(_Model):
    """Whom the gateway takes the caller for, with its scope."""

    name: str
    scope: str


class Stopped(_Model):
    """What was stopped; `turn` is None if nothing ran."""

    turn: str | None
    withdrawn: int


class QueuedMessage(_Model):
    """A message that no turn has read yet."""

    id: int
    text: str


class Worker(_Model):
    """A process that works on the database of the gateway. `state` is "works", "draining" or "dead"; `lease` is in
    seconds, None where there can be only one worker. It runs `turns` of at most `room`, and listens on `connectors` for
    all. `asked`: it is the one that has answered."""

    id: str
    host: str
    pid: int
    version: str
    since: datetime
    state: str
    lease: float | None
    turns: int
    room: int
    connectors: list[str]
    asked: bool


class Draining(_Model):
    """The worker takes nothing new, and ends after its `turns`."""

    id: str
    turns: int


class Event(_Model):
    """An event of a stream; its other fields depend on its `type` (docs/reference/events.md). `id` is the last one to
    begin a later stream with. `data` are all fields as they were sent: some types have an `id` of another meaning."""

    id: str
    type: str
    data: dict[str, Any]


class Tool(_Model):
    """A tool that your program runs. `parameters` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    parameters: dict[str, Any]
