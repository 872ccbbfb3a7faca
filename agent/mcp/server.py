"""An MCP server as a toolset: one task owns the connection, opens it again when it is lost, and lists its tools."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Container, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from agent.gate import one_line
from agent.interrupt import cancel_and_wait, is_cancelled
from agent.loading import load
from agent.mcp.account import Account, Link, OpenLink
from agent.mcp.errors import AccountsUnavailable, McpError, PagesNeeded
from agent.mcp.known_tools import KnownTools, read_known_tools, write_known_tools
from agent.mcp.listing import ListedTool
from agent.mcp.names import tool_name
from agent.mcp.prompts import Prompt, PromptCommand, command_name
from agent.mcp.rules import RuleChanges, rules_of
from agent.mcp.sources import HttpSource, Source
from agent.mcp.tools import McpTool, mcp_tool
from agent.tool import Tool, ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.toolset import matches

if TYPE_CHECKING:
    from mcp_types import CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult

    from agent.mcp.connection import Connection

log = logging.getLogger(__name__)

PROBE_TIMEOUT = 30.0
"""Seconds in which an open server must list its tools."""

REFRESH_PAUSE = 1.0
"""Seconds between two lists of tools: a server may say all the time that they have changed."""

HEALTHY_AFTER = 30.0
"""Seconds of a connection after which the delay before the next one is short again."""

SHOWN_EVERY = 0.25
"""Seconds between two texts that people are shown of a running call."""

MAX_LOGGED = 20
"""Lines of a server's log that are logged per second."""

MAX_COMPLAINT = 200
"""Characters of the line of its stderr that is told with why a server is down."""

SIGN_IN_TIME = 600.0
"""Seconds that a call waits for a person who signs in, beside its own time."""

NOT_SIGNED_IN = "nobody is signed in"

OTHERS_WROTE = (
    "this uses the account of {person}, but other people have written in this task as well. It is not used for them: "
    "{person} can ask again in a task of their own"
)


_ASKING: ContextVar[_Shown | None] = ContextVar("asking", default=None)
"""The call that the current task makes."""

T = TypeVar("T")

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}

PROMPT = "prompt"
PROMPT_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "arguments": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
}

State = Literal["starting", "running", "down", "signed_out"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `start`: until a server must be ready. `wait`: how long a call waits for a server that starts.
    `restart_delay`: before the first restart, doubled each time up to `max_restart_delay`."""

    start: float = 60.0
    wait: float = 15.0
    restart_delay: float = 1.0
    max_restart_delay: float = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What is offered of a server's tools, and how. `include` and `exclude` are names or patterns; nothing in `include`
    means all. `changes` are the operator's, by the server's names. `timeout` is in seconds, for a call. Without
    `trusts_annotations`, every tool counts as one with effects outside. `taken` are names that other tools have.
    With `sampling`, the server may ask the model of the turn that calls it, and with `elicitation` the person who began
    that turn."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    changes: Mapping[str, RuleChanges] = field(default_factory=dict)
    timeout: float = 60.0
    trusts_annotations: bool = True
    taken: frozenset[str] = frozenset()
    sampling: bool = False
    elicitation: bool = False

    def offers(self, name: str) -> bool:
        return (not self.include or matches(name, self.include)) and not matches(name, self.exclude)


@dataclass(frozen=True, slots=True)
class Status:
    """`reason` says why a server is down, `problems` what is wrong with tools that it lists."""

    state: State
    reason: str
    tools: int
    problems: tuple[str, ...]

    @property
    def parts(self) -> list[str]:
        """What is to be said of it, one thing each."""
        match self.state:
            case "starting":
                return ["starting"]
            case "down":
                return [f"down: {self.reason}"]
            case "signed_out":
                return [self.reason]
            case "running":
                return [f"{self.tools} tool{'' if self.tools == 1 else 's'}", *self.problems]

    def __str__(self) -> str:
        return "; ".join(self.parts)


class McpServer:
    """Iterating gives the server's tools; while it is down the last known ones, whose calls fail with the reason.

    Use as a context manager, in the task that leaves it: entering starts the server in the background.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        policy: Policy | None = None,
        timing: Timing | None = None,
        *,
        known: Path | None = None,
        open_link: OpenLink | None = None,
        personal: bool = False,
    ) -> None:
        """`known` is a file in which its tools are kept, for the next start. `open_link` leads to a person who is to
        sign in because of a call. A `personal` server is used
        with the account of one person, for that person; with known tools it connects when it is first called."""
        self.name = name
        self._known = known
        self._account = source.account if isinstance(source, HttpSource) else None
        self._open_link = open_link
        self._personal = personal
        self._signing = asyncio.Lock()
        self._signed_in = asyncio.Event()
        self._sign_in_id: str | None = None
        """The sign-in with which it connects, "" for none; None before it is known."""
        self._source = source
        self._policy = policy or Policy()
        self._timing = timing or Timing()
        self._tools: tuple[McpTool, ...] = ()
        self._found = KnownTools()
        self._problems: tuple[str, ...] = ()
        self._prompt_tool: McpTool | None = None
        self._connection: Connection | None = None
        self._state: State = "starting"
        self._reason = "it has not been started"
        self._settled = asyncio.Event()
        self._wake = asyncio.Event()
        self._lost = ""
        self._complaint = ""
        """The last line of its stderr since it was started."""
        self._was_open = False
        self._running: set[_Shown] = set()
        self._log = _BoundedLog(name)
        self._owner: asyncio.Task[None] | None = None
        self.prompts_changed: Callable[[], None] = _nobody_asks
        """Called when it has other prompts than before. Must return quickly."""

    async def __aenter__(self) -> McpServer:
        await asyncio.to_thread(self.recall)
        if not (self._personal and self.has_known_tools):
            self._start()
        return self

    def recall(self) -> None:
        """Offers what is known from before. Blocking for a small file."""
        if self._known is not None:
            self._offer(read_known_tools(self._known))

    def _start(self) -> None:
        self._owner = asyncio.create_task(self._supervise())

    async def __aexit__(self, *exc: object) -> None:
        if self._owner is not None:
            await cancel_and_wait(self._owner)

    def __iter__(self) -> Iterator[Tool]:
        if self._state != "signed_out" or self._open_link is None:
            return iter(self._tools)
        waiting = (replace(tool, timeout=tool.timeout + SIGN_IN_TIME) for tool in self._tools)
        return iter((self._sign_in_tool, *waiting))

    @cached_property
    def _sign_in_tool(self) -> McpTool:
        about = f"Signs the person in at {self.name}, whose tools can be used after that. It sends them a link."
        rules = rules_of({"readOnlyHint": True, "openWorldHint": False}, SIGN_IN_TIME, None)
        return mcp_tool(tool_name(self.name, "sign_in", self._policy.taken), about, NO_ARGUMENTS, rules, self._sign_in)

    @property
    def status(self) -> Status:
        return Status(self._state, self._reason, len(self._tools), self._problems)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return self._found.prompts

    def prompt_commands(self, taken: Collection[str] = ()) -> Iterator[PromptCommand]:
        """Commands for its prompts, if the tool that reads them is offered; `taken` are names of other commands."""
        names: set[str] = set()
        for prompt in self.prompts if self._prompt_tool is not None else ():
            name = command_name(self.name, prompt.name, {*taken, *names})
            names.add(name)
            assert self._prompt_tool is not None
            yield PromptCommand(name, prompt, self._prompt_tool)

    async def settled(self) -> Status:
        """The status once the first attempt to start has ended."""
        await self._settled.wait()
        return self.status

    @property
    def has_known_tools(self) -> bool:
        """Whether it is known what it offers, perhaps from before."""
        return bool(self._found.tools)

    @property
    def is_started(self) -> bool:
        return self._owner is not None

    @property
    def is_busy(self) -> bool:
        """Whether a call runs, or somebody is signing in."""
        return bool(self._running) or self._signing.locked()

    # Signing in

    @property
    def account(self) -> Account | None:
        return self._account

    async def sign_in(self, link: Link) -> None:
        """Signs a person in, and connects anew as them. Raises `McpError` with why it did not work."""
        if self._account is None:
            raise McpError("it is a program on this machine, at which nobody signs in")
        signing = await load("agent.mcp.sign_in")
        await signing.sign_in(self._account, link)
        log.info("MCP server %s: somebody has signed in", self.name)
        self._connect_anew()

    async def sign_out(self) -> str | None:
        """Forgets the account and what it could do, and has its tokens revoked. None if there was none; else why they
        may still be valid, "" if they are not. Raises `AccountsUnavailable`, and `OSError` for a file."""
        if self._account is None:
            return None
        signing = await load("agent.mcp.sign_in")
        revoked: str | None = await signing.sign_out(self._account)
        await self._forget_tools()
        self._connect_anew()
        if revoked:
            log.warning("MCP server %s: the access of who has signed out may be valid still: %s", self.name, revoked)
        return revoked

    async def follow_account(self) -> None:
        """Connects anew if somebody has signed in or out elsewhere. Raises `AccountsUnavailable`."""
        if self._account is None or self._sign_in_id is None or self._signing.locked():
            return
        known, found = self._sign_in_id, await self._account.sign_in_id()
        if found == known or self._sign_in_id != known:
            return
        self._sign_in_id = found
        if not found:
            await self._forget_tools()
        self._connect_anew()

    async def _forget_tools(self) -> None:
        self._offer(KnownTools())
        if self._known is not None:
            await asyncio.to_thread(self._known.unlink, missing_ok=True)

    def _connect_anew(self) -> None:
        self._lose("the account has changed")
        if self._state == "signed_out":
            self._state = "starting"
            self._settled.clear()
        self._signed_in.set()

    async def _sign_in(self, context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        try:
            await self._ready(context, _Shown(context))
        except McpError as error:
            raise ToolError(f"{self.name}: {error}") from error
        names = ", ".join(tool.name for tool in self._tools)
        return ToolResult(f"Signed in. The tools are: {names}" if names else "Signed in. There are no tools.")

    async def _ready(self, context: ToolContext, shown: _Shown) -> Connection:
        """The connection. A person is asked to sign in if it needs that. Raises `McpError`."""
        if self._personal and context.others_wrote:
            raise McpError(OTHERS_WROTE.format(person=context.asked_by.sender or "the person who began the task"))
        await self.follow_account()
        try:
            return await self._connected()
        except McpError:
            if self._state != "signed_out":
                raise
        async with self._signing:
            if self._account is not None and self._account.signed_in and self._state == "signed_out":
                # It may have been refused for a while only.
                self._connect_anew()
            try:
                return await self._connected()
            except McpError:
                if self._state != "signed_out" or self._open_link is None:
                    raise
            link = await self._open_link(self.name, context.asked_by, personal=self._personal)
            await shown.show("waiting for the sign-in")
            await self.sign_in(link)
        return await self._connected()

    # Observing the connection

    def changed(self) -> None:
        self._wake.set()

    def closed(self) -> None:
        self._lose("it closed the connection")

    def complains(self, line: str) -> None:
        self._complaint = one_line(line, MAX_COMPLAINT)

    async def says(self, level: str, text: str) -> None:
        """Logs the line. People see it if one call runs: with more, it could belong to another conversation."""
        self._log.write(level, text)
        if len(self._running) == 1:
            (shown,) = self._running
            await shown.show(one_line(text, 500))

    # Calls

    async def _call(self, name: str, context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        async def run(connection: Connection, shown: _Shown) -> ToolResult:
            return await connection.call(name, arguments, context.media, shown.show)

        return await self._run(context, run)

    async def _list_resources(self, context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        async def run(connection: Connection, shown: _Shown) -> ToolResult:
            return ToolResult(await connection.resources())

        return await self._run(context, run)

    async def _read_resource(self, context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        uri = arguments.get("uri")
        if not isinstance(uri, str) or not uri:
            raise ToolError("The argument uri is missing: the address of a resource, as it is listed.")

        async def run(connection: Connection, shown: _Shown) -> ToolResult:
            return await connection.resource(uri, context.media)

        return await self._run(context, run)

    async def _read_prompt(self, context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        name, given = arguments.get("name"), arguments.get("arguments") or {}
        if not isinstance(name, str) or not name or not isinstance(given, dict):
            raise ToolError("The argument name is missing, or arguments is not an object.")
        texts = {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}

        async def run(connection: Connection, shown: _Shown) -> ToolResult:
            return await connection.prompt(name, texts, context.media)

        return await self._run(context, run)

    async def _run(self, context: ToolContext, run: Callable[[Connection, _Shown], Any]) -> ToolResult:
        """The result. A call that has not been run because the server had forgotten the session, or because the person
        had to open a page before, is repeated once."""
        shown = _Shown(context)
        self._running.add(shown)
        _ASKING.set(shown)
        try:
            for is_last in (False, True):
                connection = await self._ready(context, shown)
                try:
                    result: ToolResult = await run(connection, shown)
                    return result
                except PagesNeeded as needed:
                    if is_last:
                        raise
                    await self._open_pages(needed, shown)
                except McpError as error:
                    was_not_run = error.not_run or self._is_refused
                    if error.lost or was_not_run:
                        self._lose(str(error))
                    if is_last or not was_not_run:
                        raise
            raise AssertionError("unreachable")
        except McpError as error:
            raise ToolError(f"{self.name}: {error}") from error
        finally:
            self._running.discard(shown)
            await cancel_and_wait(*shown.asking)
            if not self._running:
                # A call that was cancelled or too slow may have hung the server: its tools are listed to see.
                self._wake.set()

    async def _sample(self, params: CreateMessageRequestParams) -> CreateMessageResult:
        """The model's answer to the server, for the call that asks. Raises `McpError`."""
        from agent.mcp.sampling import sampled

        call = self._asking_call("the model")
        await call.show("asks the model")
        return await call.while_it_runs(sampled(params, call.context))

    async def _elicit(self, params: ElicitRequestParams) -> ElicitResult:
        """The answer to the server of the person whose turn calls it. Raises `McpError`."""
        from agent.mcp.elicitation import elicited

        call = self._asking_call("people")
        return await call.while_it_runs(elicited(self.name, params, call.context))

    async def _open_pages(self, needed: PagesNeeded, call: _Shown) -> None:
        """Shows the person the pages, until they have opened them. Raises `McpError`."""
        from agent.mcp.elicitation import elicited

        if not self._policy.elicitation:
            raise McpError(f"{needed}, which the settings do not allow: elicitation = true does")
        for page in needed.pages:
            answer = await call.while_it_runs(elicited(self.name, page, call.context))
            if answer.action != "accept":
                raise McpError(f"{needed}, and has not")

    def _asking_call(self, whom: str) -> _Shown:
        """The call for which the server asks. Over older versions of the protocol that is known only while exactly one
        runs: with more, it is not known whose turn would pay, or who is to answer. Raises `McpError`."""
        asking = _ASKING.get()
        if asking in self._running:
            assert asking is not None
            return asking
        if len(self._running) != 1:
            raise McpError(f"{whom} can be asked only while exactly one call runs")
        (call,) = self._running
        return call

    async def _connected(self) -> Connection:
        """The connection. Waits while the server starts. Raises `McpError` with why it is down."""
        if self._owner is None:
            self._start()
        if self._connection is None and self._state == "starting":
            try:
                async with asyncio.timeout(self._timing.wait):
                    await self._settled.wait()
            except TimeoutError:
                raise McpError("the server is still starting. Try again later") from None
        if self._state == "signed_out":
            raise McpError(f"{self._reason}. An admin can sign in: /mcp login {self.name}")
        if self._connection is None:
            raise McpError(f"the server is down: {self._reason}. It is being started again")
        return self._connection

    def _lose(self, reason: str) -> None:
        """From now on calls wait for the next connection."""
        if not self._lost:
            self._lost = reason
            if self._connection is not None:
                self._connection, self._state = None, "starting"
                self._settled.clear()
            self._wake.set()

    # The owner

    async def _supervise(self) -> None:
        """Keeps the server running forever. Catches whatever goes wrong with one connection."""
        delay, attempt = self._timing.restart_delay, 0
        try:
            await load("agent.mcp.connection")
        except ImportError as error:
            reason = f"the MCP library cannot be loaded: {one_line(error)}"
            log.warning("MCP server %s: %s", self.name, reason)
            self._settle("down", reason)
            return
        while True:
            since, self._was_open, self._complaint = time.monotonic(), False, ""
            try:
                if self._account is not None:
                    self._sign_in_id = await self._account.sign_in_id()
                await self._run_once(attempt)
            except McpError as error:
                reason = f"{error}. It wrote: {self._complaint}" if self._complaint else str(error)
            except Exception as error:
                log.exception("MCP server %s: internal error", self.name)
                reason = f"internal error ({type(error).__name__})"
            if is_cancelled():
                # What fails while a connection is closed takes the place of the cancellation.
                raise asyncio.CancelledError
            if self._is_refused:
                if not await self._has_other_account():
                    await self._until_signed_in()
                # Else somebody has signed in during the attempt.
                assert self._account is not None
                self._account.refused = False
                self._state = "starting"
                self._settled.clear()
                continue
            attempt = 0 if self._was_open else attempt + 1
            if self._was_open and time.monotonic() - since > HEALTHY_AFTER:
                delay = self._timing.restart_delay
            pause = 0.0 if self._was_open and delay == self._timing.restart_delay else delay * random.uniform(0.8, 1.2)
            log.warning("MCP server %s: %s; starting it again in %.0f s", self.name, reason, pause)
            if pause:
                self._settle("down", reason)
                await asyncio.sleep(pause)
            self._state = "starting"
            self._settled.clear()
            delay = min(2 * delay, self._timing.max_restart_delay)

    @property
    def _is_refused(self) -> bool:
        return self._account is not None and self._account.refused

    async def _has_other_account(self) -> bool:
        """Than that with which the last attempt was made."""
        assert self._account is not None
        try:
            return await self._account.sign_in_id() != self._sign_in_id
        except AccountsUnavailable as error:
            log.warning("MCP server %s: %s", self.name, error)
            return False

    async def _until_signed_in(self) -> None:
        """A server that nobody may use yet is left alone."""
        log.info("MCP server %s: %s", self.name, NOT_SIGNED_IN)
        self._signed_in.clear()
        self._settle("signed_out", NOT_SIGNED_IN)
        await self._signed_in.wait()

    async def _run_once(self, attempt: int) -> None:
        """One connection, until it is lost. Raises `McpError` with why it ended."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._timing.start):
                    connection = await self._open(stack, attempt)
                    await self._update(connection)
            except TimeoutError:
                raise McpError(f"it was not ready within {self._timing.start:g} s") from None
            self._connection, self._was_open = connection, True
            self._settle("running", "")
            log.info("MCP server %s: %s", self.name, self.status)
            listening = asyncio.create_task(connection.listen(self))
            try:
                await self._keep_current(connection)
            finally:
                self._connection, self._state = None, "starting"
                self._settled.clear()
                await cancel_and_wait(listening)

    async def _open(self, stack: AsyncExitStack, attempt: int) -> Connection:
        """The connection, over the first wire that works. Every second attempt leaves out what old servers may not
        bear."""
        from agent.mcp.connection import connect

        failed: McpError | None = None
        for wire in self._source.wires:
            self._lost = ""
            try:
                mode: Literal["auto", "legacy"] = "legacy" if attempt % 2 else "auto"
                sample = self._sample if self._policy.sampling else None
                elicit = self._elicit if self._policy.elicitation else None
                return await stack.enter_async_context(connect(wire, self._source, mode, self, sample, elicit))
            except McpError as error:
                failed = failed or error
        raise failed or McpError("it has no address")

    async def _keep_current(self, connection: Connection) -> None:
        """Lists the tools again when they may have changed. Raises `McpError` when the connection is lost."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._lost and not self._running:
                try:
                    async with asyncio.timeout(PROBE_TIMEOUT):
                        await self._update(connection)
                except TimeoutError:
                    raise McpError(f"it did not answer within {PROBE_TIMEOUT:g} s") from None
            if self._lost:
                raise McpError(self._lost)
            await self._pause(REFRESH_PAUSE)

    async def _pause(self, seconds: float) -> None:
        """Ends early when the connection is lost."""
        until = time.monotonic() + seconds
        while not self._lost and (left := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return
            if not self._lost:
                self._wake.clear()
                await asyncio.sleep(until - time.monotonic())
                self._wake.set()

    async def _update(self, connection: Connection) -> None:
        listing = await connection.tools()
        prompts = await self._if_listed(connection.prompts(), ())
        has_resources = await self._if_listed(connection.has_resources(), False)
        if self._lost:
            # What was listed may be another account's.
            raise McpError(self._lost)
        tools = tuple(tool for tool in listing.tools if self._policy.offers(tool.name))
        if listing.problems != self._problems:
            for problem in listing.problems:
                log.warning("MCP server %s: %s", self.name, problem)
        self._problems = listing.problems
        found = KnownTools(tools, has_resources, prompts)
        if found == self._found:
            return
        if self._found.tools and self._found.tools != tools:
            log.info("MCP server %s: its tools have changed: %s", self.name, _difference(self._found.tools, tools))
        self._offer(found)
        if self._known is not None:
            await asyncio.to_thread(write_known_tools, self._known, found)

    def _offer(self, found: KnownTools) -> None:
        has_other_prompts = found.prompts != self._found.prompts
        self._found = found
        tools = tuple(self._made(found.tools, with_resources=found.has_resources))
        self._prompt_tool = self._made_prompt_tool({tool.name for tool in tools}) if found.prompts else None
        self._tools = tools if self._prompt_tool is None else (*tools, self._prompt_tool)
        if has_other_prompts:
            self.prompts_changed()

    async def _if_listed(self, listing: Awaitable[T], otherwise: T) -> T:
        """A list that a server declares and then refuses costs only itself."""
        try:
            return await listing
        except McpError as error:
            if error.lost:
                raise
            log.info("MCP server %s: a list of it cannot be read: %s", self.name, error)
            return otherwise

    def _made(self, listed: Sequence[ListedTool], *, with_resources: bool) -> Iterator[McpTool]:
        policy, taken = self._policy, set(self._policy.taken)
        for tool in listed:
            name = tool_name(self.name, tool.name, taken)
            taken.add(name)
            hints = tool.annotations if policy.trusts_annotations else {}
            rules = rules_of(hints, policy.timeout, policy.changes.get(tool.name))
            yield mcp_tool(name, tool.description, tool.schema, rules, partial(self._call, tool.name))
        if with_resources:
            for own, about, arguments, run in (
                (
                    "list_resources",
                    "Lists the resources (documents, data) that the server has.",
                    {},
                    self._list_resources,
                ),
                ("read_resource", "Reads a resource of the server.", {"uri": {"type": "string"}}, self._read_resource),
            ):
                if policy.offers(own):
                    rules = rules_of({"readOnlyHint": True}, policy.timeout, policy.changes.get(own))
                    schema = {"type": "object", "properties": arguments, "required": list(arguments)}
                    yield mcp_tool(tool_name(self.name, own, taken), about, schema, rules, run)

    def _made_prompt_tool(self, taken: Container[str]) -> McpTool | None:
        """People choose a prompt, so its text counts as theirs, unless the server is not trusted."""
        policy = self._policy
        if not policy.offers(PROMPT):
            return None
        hints = {"readOnlyHint": True, "openWorldHint": not policy.trusts_annotations}
        rules = rules_of(hints, policy.timeout, policy.changes.get(PROMPT))
        about = "Reads a prompt of the server, which a person has chosen by its command."
        return mcp_tool(tool_name(self.name, PROMPT, taken), about, PROMPT_ARGUMENTS, rules, self._read_prompt)

    def _settle(self, state: State, reason: str) -> None:
        self._state, self._reason = state, reason
        self._settled.set()


def _nobody_asks() -> None:
    return None


class _Shown:
    """What people see of a running call."""

    def __init__(self, context: ToolContext) -> None:
        self.context = context
        self.asking: set[asyncio.Task[Any]] = set()
        """The server's requests to the model and to people meanwhile."""
        self._at = -SHOWN_EVERY

    async def while_it_runs(self, work: Coroutine[Any, Any, T]) -> T:
        """The result; the end of the call cancels the work. Raises `McpError` then."""
        asking = asyncio.ensure_future(work)
        self.asking.add(asking)
        try:
            return await asking
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise McpError("the call has ended") from None
        finally:
            self.asking.discard(asking)
            await cancel_and_wait(asking)

    async def show(self, text: str) -> None:
        now = time.monotonic()
        if now - self._at >= SHOWN_EVERY:
            self._at = now
            await self.context.progress(text)


class _BoundedLog:
    """A server's log as lines of ours, so many a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._second = 0
        self._number = 0

    def write(self, level: str, text: str) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._number = second, 0
        self._number += 1
        if self._number <= MAX_LOGGED:
            log.info("MCP server %s says (%s): %s", self._name, one_line(level, 20), one_line(text, 500))


def _difference(before: Sequence[ListedTool], now: Sequence[ListedTool]) -> str:
    old, new = {tool.name: tool for tool in before}, {tool.name: tool for tool in now}
    names = {
        "added": new.keys() - old.keys(),
        "removed": old.keys() - new.keys(),
        "changed": {name for name in old.keys() & new.keys() if old[name] != new[name]},
    }
    return one_line("; ".join(f"{what} {', '.join(sorted(which))}" for what, which in names.items() if which), 500)
