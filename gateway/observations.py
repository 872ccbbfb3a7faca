"""What is observed of the gateway itself, besides the events of turns: messages in, replies out, channels in trouble.

Hooks at `on_event` are told as JSON, whoever watches inside of the gateway as objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.agent import unmasked
from agent.hook import HookContext, Hooks, NoHooks
from agent.log import Undelivered
from channels.message import InboundMessage
from channels.reply import Reply
from gateway.sessions import session_key


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message was stored as the inbox row `id`, in this state."""

    message: InboundMessage
    id: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplyDelivered:
    """People are shown the reply, or will not be shown it, or parts of it."""

    reply: Reply
    undelivered: Undelivered | None

    @property
    def outcome(self) -> str:
        if self.undelivered is None:
            return "shown"
        return "undeliverable" if self.undelivered.is_whole else "partly"


@dataclass(frozen=True, slots=True)
class ReplyDelayed:
    """The platform does not take the reply at the moment; it is tried again after so many seconds."""

    reply: Reply
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The platform refuses further requests for so many seconds (HTTP status 429)."""

    channel: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """The channel receives nothing, and begins again after so many seconds."""

    channel: str
    problem: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TurnAdopted:
    """This worker goes on with a turn of one that is gone."""

    turn: str


@dataclass(frozen=True, slots=True)
class TurnHandedOver:
    """This worker has left a turn between two steps to the others."""

    turn: str


Observation = (
    MessageReceived | ReplyDelivered | ReplyDelayed | RateLimited | ChannelFailed | TurnAdopted | TurnHandedOver
)


def unwatched(observation: Observation) -> None:
    """For a gateway that only hooks watch."""


class Observations:
    """Tells observers without waiting for them. `watch` is told of all observations, and never raises; hooks only if
    there are any at `on_event`. `mask` removes known secrets from what hooks are told."""

    def __init__(
        self,
        hooks: Hooks | None = None,
        mask: Callable[[str], str] = unmasked,
        watch: Callable[[Observation], None] = unwatched,
    ) -> None:
        self.hooks = hooks or NoHooks()
        self._mask = mask
        self._watch = watch

    @property
    def active(self) -> bool:
        """Whether hooks observe."""
        return self.hooks.active("on_event")

    def received(self, message: InboundMessage, id: int, state: str, reason: str) -> None:
        """Hooks are not told the message's words: turns tell what they read."""
        self._watch(MessageReceived(message, id, state, reason))
        if not self.active:
            return
        address, sender = message.address, message.sender
        context = HookContext(session_key(address), address.channel, "", sender.name, sender.id)
        about = {
            "id": id,
            "kind": message.kind,
            "command": message.command or "",
            "characters": len(message.text),
            "files": len(message.files),
            "bytes": sum(file.size or 0 for file in message.files),
            "state": state,
            "reason": reason,
        }
        self._tell(context, "MessageReceived", about)

    def delivered(self, reply: Reply, undelivered: Undelivered | None) -> None:
        observed = ReplyDelivered(reply, undelivered)
        self._watch(observed)
        if not self.active:
            return
        parts = () if undelivered is None else undelivered.parts
        about = {
            "reply": reply.id,
            "outcome": observed.outcome,
            "reasons": list(dict.fromkeys(part.reason for part in parts)),
            "segments": len(reply.segments),
            "waits": reply.parked,
        }
        self._tell(_context_of(reply), "ReplyDelivered", about)

    def delayed(self, reply: Reply, reason: str, seconds: float) -> None:
        self._watch(ReplyDelayed(reply, reason, seconds))
        if self.active:
            about = {"reply": reply.id, "reason": reason, "seconds": round(seconds, 1)}
            self._tell(_context_of(reply), "ReplyDelayed", about)

    def rate_limited(self, channel: str, seconds: float) -> None:
        """Hooks are told of the replies that it delays."""
        self._watch(RateLimited(channel, seconds))

    def channel_failed(self, channel: str, problem: str, seconds: float) -> None:
        self._watch(ChannelFailed(channel, problem, seconds))
        if self.active:
            self._tell(
                HookContext(channel=channel), "ChannelFailed", {"problem": problem, "seconds": round(seconds, 1)}
            )

    def adopted(self, turn: str) -> None:
        """Hooks are not told: the turn says it."""
        self._watch(TurnAdopted(turn))

    def handed_over(self, turn: str) -> None:
        """Hooks are not told: the turn goes on."""
        self._watch(TurnHandedOver(turn))

    def _tell(self, context: HookContext, event: str, about: dict[str, Any]) -> None:
        self.hooks.observe(context, json.loads(self._mask(json.dumps({"event": event, **about}))))


def _context_of(reply: Reply) -> HookContext:
    return HookContext(session_key(reply.address), reply.address.channel, reply.id)
