"""The command line. Parses, and loads what a command needs only when that command is called: starting must be quick."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.load import Configuration

MISCONFIGURED = 2
"""The exit code when the configuration, or the command line itself, cannot be used; 1 is for everything else."""


class Misconfigured(Exception):
    """The message says what is wrong with the configuration, a line for each problem."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    arguments = _parser().parse_args(argv)
    _load_less()
    try:
        return _command(arguments)
    except Misconfigured as error:
        sys.stderr.write(f"interject: the configuration cannot be used\n\n{error}\n")
        return MISCONFIGURED
    except KeyboardInterrupt:
        return 130


def _load_less() -> None:
    """Keeps libraries from loading what nobody here uses: together a seventh of a start, before the first message."""
    # Looking for plug-ins of pydantic's reads what every installed package says of itself.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # httpx loads its own command line, with all of rich and click, wherever these happen to be installed.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # "None: there is no such module"


def _command(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "run":
            # What is loaded to stay is no garbage: looking for some would take a tenth of the start.
            gc.disable()
            from gateway.cli.run import run

            configuration = _load(arguments.config)
            _refuse_to_serve_nobody(configuration)
            return run(configuration)
        case "chat":
            from gateway.cli.chat import chat

            return chat(_load(arguments.config), arguments.url, new=arguments.new)
        case "init":
            from gateway.cli.init import init

            return init(arguments.config, os.environ, force=arguments.force)
        case "check":
            from gateway.cli.check import check

            return check(_load(arguments.config), online=arguments.online)
        case "pair":
            from gateway.cli.pair import approve, listed

            configuration = _load(arguments.config)
            return listed(configuration) if arguments.what == "list" else approve(configuration, arguments.code)
        case _:
            from gateway.cli import VERSION

            sys.stdout.write(f"interject {VERSION}\n")
            return 0


def _load(file: Path | None) -> Configuration:
    from config.errors import ConfigurationError
    from config.load import load

    try:
        return load(file, os.environ)
    except ConfigurationError as error:
        # Without a cause: nobody reads a traceback here, and what it holds may be a secret.
        raise Misconfigured("\n".join(f"  {problem}" for problem in error.problems)) from None


def _refuse_to_serve_nobody(configuration: Configuration) -> None:
    """Only for a gateway that runs by itself: `interject chat` brings its own person."""
    settings = configuration.settings
    if settings.web.enabled or settings.channels:
        return
    raise Misconfigured(
        f"  {configuration.file or 'the environment'}: nobody could reach this gateway: the web chat is off and no "
        "channel is configured.\n  Remove enabled = false from [web], or add a channel:\n\n"
        '    [channels.telegram]\n    token = "${TELEGRAM_BOT_TOKEN}"\n    allow = ["@your_name"]'
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interject", description="Chat with an LLM agent where you already are, and interrupt it while it works."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}. {description}")

    def add_config(command: argparse.ArgumentParser, help: str) -> None:
        command.add_argument("--config", type=Path, metavar="FILE", help=help)

    found = "default: INTERJECT_CONFIG, ./interject.toml, or interject.toml in the data directory"
    run = add("run", "start the gateway", "It prints where the chat is, and logs to standard error. Ctrl-C ends it.")
    add_config(run, found)
    chat = add(
        "chat",
        "chat in the terminal",
        "With a gateway that runs with the same data directory, else with one of its own. "
        "What is piped in is sent as one message, and its answer is printed.",
    )
    add_config(chat, found)
    chat.add_argument("--url", metavar="LINK", help="the link that a running gateway has printed")
    chat.add_argument("--new", action="store_true", help="begin a new conversation")
    init = add("init", "write a commented interject.toml", "Asks for what it needs when a terminal is attached.")
    add_config(init, "the file to write (default: ./interject.toml)")
    init.add_argument("--force", action="store_true", help="overwrite a file that exists")
    check = add("check", "validate the configuration", "Prints each problem with its place, or a summary.")
    add_config(check, found)
    check.add_argument("--online", action="store_true", help="also try the tokens and keys")
    pair = add(
        "pair", "let people in who asked for it", "For channels with `pair = true`; also while the gateway runs."
    )
    what = pair.add_subparsers(dest="what", required=True, metavar="WHAT")
    approve = what.add_parser("approve", help="let somebody in who was given this code")
    approve.add_argument("code", metavar="CODE")
    add_config(approve, found)
    add_config(what.add_parser("list", help="who asked, and who was let in"), found)
    add("version", "print the version", "")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
