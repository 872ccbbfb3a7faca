"""The operators' commands: what goes on, what it cost, what is wrong, and why. Their arguments, and which module runs
each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, assert_never, get_args

if TYPE_CHECKING:
    from config.load import Configuration

Command = Literal["status", "usage", "sessions", "trace", "why-not", "doctor", "logs", "workers", "drain"]
COMMANDS: tuple[Command, ...] = get_args(Command)

JSON_OBJECT = "print one JSON object"
JSON_LINES = "JSON Lines: one object per line"


class AddCommand(Protocol):
    def __call__(self, name: str, help: str, description: str) -> argparse.ArgumentParser: ...


def add_commands(add: AddCommand, configured: str) -> None:
    """`configured` is the help of --config."""
    status = add(
        "status",
        "show whether a gateway runs, and what goes on in it",
        "Tasks, unread messages, undelivered replies, cost, disk. Exit code 1 if none runs.",
    )
    status.add_argument("--json", action="store_true", help=JSON_OBJECT)
    usage = add("usage", "show tokens and cost", "Works beside a running gateway.")
    usage.add_argument("--since", metavar="WHEN", help="only since then: an age (7d, 12h) or a date (2026-11-30)")
    usage.add_argument("--by", choices=("person", "conversation", "channel", "model", "day"), default="model")
    usage.add_argument("--json", action="store_true", help=JSON_LINES)
    sessions = add("sessions", "list the conversations", "With their state, last activity and cost.")
    sessions.add_argument("--limit", type=_count, default=50, metavar="N", help="how many, the newest first (50)")
    sessions.add_argument("--json", action="store_true", help=JSON_LINES)
    trace = add("trace", "show what happened in a task, and when", "From its log; works beside a running gateway.")
    trace.add_argument(
        "task", metavar="TASK", help="the id of a task or of a run, or the first six characters of a task's"
    )
    shown = trace.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help=JSON_OBJECT)
    shown.add_argument("--html", type=Path, metavar="FILE", help="write a page")
    why_not = add(
        "why-not",
        "say why a message would not be answered",
        "Walks every gate that a message passes, in order; nothing is sent or stored. Exit code 1 if one refuses it.",
    )
    why_not.add_argument("--channel", required=True, metavar="NAME", help="the channel's name in the settings")
    why_not.add_argument("--user", required=True, metavar="ID", help="the platform's id of the person")
    why_not.add_argument("--text", default="hello", help="what the person writes (hello)")
    why_not.add_argument("--chat", metavar="ID", help="where: a group, or a known chat (the person's direct chat)")
    why_not.add_argument("--thread", metavar="ID", help="the thread or topic")
    why_not.add_argument("--not-addressed", action="store_true", help="the message does not mention the bot")
    why_not.add_argument("--handle", metavar="NAME", help="the person's @name (that of their last message)")
    why_not.add_argument(
        "--group", action="append", default=[], metavar="ID", help="a user group or role that the person is in"
    )
    why_not.add_argument("--bot", action="store_true", help="the sender is a bot or a webhook")
    why_not.add_argument("--membership", choices=("member", "guest", "outsider"), default="member")
    why_not.add_argument("--ask-hooks", action="store_true", help="run the hooks at on_message")
    why_not.add_argument("--json", action="store_true", help=JSON_LINES)
    doctor = add(
        "doctor",
        "look for what is wrong, and say what to do",
        "Settings, data directory, database, disk, sandbox, tokens, models, clock. Exit code 1 if there is a problem.",
    )
    doctor.add_argument("--offline", action="store_true", help="ask no server")
    doctor.add_argument("--json", action="store_true", help=JSON_LINES)
    logs = add("logs", "show the last lines of the running gateway's log", "At most 500; it logs to standard error.")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    logs.add_argument("--since", metavar="WHEN", help="only since then: an age (12h) or a time (2026-11-30T08:00)")
    logs.add_argument("--json", action="store_true", help=JSON_LINES)
    workers = add(
        "workers",
        "list the processes that use the database",
        "What each runs, on which channels it listens, and how long the others would wait for it.",
    )
    workers.add_argument("--json", action="store_true", help=JSON_LINES)
    drain = add(
        "drain",
        "let a process end after its running tasks",
        "It begins nothing new, and others listen in its place. It learns that within seconds.",
    )
    drain.add_argument("worker", metavar="WORKER", help="its id, or how that begins; see `interject workers`")
    for command in (status, usage, sessions, trace, why_not, doctor, logs, workers, drain):
        command.add_argument("--config", type=Path, metavar="FILE", help=configured)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number from 1 on")
    return number


def operate(arguments: argparse.Namespace, configuration: Configuration) -> int:
    """Runs the command, which is one of `COMMANDS`. Returns the exit code."""
    command: Command = arguments.command
    match command:
        case "status":
            from gateway.cli.status import show_status

            return show_status(configuration, as_json=arguments.json)
        case "usage":
            from gateway.cli.usage import show_usage

            return show_usage(configuration, arguments.by, arguments.since, as_json=arguments.json)
        case "sessions":
            from gateway.cli.sessions import show_sessions

            return show_sessions(configuration, arguments.limit, as_json=arguments.json)
        case "trace":
            from gateway.cli.trace import show_trace

            return show_trace(configuration, arguments.task, as_json=arguments.json, html=arguments.html)
        case "why-not":
            return _why_not(arguments, configuration)
        case "doctor":
            from gateway.cli.doctor.doctor import examine

            return examine(configuration, online=not arguments.offline, as_json=arguments.json)
        case "logs":
            from gateway.cli.show_logs import show_logs

            return show_logs(configuration, arguments.since, follow=arguments.follow, as_json=arguments.json)
        case "workers":
            from gateway.cli.workers import show_workers

            return show_workers(configuration, as_json=arguments.json)
        case "drain":
            from gateway.cli.workers import drain

            return drain(configuration, arguments.worker)
        case _:
            assert_never(command)


def _why_not(arguments: argparse.Namespace, configuration: Configuration) -> int:
    from gateway.cli.why_not import Asked, why_not

    asked = Asked(
        arguments.channel,
        arguments.user,
        arguments.text,
        arguments.chat,
        arguments.thread,
        addressed=not arguments.not_addressed,
        handle=arguments.handle,
        groups=tuple(arguments.group),
        is_bot=arguments.bot,
        membership=arguments.membership,
        ask_hooks=arguments.ask_hooks,
    )
    return why_not(configuration, asked, as_json=arguments.json)
