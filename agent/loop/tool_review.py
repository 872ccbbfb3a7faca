"""Review of tool calls by hooks and people: whether a call may run, its arguments, and its result."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from agent.agent import Agent
from agent.decisions.approvals import (
    allowed_tools,
    arguments_file,
    call_approval,
    decision_on,
    denial,
    full_arguments,
)
from agent.decisions.external_tools import ExternalTool
from agent.foreign import foreign_sources, name_sources
from agent.gate import one_line
from agent.hook import Ask, Deny, End, ReplyPart, Respond, Ruled, Stop, ToolCall, ToolEnd
from agent.log import ApprovalRequested, Call, CallEnded, Entry
from agent.log_state import calls_of
from agent.loop.streaming import EndTurn, review, review_files
from agent.media import MediaError
from agent.tool import Tool, ToolError
from agent.tools.output_limits import truncate_result
from agent.tools.supplied_results import supplied_end
from agent.transcript import RenderedTurn
from agent.turn_context import TurnContext

NOBODY_TO_ASK = "Denied: this call needs approval, and nobody can be asked here."
HAS_READ = "this task has read text from outside the conversation: {sources}"
DENIED_AFTER_FOREIGN = (
    "Denied, because {has_read}. After that, no call may have effects outside the workspace until a person writes "
    "again. Tell the person what you would have done."
)
NOT_IN_PLACE = (
    "Denied: in place of {call} a hook called the tool {tool}, which it cannot call here. It can call: {others}. "
    "Nothing was run."
)
UNUSABLE = "The hook {hook!r} supplied a result that cannot be used: {error}. Nothing was run."
_NO_TOOLS: Mapping[str, Tool] = MappingProxyType({})
WITHHELD = "[Not shown to the person: denied by a hook]"


@dataclass(frozen=True, slots=True)
class Ready:
    """A call that may run, with its final tool and arguments; `supplied` is a hook's result in place of running it."""

    call: Call
    tool: Tool
    arguments: str
    supplied: CallEnded | None = None


class ToolReview:
    """Reviews the calls of one step before they run, and their results before anybody sees them."""

    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        entries: Sequence[Entry],
        now: Callable[[], Awaitable[float]],
        past: Sequence[RenderedTurn] = (),
        tools: Mapping[str, Tool] = _NO_TOOLS,
    ) -> None:
        """`entries` is the turn's log, which grows meanwhile, `now` is its journal's; `past` is the conversation before
        the turn; `tools` are those that may be called, by name."""
        self._agent = agent
        self._turn_context = turn_context
        self._entries = entries
        self._now = now
        self._past = past
        self._tools = tools
        self._end_turn: EndTurn | None = None

    @property
    def end_turn(self) -> EndTurn | None:
        """A hook's decision, on a result, to end the turn: the results are logged first."""
        return self._end_turn

    def end(self, end_turn: EndTurn) -> None:
        """A hook wants the turn to end, once the calls that run have their results."""
        self._end_turn = end_turn

    async def review_call(self, call: Call, tool: Tool) -> Ready | CallEnded | ApprovalRequested:
        """Whether the call may run, by its decision, arguments, hooks and the tool's settings. Raises `EndTurn`."""
        decision = decision_on(call.id, self._entries)
        if decision is not None:
            request, decided = decision
            if decided.decision not in ("allowed", "allowed_always"):
                return denial(call, decided)
            approved = self._tools.get(request.tool) if request.tool else tool
            if approved is None:
                return self._not_in_place(call, request.tool)
            return Ready(call, approved, request.arguments, request.supplied)
        try:
            tool.check(call.arguments)
        except ToolError as error:
            return CallEnded(call.id, "failed", str(error))
        return await self._review_by_hooks(Ready(call, tool, call.arguments))

    async def review_result(self, tool: str, end: CallEnded) -> CallEnded:
        """The result after the hooks at after_tool and before_reply. `end_turn` then has their decision to end."""
        hooks = self._agent.hooks
        if hooks.active("after_tool"):
            end = await self._ask_after_tool(tool, end)
        if not hooks.active("before_reply"):
            return end
        try:
            return await self._ask_before_reply(end)
        except EndTurn as end_turn:
            self._end_turn = end_turn
            return replace(end, attachments=(), for_user="", final=False)

    async def finish_result(self, tool: str, end: CallEnded) -> CallEnded:
        """The result after hooks and masking, truncated for the model's context."""
        end, mask = await self.review_result(tool, end), self._agent.mask
        text, full = await truncate_result(mask(end.text), f"{tool}-{end.call_id}", self._agent.media)
        return replace(end, text=text, full=full, caption=mask(end.caption), for_user=mask(end.for_user))

    async def _review_by_hooks(self, ready: Ready) -> Ready | CallEnded | ApprovalRequested:
        """The hooks' decision. Hooks at approve_tool see the call as before_tool has changed it."""
        changed, by = await self._ask_before_tool(ready)
        ruling = _ruling(by)
        if isinstance(changed, CallEnded):
            return changed
        ready = changed
        needs_approval, reason = self._needs_approval(ready.tool), ""
        match ruling:
            case Respond():
                needs_approval = needs_approval and not (by is not None and by.trusted)
            case Ask(why):
                needs_approval, reason = True, why
            case Deny(why):
                return _denied(ready.call, why, by)
            case None:
                pass
        ruled = await self._ask_approve_tool(ready)
        match _ruling(ruled):
            case Ask(why):
                needs_approval, reason = True, why
            case Deny(why):
                return _denied(ready.call, why, ruled)
            case Respond() | None:
                pass
        if isinstance(ruling, Respond) and by is not None:
            ready = replace(ready, supplied=await self._supplied_end(ready, ruling, by.hook))
        sources = self._restricting_sources(ready)
        if not sources:
            return await self._request_approval(ready, reason) if needs_approval else ready
        has_read = HAS_READ.format(sources=name_sources(sources))
        if self._agent.foreign_text == "deny":
            return CallEnded(ready.call.id, "denied", DENIED_AFTER_FOREIGN.format(has_read=has_read))
        reason = f"{reason}; {has_read}" if reason else has_read
        return await self._request_approval(ready, reason, each_time=True)

    def _restricting_sources(self, ready: Ready) -> tuple[str, ...]:
        """The sources of foreign text because of which the call needs approval: it may do what that text asks for."""
        if self._agent.foreign_text == "allow" or ready.tool.effect != "external" or ready.supplied is not None:
            return ()
        return self._foreign_sources()

    def _foreign_sources(self) -> tuple[str, ...]:
        return foreign_sources(self._past, self._entries)

    def _needs_approval(self, tool: Tool) -> bool:
        """Whether the call needs approval by the tool's settings."""
        return tool.approval == "always" or (tool.approval == "once" and not self._is_allowed(tool))

    def _is_allowed(self, tool: Tool) -> bool:
        """Whether the tool is allowed for the conversation, before this turn or in it."""
        return tool.name in self._turn_context.allowed or tool.name in allowed_tools(
            self._entries, calls_of(self._entries)
        )

    async def _ask_before_tool(self, ready: Ready) -> tuple[Ready | CallEnded, Ruled | None]:
        """The call after the hooks at before_tool, denied if they put a tool in its place that may not be called."""
        hooks = self._agent.hooks
        if not hooks.active("before_tool"):
            return ready, None
        others = {name: tool.effect for name, tool in self._tools.items() if _may_replace(tool)}
        subject = replace(self._subject(ready), tools=others)
        subject, ruled = await hooks.ask("before_tool", self._turn_context.hook_context, subject)
        ready = replace(ready, arguments=_arguments(subject, ready))
        if subject.tool == ready.tool.name:
            return ready, ruled
        tool = self._tools.get(subject.tool)
        if tool is None or not _may_replace(tool):
            return self._not_in_place(ready.call, subject.tool), ruled
        return replace(ready, tool=tool), ruled

    def _subject(self, ready: Ready) -> ToolCall:
        arguments = json.loads(ready.arguments or "{}")
        return ToolCall(ready.call.id, ready.tool.name, arguments, ready.tool.effect, self._foreign_sources())

    def _not_in_place(self, call: Call, tool: str) -> CallEnded:
        others = ", ".join(name for name, each in self._tools.items() if _may_replace(each)) or "none"
        text = NOT_IN_PLACE.format(call=call.name, tool=one_line(tool, 64), others=others)
        return CallEnded(call.id, "denied", text)

    async def _supplied_end(self, ready: Ready, response: Respond, hook: str) -> CallEnded:
        """The result that the hook supplied; a failed one if its files cannot be used."""
        agent = self._agent
        try:
            return await supplied_end(ready.call.id, response, agent.media, agent.mask, final=ready.tool.final)
        except MediaError as error:
            return CallEnded(ready.call.id, "failed", UNUSABLE.format(hook=hook, error=error))

    async def _ask_approve_tool(self, ready: Ready) -> Ruled | None:
        """The ruling of the hooks at approve_tool, which change nothing."""
        hooks = self._agent.hooks
        if not hooks.active("approve_tool"):
            return None
        _, ruled = await hooks.ask("approve_tool", self._turn_context.hook_context, self._subject(ready))
        return ruled

    async def _request_approval(
        self, ready: Ready, reason: str, *, each_time: bool = False
    ) -> ApprovalRequested | CallEnded:
        """The approval request, or a denial if nobody can be asked. `each_time`: it covers this call only."""
        if self._turn_context.unattended:
            text = f"{NOBODY_TO_ASK} Reason: {reason}" if reason else NOBODY_TO_ASK
            return CallEnded(ready.call.id, "denied", text)
        expires_at = await self._now() + self._agent.approval_timeout
        in_group = self._turn_context.in_group
        tool = replace(ready.tool, approval="always") if each_time else ready.tool
        request = call_approval(
            tool,
            ready.call,
            ready.arguments,
            reason,
            expires_at,
            ready.supplied,
            in_group=in_group,
            mask=self._agent.mask,
        )
        return await self._with_all_arguments(request, ready)

    async def _with_all_arguments(self, request: ApprovalRequested, ready: Ready) -> ApprovalRequested | CallEnded:
        """The request with a file, if the question cannot show all that people are to approve."""
        text = full_arguments(request.shown_arguments)
        if text is None:
            return request
        data = text.encode(errors="backslashreplace")
        try:
            return replace(request, full=await self._agent.media.put(data, arguments_file(ready.tool)))
        except MediaError as error:
            return CallEnded(ready.call.id, "denied", f"Denied: people cannot be shown all of this call: {error}")

    async def _ask_after_tool(self, tool: str, end: CallEnded) -> CallEnded:
        """The result after the hooks at after_tool."""
        shown = ToolEnd(end.call_id, tool, end.outcome, end.text, end.for_user, end.foreign)
        changed, ruled = await self._agent.hooks.ask("after_tool", self._turn_context.hook_context, shown)
        if ruled is not None and isinstance(ruled.ruling, End | Stop):
            self._end_turn = EndTurn(ruled.ruling, ruled.hook)
        return replace(end, text=changed.text, for_user=changed.for_user)

    async def _ask_before_reply(self, end: CallEnded) -> CallEnded:
        """The result after the hooks at before_reply: the parts that people may see. Raises `EndTurn`."""
        hooks, context = self._agent.hooks, self._turn_context.hook_context
        visible, caption, note = await review_files(hooks, context, end.attachments, end.caption)
        if end.for_user.strip():
            part = await review(hooks, context, ReplyPart("text", end.for_user))
            end = replace(end, for_user="" if part is None else part.text)
        elif end.final and not end.attachments:
            part = await review(hooks, context, ReplyPart("text", end.text))
            note = WITHHELD if part is None else ""
            end = replace(end, text=end.text if part is None else part.text, final=part is not None)
        return replace(
            end, text=f"{end.text}\n{note}".strip() if note else end.text, attachments=visible, caption=caption
        )


def _may_replace(tool: Tool) -> bool:
    """Whether a hook may put a call of the tool in another one's place: only the model asks people, and asks programs
    to run their tools."""
    return not tool.asks and not isinstance(tool, ExternalTool)


def _arguments(subject: ToolCall, ready: Ready) -> str:
    """The arguments after the hooks, as JSON text: the original text if nothing changed."""
    same = subject.arguments == json.loads(ready.arguments or "{}")
    return ready.arguments if same else json.dumps(dict(subject.arguments))


def _ruling(ruled: Ruled | None) -> Respond | Ask | Deny | None:
    """The ruling, if the turn continues. Raises `EndTurn` otherwise."""
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
