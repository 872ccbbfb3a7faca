"""The agent's surface: the status of a thread's session, with Slack's own stop button, where the app has that."""

from __future__ import annotations

import logging
from typing import Literal

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.address import Address
from channels.reply import Reply
from channels.slack.api import Api, asks_for_patience, code_of, only_logged
from channels.slack.parse import Json

log = logging.getLogger(__name__)

Status = Literal["processing", "active", "suspended"]

_OF_THE_PLACE = frozenset(
    {
        *("channel_not_found", "not_in_channel", "is_archived", "thread_not_found", "message_not_found"),
        *("invalid_thread_ts", "user_not_found", "internal_error", "fatal_error", "service_unavailable"),
    }
)
"""What is wrong with one place or moment; anything else is wrong with the app."""

_NO_STOP = "missing_agent_session_stopped_event_subscription"


_Thread = tuple[str, str | None]


def _thread(address: Address) -> _Thread:
    return (address.chat, address.thread)


class Sessions:
    """https://docs.slack.dev/ai/agent-sessions/. Where an app has no such surface, typing is shown the older way.

    `usable` is None until it was tried. Failing never raises: a status is worth less than the reply that it is about.
    """

    def __init__(self, api: Api) -> None:
        self.usable: bool | None = None
        self._api = api
        self._assistant = True
        self._shown: dict[_Thread, Status] = {}
        self._running: dict[_Thread, set[str]] = {}

    def pressed(self, address: Address) -> None:
        """Its stop button was pressed there, so it was shown at work."""
        self._shown.setdefault(_thread(address), "processing")

    async def goes_on(self, reply: Reply, asker: str | None) -> None:
        self._running.setdefault(_thread(reply.address), set()).add(reply.id)
        await self._show(reply.address, "suspended" if reply.parked else "processing", asker)

    async def ended(self, reply: Reply, *, was_begun: bool) -> None:
        """The last reply in a thread to end puts it at rest. `was_begun`: perhaps by an earlier process."""
        thread = _thread(reply.address)
        running = self._running.get(thread, set())
        running.discard(reply.id)
        if running:
            return
        self._running.pop(thread, None)
        if was_begun or thread in self._shown:
            await self._show(reply.address, "active")

    async def typing(self, address: Address) -> None:
        await self._show(address, "processing")
        if self.usable is False and self._assistant and address.thread is not None:
            await self._type(address, address.thread)

    async def _show(self, address: Address, status: Status, initiator: str | None = None) -> None:
        """Without a thread there is no session."""
        thread = _thread(address)
        if address.thread is None or self.usable is False or self._shown.get(thread) == status:
            return
        # Before the answer is known, so that a reply that ends meanwhile ends this too.
        if status == "active":
            self._shown.pop(thread, None)
        else:
            self._shown[thread] = status
        try:
            answer = await self._set(address, status, initiator)
        except SlackApiError as error:
            log.debug("a session's status is not shown: %s", error)
            code = code_of(error)
            if self.usable is None and code and code not in _OF_THE_PLACE and not asks_for_patience(error):
                log.info("this app has no agent sessions: %s", code)
                self._turn_off()
        except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("a session's status is not shown: %r", error)
        else:
            self.usable = True
            if _NO_STOP in str(answer.get("warning", "")):
                log.warning("the app does not hear Slack's stop button: subscribe it to agent_session_stopped")
                self._turn_off()
                with only_logged("taking back a session's status"):
                    await self._set(address, "active")

    async def _set(self, address: Address, status: Status, initiator: str | None = None) -> Json:
        return await self._api.call(
            "agents.sessions.setStatus",
            channel_id=address.chat,
            thread_ts=address.thread,
            status=status,
            initiator_user_id=initiator,
        )

    def _turn_off(self) -> None:
        self.usable = False
        self._shown.clear()

    async def _type(self, address: Address, thread: str) -> None:
        """Slack clears it with the next message: https://docs.slack.dev/reference/methods/assistant.threads.setStatus"""
        with only_logged("typing"):
            try:
                await self._api.call(
                    "assistant.threads.setStatus", channel_id=address.chat, thread_ts=thread, status="is working…"
                )
            except SlackApiError as error:
                self._assistant = code_of(error) in _OF_THE_PLACE or asks_for_patience(error) or not code_of(error)
                raise
