"""Slack's agent sessions: the status of a thread, with Slack's own stop button, for apps that have the feature."""

from __future__ import annotations

import logging
from typing import Literal

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.address import Address
from channels.reply import Reply
from channels.slack import limits
from channels.slack.api import Api, error_code, is_rate_limit, only_logged
from channels.slack.content import Json

log = logging.getLogger(__name__)

Status = Literal["processing", "active", "suspended"]

_LOCAL_ERRORS = frozenset(
    {
        *("channel_not_found", "not_in_channel", "is_archived", "thread_not_found", "message_not_found"),
        *(
            "invalid_thread_ts",
            "session_not_found",
            "user_not_found",
            "internal_error",
            "fatal_error",
            "service_unavailable",
        ),
    }
)
"""Errors of one conversation or moment; any other means that the app lacks the feature."""

_NO_STOP_EVENT = "missing_agent_session_stopped_event_subscription"


_Thread = tuple[str, str | None]


def _thread(address: Address) -> _Thread:
    return (address.chat, address.thread)


class AgentSessions:
    """https://docs.slack.dev/ai/agent-sessions/. Apps without the feature get a typing indicator the older way.

    `usable` is None until the first attempt. Failures are only logged: the reply matters more than its status.
    """

    def __init__(self, api: Api) -> None:
        self.usable: bool | None = None
        self._api = api
        self._has_assistant_status = True
        self._has_titles = True
        self._shown: dict[_Thread, Status] = {}
        self._running: dict[_Thread, set[str]] = {}

    def stop_pressed(self, address: Address) -> None:
        """Slack's stop button was pressed, so the status "processing" is shown there."""
        self._shown.setdefault(_thread(address), "processing")

    async def continued(self, reply: Reply, asker: str | None) -> None:
        if reply.parked:
            # It may go on, and end, at another worker.
            self._not_running(reply)
            await self._show(reply.address, "suspended", asker)
        else:
            self._running.setdefault(_thread(reply.address), set()).add(reply.id)
            await self._show(reply.address, "processing", asker)

    async def ended(self, reply: Reply, *, was_begun: bool) -> None:
        """When the last running reply of a thread ends, its status becomes "active", unless it was an answer at once
        while another reply waits for people. `was_begun`: perhaps by an earlier process."""
        self._not_running(reply)
        thread = _thread(reply.address)
        if thread not in self._running and (was_begun or self._shown.get(thread) == "processing"):
            await self._show(reply.address, "active")

    def _not_running(self, reply: Reply) -> None:
        thread = _thread(reply.address)
        running = self._running.get(thread, set())
        running.discard(reply.id)
        if not running:
            self._running.pop(thread, None)

    async def typing(self, address: Address) -> None:
        await self._show(address, "processing")
        if self.usable is False and self._has_assistant_status and address.thread is not None:
            await self._type(address, address.thread)

    def has_title(self, address: Address) -> bool:
        """Whether Slack lists the thread by a title, like those with an app."""
        return address.thread is not None and (bool(self.usable) or (address.kind == "direct" and self._has_titles))

    async def show_title(self, address: Address, title: str) -> None:
        """https://docs.slack.dev/reference/methods/agents.sessions.rename; the older way, if the app has no agent
        sessions: https://docs.slack.dev/reference/methods/assistant.threads.setTitle"""
        if _thread(address) not in self._shown:
            # An answer at once has begun no session, and so it is not known whether the app has any.
            await self._show(address, "active")
        method = "agents.sessions.rename" if self.usable else "assistant.threads.setTitle"
        short = title[: limits.SESSION_TITLE]
        with only_logged("showing a title"):
            try:
                await self._api.call(method, channel_id=address.chat, thread_ts=address.thread, title=short)
            except SlackApiError as error:
                self._has_titles = self._has_titles and _is_local(error)
                raise

    async def _show(self, address: Address, status: Status, initiator: str | None = None) -> None:
        """Does nothing without a thread: there is no session then."""
        thread = _thread(address)
        if address.thread is None or self.usable is False or self._shown.get(thread) == status:
            return
        # Before the answer is known, so that a reply that ends meanwhile ends the status too.
        if status == "active":
            self._shown.pop(thread, None)
        else:
            self._shown[thread] = status
        try:
            answer = await self._set(address, status, initiator)
        except SlackApiError as error:
            log.debug("a session's status is not shown: %s", error)
            code = error_code(error)
            if self.usable is None and code and code not in _LOCAL_ERRORS and not is_rate_limit(error):
                log.info("this app has no agent sessions: %s", code)
                self._turn_off()
        except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("a session's status is not shown: %r", error)
        else:
            self.usable = True
            if _NO_STOP_EVENT in str(answer.get("warning", "")):
                log.warning("the app does not receive Slack's stop button: subscribe it to agent_session_stopped")
                self._turn_off()
                with only_logged("resetting a session's status"):
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
                self._has_assistant_status = _is_local(error)
                raise


def _is_local(error: SlackApiError) -> bool:
    """Whether the same call may succeed elsewhere or later."""
    return error_code(error) in _LOCAL_ERRORS or is_rate_limit(error) or not error_code(error)
