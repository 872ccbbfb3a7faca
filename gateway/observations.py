"""What hooks at `on_event` are told of the gateway itself, besides the events of turns: messages in, replies out, and
channels in trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agent.agent import unmasked
from agent.hook import HookContext, Hooks, NoHooks
from agent.log import Undelivered
from channels.message import InboundMessage
from channels.reply import Reply
from gateway.sessions import session_key


class Observations:
    """Tells observers without waiting for them, and only if there are any. `mask` removes known secrets."""

    def __init__(self, hooks: Hooks | None = None, mask: Callable[[str], str] = unmasked) -> None:
        self._hooks = hooks or NoHooks()
        self._mask = mask

    @property
    def active(self) -> bool:
        return self._hooks.active("on_event")

    def received(self, message: InboundMessage, id: int, state: str, reason: str) -> None:
        """A message was stored as the inbox row `id`, in this state. Its words are not told: turns tell what they
        read."""
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
        """People are shown the reply, or will not be shown it, or parts of it."""
        if not self.active:
            return
        parts = () if undelivered is None else undelivered.parts
        outcome = "shown" if undelivered is None else "undeliverable" if undelivered.is_whole else "partly"
        about = {
            "reply": reply.id,
            "outcome": outcome,
            "reasons": list(dict.fromkeys(part.reason for part in parts)),
            "segments": len(reply.segments),
            "waits": reply.parked,
        }
        self._tell(_context_of(reply), "ReplyDelivered", about)

    def delayed(self, reply: Reply, reason: str, seconds: float) -> None:
        """The platform does not take the reply at the moment; it is tried again after so many seconds."""
        if self.active:
            about = {"reply": reply.id, "reason": reason, "seconds": round(seconds, 1)}
            self._tell(_context_of(reply), "ReplyDelayed", about)

    def channel_failed(self, channel: str, problem: str, seconds: float) -> None:
        """The channel receives nothing, and begins again after so many seconds."""
        if self.active:
            self._tell(
                HookContext(channel=channel), "ChannelFailed", {"problem": problem, "seconds": round(seconds, 1)}
            )

    def _tell(self, context: HookContext, event: str, about: dict[str, Any]) -> None:
        self._hooks.observe(context, json.loads(self._mask(json.dumps({"event": event, **about}))))


def _context_of(reply: Reply) -> HookContext:
    return HookContext(session_key(reply.address), reply.address.channel, reply.id)
