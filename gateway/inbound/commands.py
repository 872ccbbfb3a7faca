"""Commands: what people tell the gateway rather than the agent. They never wait for a running turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from agent.log import Notice
from channels.channel import CommandHelp
from channels.message import InboundMessage
from gateway.inbound.access_commands import AccessCommands
from gateway.inbound.context_commands import FOCUS, ContextCommands
from gateway.inbound.conversation_commands import BUSY_MODES, ConversationCommands
from gateway.inbound.data_commands import EVERYWHERE, DataCommands
from gateway.inbound.delivery_commands import DeliveryCommands
from gateway.inbound.how_command import HowCommand
from gateway.inbound.logins import END, Logins
from gateway.inbound.logins import NAME as LOGIN
from gateway.inbound.memory_commands import FORGET, MemoryCommands
from gateway.inbound.prompt_commands import PromptCommands
from gateway.inbound.reload_command import ReloadCommand
from gateway.inbound.schedule_commands import CANCEL, ScheduleCommands
from gateway.inbound.skill_commands import SkillCommands
from gateway.inbound.task_commands import ALL, CLEAN, TaskCommands
from gateway.inbound.trace_command import NAME as TRACE
from gateway.inbound.trace_command import TraceCommand
from gateway.store.records import Busy, Command

ANSWER = "answer"
"""The command of a pressed option of a question; people do not type it."""

PAIR = "pair"

AS_TEXT = "text:"
"""Precedes the row of an unknown command in the key of the offer to send it to the agent."""

SEND_AS_TEXT = "Send it as text"

FOR_ONE_MESSAGE: Mapping[str, Busy] = {"queue": "queue", "steer": "steer"}
"""Commands that say what the message after them does while a turn runs."""

FOR_THE_AGENT = ("wrap", "btw", "compact")
"""Commands whose arguments a model reads."""

_ALIASES = {"start": "help", "cancel": "stop", "reset": "new"}

_UNLIMITED = frozenset({"stop", "status", "help", ANSWER})
"""Commands that always work; all others count as messages of their sender (see `MessageRate`)."""


def is_unlimited(name: str) -> bool:
    return _ALIASES.get(name, name) in _UNLIMITED


@dataclass(frozen=True, slots=True)
class _Entry:
    help: str
    run: Callable[[Command], Awaitable[str | None]]
    arguments: str = ""


class MessageCommands(Protocol):
    """Commands that begin a message to the agent: names of skills and prompts."""

    def knows(self, name: str) -> bool: ...

    def as_message(self, message: InboundMessage, level: int) -> InboundMessage:
        """The message, with a note for the model; unchanged if it cannot be one for a sender of this level."""

    def refusal(self, command: Command) -> str:
        """What to tell the person whose command has not become a message, as markdown."""

    def help(self) -> tuple[CommandHelp, ...]:
        """For the menus of platforms. Blocking."""


class Commands:
    """The table of commands. `answer` runs one and returns the answer to the person, as markdown.

    What must take effect at once (a stop) does so before the first await.
    """

    def __init__(
        self,
        tasks: TaskCommands,
        conversation: ConversationCommands,
        access: AccessCommands,
        data: DataCommands,
        delivery: DeliveryCommands,
        schedules: ScheduleCommands,
        memory: MemoryCommands,
        context: ContextCommands,
        how: HowCommand,
        trace: TraceCommand,
        skills: SkillCommands,
        prompts: PromptCommands,
        reload: ReloadCommand,
        logins: Logins,
        mcp: Callable[[Command], Awaitable[str]],
    ) -> None:
        self._begin_messages: tuple[MessageCommands, ...] = (skills, prompts)
        self._table = {
            "stop": _Entry("stop the running task; with `all`, background tasks too", tasks.stop, ALL),
            "wrap": _Entry("let the running task finish up and summarize", tasks.wrap, "message"),
            "btw": _Entry("ask a side question without affecting the running task", tasks.ask_aside, "question"),
            "undo": _Entry("remove the last task from the context", tasks.undo),
            "retry": _Entry("remove the last task from the context and run it again", tasks.retry),
            "new": _Entry("start a new conversation; with `clean`, its files are deleted", tasks.new, CLEAN),
            "compact": _Entry("summarize the conversation for the model now", context.compact, FOCUS),
            "status": _Entry("show the running task, queued messages and background tasks", tasks.status),
            "steer": _Entry("the running task reads this message at once", self._for_one_message, "message"),
            "queue": _Entry("this message waits until the running task ends", self._for_one_message, "message"),
            "busy": _Entry("choose what messages do while a task runs", conversation.busy, " | ".join(BUSY_MODES)),
            "model": _Entry("show or choose the model of this conversation", conversation.model, "name reasoning"),
            "agent": _Entry("show or choose the agent of this conversation", conversation.agent, "name"),
            "usage": _Entry("show token usage and cost", conversation.usage),
            "how": _Entry("show how the last answer was made: model, tools, cost", how.how),
            TRACE: _Entry("show how a task went, in time: the one replied to, or the last", trace.trace, "task"),
            "skills": _Entry("list the skills, each of which is a command too", skills.list),
            "prompts": _Entry("list the prompts of MCP servers, each of which is a command too", prompts.list),
            "mcp": _Entry("list the MCP servers; sign in or out at one", mcp, "login | logout NAME"),
            LOGIN: _Entry("sign in to the web server; with `end`, sign out there", logins.login, END),
            "schedules": _Entry("list the scheduled tasks; cancel one", schedules.schedules, f"{CANCEL} NAME"),
            "memory": _Entry("list what is remembered; forget a note", memory.memory, f"{FORGET} NAME"),
            "redeliver": _Entry("send again what could not be shown here", delivery.redeliver, EVERYWHERE),
            PAIR: _Entry("approve a pairing code (admins)", access.pair, "code"),
            "access": _Entry("show who has access by pairing, or revoke it (admins)", access.access, "revoke ID"),
            "reload": _Entry("load the settings and the tools in files again (admins)", reload.reload),
            "forget": _Entry("delete your messages and files here", data.forget, EVERYWHERE),
            "export": _Entry("get your data of this conversation as a file", data.export, EVERYWHERE),
            "help": _Entry("show these commands", self._help),
        }

    def list(self) -> tuple[CommandHelp, ...]:
        """Those of the gateway, then those that begin a message. Blocking."""
        found = {name: CommandHelp(name, entry.help, entry.arguments) for name, entry in self._table.items()}
        for command in chain.from_iterable(each.help() for each in self._begin_messages):
            if not self._is_own(command.name):
                found.setdefault(command.name, command)
        return tuple(found.values())

    def knows(self, name: str) -> bool:
        return self._is_own(name) or self._beginning(name) is not None

    def as_message(self, message: InboundMessage, level: int) -> InboundMessage:
        """A command that begins a message, as the message that it is; any other message unchanged."""
        if message.kind != "command" or self._is_own(message.command or ""):
            return message
        commands = self._beginning(message.command or "")
        return message if commands is None else commands.as_message(message, level)

    def _beginning(self, name: str) -> MessageCommands | None:
        return next((each for each in self._begin_messages if each.knows(name)), None)

    def _is_own(self, name: str) -> bool:
        return name == ANSWER or _ALIASES.get(name, name) in self._table

    async def answer(self, command: Command) -> str | Notice | None:
        """None: the command has become a message or a side question, and is answered as such."""
        entry = self._table.get(_ALIASES.get(command.name, command.name))
        if entry is None and (commands := self._beginning(command.name)) is not None:
            return commands.refusal(command)
        if entry is None:
            return Notice(
                f"There is no command `/{command.name}`.\n\nI have not read your message. `/help` lists the commands.",
                (SEND_AS_TEXT,),
                f"{AS_TEXT}{command.id}",
                typed="`/steer` before it sends it as text.",
            )
        return await entry.run(command)

    async def _for_one_message(self, command: Command) -> str:
        """Only without a message: with one it is no command (see `FOR_ONE_MESSAGE`)."""
        return f"Add your message: `/{command.name} and then do this`."

    async def _help(self, command: Command) -> str:
        lines = "\n".join(f"- `/{name}`: {entry.help}" for name, entry in self._table.items())
        return f"Write to me at any time, also while I work: I read it at once.\n\n{lines}"
