"""A request as a message in a conversation, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import unquote
from uuid import uuid4

from agent.media import MediaStore
from channels.programs import address_of
from channels.reply import MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.runs import PendingCall, RunReport, UnknownRun
from channels.web.parse import Post, parse
from gateway.api.caller import Caller
from gateway.api.ids import conversation_id
from gateway.api.openai.errors import Refusal
from gateway.api.openai.requests import RESPONSE, Asked
from gateway.api.places import require_agents_there, require_receiving
from gateway.api.runs import file_of
from gateway.app import Gateway
from gateway.bus import Subscription
from gateway.sessions import session_key
from gateway.store.records import UsageTotals

PACE = 0.05
"""Seconds between two looks at a growing answer."""

DISCONNECTED = "the program that asked has gone"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: `calls` wait for results, or `report` has the end of the run."""

    report: RunReport
    calls: tuple[PendingCall, ...]
    used: UsageTotals


class Exchange:
    """One request. Use `pieces()` once, then `outcome`. `base` is the public address of the server, for files."""

    def __init__(
        self,
        gateway: Gateway,
        media: MediaStore,
        caller: Caller,
        asked: Asked,
        base: str,
    ) -> None:
        self._gateway = gateway
        self._media = media
        self._caller = caller
        self._asked = asked
        self._base = base
        self._is_lasting = asked.conversation is not None or bool(asked.results)
        self._address = address_of(asked.conversation or f"once-{uuid4().hex}")
        self._sender = caller.sender_at(self._address)
        self.session = session_key(self._address)
        self.run = asked.run
        self.outcome: Outcome | None = None

    async def begin(self) -> None:
        """Checks what may be asked. Raises `Refusal`, `Problem` and `UnknownRun`."""
        require_receiving(self._gateway)
        if self._asked.after:
            await self._go_on_after(self._asked.after)
        agents, asked = self._gateway.agents, self._asked.agent
        if asked and asked not in agents.named:
            raise Refusal(404, "model_not_found", f'There is no agent "{asked}".')
        if not self._caller.may_use(asked or agents.pick("", self._address, self._sender)):
            raise Refusal(
                404, "model_not_found", "The key does not let you use this agent. GET /v1/models lists yours."
            )
        if self._asked.run:
            found = await self._gateway.store.run(self._asked.run)
            if found is None:
                raise UnknownRun
            self.session = found.session
        if not self._caller.sees(conversation_id(self.session)):
            raise Refusal(404, "conversation_not_found", "There is no such conversation.")
        await require_agents_there(self._gateway, self._caller, self.session)

    async def _go_on_after(self, run: str) -> None:
        """In the conversation of this run, which must be one of a program."""
        found = await self._gateway.store.run(run)
        name = "" if found is None else program_conversation(found.session)
        if not name:
            raise Refusal(404, "response_not_found", f'There is no response "{RESPONSE}{run}".')
        self._address, self._is_lasting = address_of(name), True
        self.session = session_key(self._address)

    async def pieces(self) -> AsyncGenerator[str]:
        """The text of the answer, as it grows, after an empty piece once the message is stored: what is wrong with the
        request is raised before. Closing it early stops the turn of a conversation that nobody can go on with."""
        async with self._gateway.bus.subscribe(self.session) as events:
            before = await self._reply_before()
            if self._asked.results:
                await self._gateway.runs.submit_results(self.run, self._asked.results)
                row = 0
            else:
                row = await self._say()
            try:
                yield ""
                async with aclosing(self._growth(events, before)) as growth:
                    async for piece in growth:
                        yield piece
            finally:
                if self.outcome is None and not self._is_lasting:
                    self._gateway.bus.stop(self.session, before=row + 1, reason=DISCONNECTED)

    async def _say(self) -> int:
        """Delivers the message; the inbox id of its row."""
        asked = self._asked
        files = [await self._media.put(file.data, file.name) for file in asked.files]
        post = Post(uuid4().hex, asked.text, tuple(files), asked.tools)
        message = parse(post, self._address, datetime.now(UTC))
        # Whatever it begins with: programs send no commands here.
        message = replace(message, sender=self._sender, kind="new", command=None, text=asked.text)
        message = replace(message, note=asked.note)
        await self._gateway.store.open_with_agent(self.session, self._address, asked.agent)
        receipt = await self._gateway.bus.deliver(message)
        if receipt is None or receipt.run is None or receipt.refused:
            reason = "" if receipt is None else receipt.refused
            raise Refusal(403, "refused", reason or "The message was not accepted.")
        self.run = receipt.run
        return receipt.id

    async def _reply_before(self) -> frozenset[str]:
        """The segments that a running turn of the conversation has shown already."""
        active = self._gateway.dispatcher.active(self.session)
        if active is not None and active.reply is not None:
            return frozenset(segment.key for segment in active.reply.reply().segments)
        running = await self._gateway.running.of(self.session)
        if running is not None:
            shown = self._gateway.conversation_view.reply_of(running.record)
            return frozenset(segment.key for segment in shown.segments)
        if self._asked.results:
            turn = (await self._gateway.runs.report(self.run)).turn
            if turn is not None:
                return frozenset(
                    each.key for each in (await self._gateway.conversation_view.reply(self.session, turn)).segments
                )
        return frozenset()

    async def _growth(self, events: Subscription, before: frozenset[str]) -> AsyncGenerator[str]:
        """Ends with `outcome` set."""
        sent = ""
        while True:
            report = await self._followed()
            is_over = report.finished or bool(report.calls) or report.state == "parked"
            if report.turn is not None:
                reply = await self._gateway.conversation_view.reply(self.session, report.turn)
                text = self._text_of(reply, before)
                if is_over and not text and report.reason:
                    text = report.reason
                piece = _added(sent, text)
                if piece:
                    sent = text
                    yield piece
            elif is_over and report.reason:
                yield report.reason
            if is_over:
                used = await self._gateway.store.spent(turn=report.turn or "")
                self.outcome = Outcome(report, report.calls, used)
                return
            await events.changed()
            await asyncio.sleep(PACE)

    async def _followed(self) -> RunReport:
        """The state of the turn that answers: of another message's, if that has read this one."""
        report = await self._gateway.runs.report(self.run)
        if report.state in ("read", "superseded") and report.turn not in (None, self.run):
            return await self._gateway.runs.report(report.turn or "")
        return report

    def _text_of(self, reply: Reply, before: frozenset[str]) -> str:
        return "\n\n".join(
            text for segment in reply.segments if segment.key not in before and (text := self._markdown(segment))
        )

    def _markdown(self, segment: Segment) -> str:
        match segment:
            case TextSegment(secondary=False):
                return segment.markdown.strip()
            case MediaSegment(attachment=file):
                url = self._base + file_of(conversation_id(self.session), file).url
                link = f"[{file.name}]({url})"
                return f"{'!' if file.is_picture else ''}{link}" + (f"\n{segment.caption}" if segment.caption else "")
            case QuestionSegment(open=True):
                options = "".join(f"\n{number}. {option}" for number, option in enumerate(segment.options, 1))
                return f"{segment.question}{options}"
            case _:
                return ""


def _added(sent: str, now: str) -> str:
    """What to send so that a reader has `now`, who has `sent`. What was sent cannot be taken back: where the answer was
    begun anew, it follows in a paragraph of its own."""
    if now.startswith(sent):
        return now[len(sent) :]
    if sent.startswith(now):
        return ""
    return f"\n\n{now}"


def program_conversation(session: str) -> str:
    """The name of a program's conversation; "" for one of another channel."""
    prefix = session_key(address_of(""))
    return unquote(session.removeprefix(prefix)) if session.startswith(prefix) else ""
