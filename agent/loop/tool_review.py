"""What hooks and people make of a tool call: whether it may run and with what, and what is left of its result."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.agent import Agent
from agent.decisions.approvals import allowed_tools, approval, decision_on, denial
from agent.hook import Ask, Deny, End, ReplyPart, Respond, Ruled, Stop, ToolCall, ToolEnd
from agent.log import ApprovalRequested, Call, CallEnded, Entry
from agent.log_state import calls_of
from agent.loop.streaming import EndTurn, reviewed, reviewed_files
from agent.tool import Tool, ToolError
from agent.tools.output_limits import truncate_result
from agent.turn_context import TurnContext

NOBODY_TO_ASK = "Denied: this call needs approval, and nobody can be asked here."
WITHHELD = "[Not shown to the person: denied by a hook]"


@dataclass(frozen=True, slots=True)
class Ready:
    """A call that may run, with the arguments that were settled on; `response` is a hook's result in its place."""

    call: Call
    tool: Tool
    arguments: str
    response: str | None = None


class ToolReview:
    """Looks at the calls of one step before they run, and at their results before anybody is told of them."""

    def __init__(self, agent: Agent, turn_context: TurnContext, entries: Sequence[Entry]) -> None:
        """`entries` is the turn's log itself, which grows meanwhile."""
        self._agent = agent
        self._turn_context = turn_context
        self._entries = entries
        self._over: EndTurn | None = None

    @property
    def over(self) -> EndTurn | None:
        """That the turn is to end, as a hook wanted it when it saw a result: what was done is to be recorded first."""
        return self._over

    async def judged(self, call: Call, tool: Tool) -> Ready | CallEnded | ApprovalRequested:
        """Whether the call may run, as its tool's settings, the hooks and people have it. Raises `EndTurn`."""
        settled = decision_on(call.id, self._entries)
        if settled is not None:
            asked, decided = settled
            if decided.decision in ("allowed", "allowed_always"):
                return Ready(call, tool, asked.arguments, asked.response)
            return denial(call, decided)
        try:
            tool.check(call.arguments)
        except ToolError as error:
            return CallEnded(call.id, "failed", str(error))
        return await self._judged_by_hooks(Ready(call, tool, call.arguments))

    async def reviewed_end(self, ready: Ready, end: CallEnded) -> CallEnded:
        """The result as after_tool and before_reply leave it. That the turn is to end is remembered in `over`."""
        hooks = self._agent.hooks
        if hooks.active("after_tool"):
            end = await self._changed_end(ready, end)
        if not hooks.active("before_reply"):
            return end
        try:
            return await self._end_for_people(end)
        except EndTurn as over:
            self._over = over
            return replace(end, attachments=(), for_user="", final=False)

    async def checked(self, ready: Ready, end: CallEnded) -> CallEnded:
        """The result as hooks and the mask leave it, no longer than the model's context can bear."""
        end, mask = await self.reviewed_end(ready, end), self._agent.mask
        text, full = await truncate_result(mask(end.text), f"{ready.tool.name}-{end.call_id}", self._agent.media)
        return replace(end, text=text, full=full, caption=mask(end.caption), for_user=mask(end.for_user))

    async def _judged_by_hooks(self, ready: Ready) -> Ready | CallEnded | ApprovalRequested:
        """What the hooks make of it. Those that approve see the call as those before it have changed it."""
        asked_for, why = self._needs_leave(ready.tool), ""
        ready, ruled = await self._changed(ready)
        match _ruling(ruled):
            case Respond(text):
                ready = replace(ready, response=text)
                asked_for = asked_for and not (ruled is not None and ruled.trusted)
            case Ask(reason):
                asked_for, why = True, reason
            case Deny(reason):
                return _denied(ready.call, reason, ruled)
            case None:
                pass
        ruled = await self._approved(ready)
        match _ruling(ruled):
            case Ask(reason):
                asked_for, why = True, reason
            case Deny(reason):
                return _denied(ready.call, reason, ruled)
            case Respond() | None:
                pass
        return self._asked(ready, why) if asked_for else ready

    def _needs_leave(self, tool: Tool) -> bool:
        """Whether people have to allow the call, as far as its tool's settings go."""
        return tool.approval == "always" or (tool.approval == "once" and not self._is_allowed(tool))

    def _is_allowed(self, tool: Tool) -> bool:
        """For the conversation: before this turn, or in it."""
        return tool.name in self._turn_context.allowed or tool.name in allowed_tools(
            self._entries, calls_of(self._entries)
        )

    async def _changed(self, ready: Ready) -> tuple[Ready, Ruled | None]:
        """The call as before_tool leaves it."""
        hooks = self._agent.hooks
        if not hooks.active("before_tool"):
            return ready, None
        subject, ruled = await hooks.ask("before_tool", self._turn_context.hook_context, _subject(ready))
        return replace(ready, arguments=_arguments(subject, ready)), ruled

    async def _approved(self, ready: Ready) -> Ruled | None:
        """What approve_tool says; it changes nothing."""
        hooks = self._agent.hooks
        if not hooks.active("approve_tool"):
            return None
        _, ruled = await hooks.ask("approve_tool", self._turn_context.hook_context, _subject(ready))
        return ruled

    def _asked(self, ready: Ready, why: str) -> ApprovalRequested | CallEnded:
        """The question to people, or the denial where there are none."""
        if self._turn_context.unattended:
            return CallEnded(ready.call.id, "denied", NOBODY_TO_ASK)
        expires_at = time.time() + self._agent.approval_timeout
        return approval(ready.tool, ready.call, ready.arguments, why, expires_at, ready.response)

    async def _changed_end(self, ready: Ready, end: CallEnded) -> CallEnded:
        """The result as after_tool leaves it."""
        shown = ToolEnd(end.call_id, ready.tool.name, end.outcome, end.text, end.for_user)
        wanted, ruled = await self._agent.hooks.ask("after_tool", self._turn_context.hook_context, shown)
        if ruled is not None and isinstance(ruled.ruling, End | Stop):
            self._over = EndTurn(ruled.ruling, ruled.hook)
        return replace(end, text=wanted.text, for_user=wanted.for_user)

    async def _end_for_people(self, end: CallEnded) -> CallEnded:
        """The result with what people may see of it. Raises `EndTurn`."""
        hooks, context = self._agent.hooks, self._turn_context.hook_context
        kept, caption, note = await reviewed_files(hooks, context, end.attachments, end.caption)
        if end.for_user.strip():
            part = await reviewed(hooks, context, ReplyPart("text", end.for_user))
            end = replace(end, for_user="" if part is None else part.text)
        elif end.final and not end.attachments:
            part = await reviewed(hooks, context, ReplyPart("text", end.text))
            note = WITHHELD if part is None else ""
            end = replace(end, text=end.text if part is None else part.text, final=part is not None)
        return replace(end, text=f"{end.text}\n{note}".strip() if note else end.text, attachments=kept, caption=caption)


def _subject(ready: Ready) -> ToolCall:
    return ToolCall(ready.call.id, ready.tool.name, json.loads(ready.arguments or "{}"), ready.tool.effect)


def _arguments(subject: ToolCall, ready: Ready) -> str:
    """The JSON text of what the hooks left, word for word as it was if they changed nothing."""
    same = subject.arguments == json.loads(ready.arguments or "{}")
    return ready.arguments if same else json.dumps(dict(subject.arguments))


def _ruling(ruled: Ruled | None) -> Respond | Ask | Deny | None:
    """The ruling, if the turn goes on. Raises `EndTurn` if not."""
    if ruled is None:
        return None
    match ruled.ruling:
        case End() | Stop() as ruling:
            raise EndTurn(ruling, ruled.hook)
        case other:
            return other


def _denied(call: Call, reason: str, ruled: Ruled | None) -> CallEnded:
    by = f"the hook {ruled.hook!r}" if ruled is not None else "a hook"
    return CallEnded(call.id, "denied", f"Denied by {by}: {reason}")
