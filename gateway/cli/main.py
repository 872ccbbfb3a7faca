"""The command line. Imports what a command needs only when that command is called, so that it starts fast."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import VERSION
from gateway.cli.operate import COMMANDS, add_commands, operate
from gateway.cli.standard_streams import discard_unwritable, is_of_stream, open_standard_streams

if TYPE_CHECKING:
    from config.load import Configuration

MISCONFIGURED = 2
"""The exit code for an invalid configuration or command line; 1 is for everything else."""


class Misconfigured(Exception):
    """The configuration is invalid. The message has a line for each problem."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    open_standard_streams()
    arguments = _parser().parse_args(argv)
    _skip_unused_imports()
    try:
        return _flushed(_command(arguments))
    except Misconfigured as error:
        sys.stderr.write(f"interject: invalid configuration\n\n{error}\n")
        return MISCONFIGURED
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not is_of_stream(error):
            raise
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"interject: standard output cannot be written: {error.strerror}\n")
        return 1
    finally:
        discard_unwritable()


def _flushed(code: int) -> int:
    """The exit code, after everything printed was written. Raises `OSError`."""
    sys.stdout.flush()
    return code


def _skip_unused_imports() -> None:
    """Keeps libraries from importing what we do not use: a seventh of the start-up time."""
    # pydantic looks for plug-ins in the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # httpx imports its own command line, with all of rich and click, where these are installed.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # "None: there is no such module"


def _command(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "run":
            from gateway.cli.init_process import leave_first_process

            leave_first_process()
            # Modules are never garbage: collecting while they are imported takes a tenth of the start-up time.
            gc.disable()
            from gateway.cli.run import run

            configuration = _load(arguments.config)
            _require_channel(configuration)
            return run(configuration)
        case "chat":
            from gateway.cli.chat import chat

            return chat(_load(arguments.config), arguments.url, arguments.file, new=arguments.new)
        case "init":
            from gateway.cli.init import init

            return init(arguments.config, os.environ, force=arguments.force)
        case "check":
            from gateway.cli.check import check

            return check(
                _load(arguments.config), online=arguments.online, upgrade=arguments.upgrade, as_json=arguments.json
            )
        case "models":
            from gateway.cli.models import show_models

            return show_models(_load(arguments.config), arguments.provider, as_json=arguments.json)
        case "tools":
            return _tools(arguments)
        case "mcp":
            from gateway.cli.mcp import log_in, log_out, show_servers

            configuration = _load(arguments.config)
            if arguments.action == "list":
                return show_servers(configuration, as_json=arguments.json)
            if arguments.action == "login":
                return log_in(configuration, arguments.name, pastes=arguments.code)
            return log_out(configuration, arguments.name)
        case "pair":
            from gateway.cli.pair import approve, show_requests

            configuration = _load(arguments.config)
            if arguments.action == "list":
                return show_requests(configuration, as_json=arguments.json)
            return approve(configuration, arguments.code)
        case "access":
            from gateway.cli.access import revoke, show_access

            configuration = _load(arguments.config)
            if arguments.action == "list":
                return show_access(configuration, as_json=arguments.json)
            return revoke(configuration, arguments.channel, arguments.user)
        case "keys":
            return _keys(arguments)
        case "api":
            from gateway.cli.api import show_description

            return show_description()
        case "web-token":
            from gateway.cli.web_token import rotate, show

            configuration = _load(arguments.config)
            return show(configuration) if arguments.action == "show" else rotate(configuration)
        case "data":
            return _data(arguments)
        case "backup":
            from gateway.cli.backup import back_up

            return back_up(_load(arguments.config), arguments.file, overwrite=arguments.force, as_json=arguments.json)
        case "restore":
            from gateway.cli.backup import restore

            return restore(_load(arguments.config), arguments.file, overwrite=arguments.force, as_json=arguments.json)
        case "store":
            from gateway.cli.store import copy

            return copy(arguments.source, arguments.target, restart=arguments.restart, as_json=arguments.json)
        case "media":
            from gateway.cli.media import copy as copy_media

            return copy_media(
                _load(arguments.config), arguments.source, arguments.target, environ=os.environ, as_json=arguments.json
            )
        case "reload":
            from config.load import data_directory
            from gateway.cli.reload import reload

            # The settings may be invalid, which the gateway says.
            return reload(data_directory(os.environ).absolute(), as_json=arguments.json)
        case "audit":
            from gateway.cli.audit import show_audit_log

            return show_audit_log(_load(arguments.config), arguments.since, as_json=arguments.json)
        case command if command in COMMANDS:
            return operate(arguments, _load(arguments.config))
        case _:
            sys.stdout.write(f"interject {VERSION}\n")
            return 0


def _tools(arguments: argparse.Namespace) -> int:
    from gateway.cli.tools import show_tools, try_tool

    if arguments.action is None:
        return show_tools(_load(arguments.config), as_json=arguments.json)
    return try_tool(
        _load(arguments.config),
        arguments.name,
        arguments.arguments,
        as_json=arguments.json,
        workspace=arguments.workspace,
        allowed=arguments.yes,
    )


def _keys(arguments: argparse.Namespace) -> int:
    from gateway.cli.keys import create, revoke, show

    configuration = _load(arguments.config)
    if arguments.action == "list":
        return show(configuration, as_json=arguments.json)
    if arguments.action == "revoke":
        return revoke(configuration, arguments.id)
    return create(
        configuration,
        arguments.name,
        arguments.scope,
        agents=arguments.agent,
        conversations=arguments.conversation,
        expires=arguments.expires,
    )


def _data(arguments: argparse.Namespace) -> int:
    from gateway.cli.data import Selection, delete, export, show_conversations

    configuration = _load(arguments.config)
    if arguments.action == "list":
        return show_conversations(configuration, as_json=arguments.json)
    selection = Selection(arguments.conversation, arguments.person)
    if arguments.action == "export":
        return export(configuration, arguments.file, selection, overwrite=arguments.force)
    return delete(configuration, selection, confirmed=arguments.yes)


def _load(file: Path | None) -> Configuration:
    from config.errors import ConfigurationError
    from config.load import load

    try:
        return load(file, os.environ)
    except ConfigurationError as error:
        # Without a cause: a traceback helps nobody here and may show a secret.
        raise Misconfigured("\n".join(f"  {problem}" for problem in error.problems)) from None


def _require_channel(configuration: Configuration) -> None:
    """Only for `interject run`: `interject chat` adds the terminal as a channel."""
    settings = configuration.settings
    if settings.web.enabled or settings.channels:
        return
    raise Misconfigured(
        f"  {configuration.file or 'the environment'}: no channel is enabled: the web chat is off and no other channel "
        "is configured.\n  Remove enabled = false from [web], or add a channel:\n\n"
        '    [channels.telegram]\n    token = "${TELEGRAM_BOT_TOKEN}"\n    allow = ["@your_name"]'
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interject", description="Chat with an LLM agent where you already are, and interrupt it while it works."
    )
    parser.add_argument("--version", action="version", version=f"interject {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}. {description}")

    def add_config(command: argparse.ArgumentParser, help: str, *, again: bool = False) -> None:
        """`again`: it may stand before the sub-command, too; without a value here, that one counts."""
        unset = argparse.SUPPRESS if again else None
        command.add_argument("--config", type=Path, metavar="FILE", default=unset, help=help)

    default = "default: INTERJECT_CONFIG, ./interject.toml, or interject.toml in the data directory"
    run = add(
        "run", "start the gateway", "Prints the link of the web chat, and logs to standard error. Ctrl-C ends it."
    )
    add_config(run, default)
    chat = add(
        "chat",
        "chat in the terminal",
        "Connects to the running gateway with the same data directory, else starts one in its own process. "
        "Piped input is sent as one message, and the answer is printed.",
    )
    add_config(chat, default)
    chat.add_argument("--url", metavar="LINK", help="the link that a running gateway has printed")
    chat.add_argument("--new", action="store_true", help="start a new conversation")
    chat.add_argument(
        "--file", metavar="FILE", action="append", default=[], help="goes with the first message; may be repeated"
    )
    init = add("init", "write a commented interject.toml", "In a terminal, asks for model, keys and bots.")
    add_config(init, "the file to write (default: ./interject.toml)")
    init.add_argument("--force", action="store_true", help="overwrite an existing file")
    check = add("check", "validate the configuration", "Prints each problem with its line, or a summary.")
    add_config(check, default)
    check.add_argument("--json", action="store_true", help="the checks as JSON Lines: one object per line")
    check.add_argument("--online", action="store_true", help="also test tokens, keys and models")
    check.add_argument("--upgrade", action="store_true", help="also try the upgrade of the database, on a copy")
    models = add(
        "models",
        "list the models that the configured providers offer",
        "Asks each provider's server; with context windows and prices, as far as they are known.",
    )
    models.add_argument("provider", nargs="?", metavar="PROVIDER", help="only this one")
    models.add_argument("--json", action="store_true", help="JSON Lines: one object per line")
    add_config(models, default)
    tools = add(
        "tools", "list the tools, and try one", "Says where each is from, and which are off or broken, and why."
    )
    tools.add_argument("--json", action="store_true", help="JSON Lines: one object per tool")
    add_config(tools, default)
    attempt = tools.add_subparsers(dest="action", metavar="ACTION").add_parser("try", help="run a tool once")
    attempt.add_argument("name", metavar="NAME")
    attempt.add_argument("arguments", nargs="?", default="{}", metavar="JSON", help="its arguments, like '{\"n\": 3}'")
    attempt.add_argument("--workspace", type=Path, metavar="FOLDER", help="work there (default: a temporary folder)")
    attempt.add_argument("--yes", action="store_true", help="approve the call")
    attempt.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="the result as JSON")
    add_config(attempt, default, again=True)
    mcp = add("mcp", "list the MCP servers, and sign in at one", "For all people; works beside a running gateway.")
    actions = mcp.add_subparsers(dest="action", required=True, metavar="ACTION")
    servers = actions.add_parser("list", help="the servers, and where somebody is signed in")
    servers.add_argument("--json", action="store_true", help="JSON Lines: one object per server")
    add_config(servers, default)
    for verb, about in (("login", "print a link, and wait until somebody has signed in"), ("logout", "sign out")):
        signing = actions.add_parser(verb, help=about)
        signing.add_argument("name", metavar="NAME", help="the server's name in the settings")
        if verb == "login":
            signing.add_argument(
                "--code", action="store_true", help="the browser is elsewhere: paste the address that it ends at"
            )
        add_config(signing, default)
    pair = add(
        "pair", "list and approve pairing requests", "For channels with `pair = true`; works beside a running gateway."
    )
    actions = pair.add_subparsers(dest="action", required=True, metavar="ACTION")
    approve = actions.add_parser("approve", help="add the user with this pairing code to the allowed users")
    approve.add_argument("code", metavar="CODE")
    add_config(approve, default)
    requests = actions.add_parser("list", help="pending and approved users")
    requests.add_argument("--json", action="store_true", help="JSON Lines: one object per user")
    add_config(requests, default)
    access = add("access", "show and revoke access", "By @name and by pairing; works beside a running gateway.")
    actions = access.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="resolved @names, pairings, and who was refused")
    listed.add_argument("--json", action="store_true", help="JSON Lines: one object per user")
    add_config(listed, default)
    revoked = actions.add_parser("revoke", help="take back what pairing gave; running tasks are stopped")
    revoked.add_argument("channel", metavar="CHANNEL")
    revoked.add_argument("user", metavar="ID")
    add_config(revoked, default)
    add("api", "print the description of the HTTP API", "OpenAPI as JSON; for tools that make clients of it.")
    keys = add("keys", "make, list and revoke keys of the HTTP API", "Works beside a running gateway.")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    making = actions.add_parser("create", help="make a key; its secret is printed once")
    making.add_argument("--name", required=True, metavar="NAME", help="who has it; the name of its messages")
    making.add_argument(
        "--scope",
        choices=("read", "chat", "operate", "admin"),
        default="chat",
        help="what it is for, each with those before it (default: chat)",
    )
    making.add_argument("--agent", action="append", metavar="PATTERN", help="only agents with such a name; repeatable")
    making.add_argument(
        "--conversation", action="append", metavar="PATTERN", help="only conversations with such an id; repeatable"
    )
    making.add_argument(
        "--expires", metavar="AGE", help="how long it is valid, like 90d (default: until it is revoked)"
    )
    listed = actions.add_parser("list", help="all keys, and when each was last used")
    listed.add_argument("--json", action="store_true", help="JSON Lines: one object per key")
    revoking = actions.add_parser("revoke", help="a key is not accepted any more; its running tasks are stopped")
    revoking.add_argument("id", metavar="ID")
    for action in (making, listed, revoking):
        add_config(action, default)
    web_token = add("web-token", "print the web chat's sign-in link, or replace its token", "")
    actions = web_token.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_config(actions.add_parser("show", help="print the sign-in link, in a terminal"), default)
    add_config(actions.add_parser("rotate", help="replace the token: everybody is signed out"), default)
    data = add(
        "data",
        "list, export and delete what is stored",
        "Conversations with their files, or all of one person. Works beside a running gateway.",
    )
    data_actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = data_actions.add_parser("list", help="all conversations, with their keys and people")
    listing.add_argument("--json", action="store_true", help="JSON Lines: one object per line")
    exporting = data_actions.add_parser("export", help="write a zip file with JSON Lines, Markdown and files")
    exporting.add_argument("file", type=Path, metavar="FILE")
    exporting.add_argument("--force", action="store_true", help="overwrite an existing file")
    deleting = data_actions.add_parser("delete", help="delete for good")
    deleting.add_argument("--yes", action="store_true", help="do not ask")
    for action in (listing, exporting, deleting):
        add_config(action, default)
    for action in (exporting, deleting):
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("--conversation", metavar="KEY", help="one conversation, by its key in the list")
        which.add_argument("--person", metavar="CHANNEL:ID", help="one person, in all conversations of a channel")
    again = add(
        "reload",
        "have the running gateway take over the settings as they are now",
        "Prints what was changed; if anything is invalid, says what and where, and changes nothing. Exit code 1 then.",
    )
    again.add_argument("--json", action="store_true", help="the answer as JSON")
    backup = add(
        "backup", "back up the database and the files", "Works beside a running gateway. Workspaces are not included."
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="the zip file to write")
    backup.add_argument("--force", action="store_true", help="overwrite an existing file")
    restore = add("restore", "restore a backup", "Only while no gateway runs.")
    restore.add_argument("file", type=Path, metavar="FILE", help="a file that `interject backup` wrote")
    restore.add_argument("--force", action="store_true", help="replace the data that is there")
    for command in (backup, restore):
        command.add_argument("--json", action="store_true", help="print one JSON object")
        add_config(command, default)
    store = add("store", "copy the database to another one", "Between SQLite and PostgreSQL, either way.")
    copying = store.add_subparsers(dest="action", required=True, metavar="ACTION").add_parser(
        "copy",
        help="copy all rows, and compare them; goes on after an interruption",
        description="Only while no gateway runs on either. The target must be empty, or the same unfinished copy.",
    )
    copying.add_argument("source", metavar="FROM", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    copying.add_argument("target", metavar="TO", help="as FROM; passwords may also be in PGPASSWORD or ~/.pgpass")
    copying.add_argument("--restart", action="store_true", help="delete what an unfinished copy has copied")
    copying.add_argument("--json", action="store_true", help="print one JSON object")
    media = add("media", "copy the files to another place", "Between folders and buckets, in any direction.")
    copying = media.add_subparsers(dest="action", required=True, metavar="ACTION").add_parser(
        "copy",
        help="copy all files, each checked by its hash; goes on after an interruption",
        description="Works beside a running gateway: copy once more when it is stopped. How to reach a bucket is in "
        "[media.s3] or the AWS_ variables.",
    )
    add_config(copying, default)
    copying.add_argument("source", metavar="FROM", help="a folder, or s3://BUCKET/PREFIX")
    copying.add_argument("target", metavar="TO", help="as FROM")
    copying.add_argument("--json", action="store_true", help="print one JSON object")
    audit = add(
        "audit",
        "print the audit log",
        "Who was refused or admitted, decided, stopped or deleted what; tool calls with effects; changed settings. "
        "Works beside a running gateway.",
    )
    add_config(audit, default)
    audit.add_argument("--since", metavar="WHEN", help="only newer entries: an age (7d, 12h) or a date (2026-11-30)")
    audit.add_argument("--json", action="store_true", help="JSON Lines: one object per line")
    add_commands(add, default)
    add("version", "print the version", "")
    return parser
