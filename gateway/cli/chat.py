"""`interject chat`: a conversation in the terminal, with the running gateway or with one in its own process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from channels.channel import ChannelError
from channels.message import FileRef
from channels.terminal.attaching import CannotAttach, attached
from channels.terminal.inline_images import protocol
from channels.terminal.printer import Folders, Printer, Write
from channels.terminal.remote import FindGateway, GatewayLink, RemoteGateway, check_reachable, parse_link
from channels.terminal.render import Style
from channels.terminal.screen import PlainScreen, Screen
from config.load import Configuration
from gateway.cli.event_loop import CancelOnSignal, run_in_loop
from gateway.cli.home import describe_error, make_home
from gateway.cli.instance_file import published_link
from gateway.cli.logs import log_to, secrets_in

log = logging.getLogger(__name__)

EMPTY_INPUT = 2
"""The exit code when the piped input is empty."""

FAILED = 3
"""The exit code when a task of a piped message failed, or its answer could not be shown in full."""

STOPPED = 4
"""The exit code when a task of a piped message was stopped."""


class EmptyInput(Exception):
    """The piped input holds no message."""


def chat(configuration: Configuration, url: str | None, files: Sequence[str], *, new: bool) -> int:
    """Returns the exit code: 1 when no gateway answered or nothing was sent, `EMPTY_INPUT`, `FAILED`, `STOPPED`. The
    files at these paths go with the first message."""
    code = 1
    try:
        make_home(configuration.home)
        with open(configuration.home / "chat.log", "a", encoding="utf-8", opener=_private) as file:
            log_to(file, secrets_in(configuration), configuration.settings.logging)
            return run_in_loop(_chat(configuration, url, attached(files), new=new))
    except* (ChannelError, CannotAttach, OSError) as group:
        sys.stderr.write(f"interject: {describe_error(_first(group), configuration.home)}\n")
    except* EmptyInput:
        sys.stderr.write("interject: nothing to send: the input is empty\n")
        code = EMPTY_INPUT
    return code


async def _chat(configuration: Configuration, url: str | None, files: Sequence[FileRef], *, new: bool) -> int:
    with CancelOnSignal(signal.SIGTERM, signal.SIGHUP):
        find_link = partial(_published_link, configuration) if url is None else None
        link = await _running_gateway(configuration) if url is None else await _given_gateway(url)
        screen = _screen(configuration.home, files)
        if new:
            screen.start_new_conversation()
        if link is None:
            await _run_both(screen, _run_in_process(configuration, screen))
        else:
            await _run_both(screen, _connect(link, screen, find_link))
        return _exit_code(screen)
    return 1


def _exit_code(screen: Screen) -> int:
    """A person at a terminal has seen how the tasks ended; a script learns it from the code."""
    if screen.failures:
        return 1
    ends = screen.ends if isinstance(screen, PlainScreen) else frozenset()
    if ends & {"failed", "undelivered"}:
        return FAILED
    return STOPPED if "stopped" in ends else 0


async def _running_gateway(configuration: Configuration) -> GatewayLink | None:
    """The link of the gateway with this data directory; None when there is none or it does not answer."""
    link = _published_link(configuration)
    if link is None:
        return None
    with suppress(ChannelError):
        await check_reachable(link)
        return link
    return None


def _published_link(configuration: Configuration) -> GatewayLink | None:
    text = published_link(configuration.home)
    with suppress(ChannelError):
        link = parse_link(text) if text is not None else None
        is_alone = configuration.settings.store.file is not None
        return link if link is None or is_alone else _with_shared_token(configuration, link)
    return None


def _with_shared_token(configuration: Configuration, link: GatewayLink) -> GatewayLink:
    """The token of all processes may have been replaced since this one began. Blocking for a query."""
    from gateway.cli.web_token import current_token
    from gateway.store.errors import StoreError

    try:
        return GatewayLink(link.origin, current_token(configuration))
    except StoreError as error:
        log.warning("the owner's token cannot be read: %s", error)
        return link


async def _given_gateway(url: str) -> GatewayLink:
    """Raises `ChannelError` when it does not answer: a person who names a gateway wants no other."""
    link = parse_link(url)
    await check_reachable(link)
    return link


async def _run_both(screen: Screen, gateway: Coroutine[Any, Any, None]) -> None:
    """Returns when the person leaves the screen; raises when the gateway's side fails."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(gateway)
        await screen.run()
        running.cancel()


async def _connect(link: GatewayLink, screen: Screen, find_link: FindGateway | None) -> None:
    async with RemoteGateway(link, screen, find=find_link) as gateway:
        await gateway.run()


async def _run_in_process(configuration: Configuration, screen: Screen) -> None:
    # Loads the whole gateway, which is not needed when another one is running.
    from gateway.cli.in_process import run_with_terminal

    await run_with_terminal(configuration, screen)


def _screen(home: Path, files: Sequence[FileRef]) -> Screen:
    folders = Folders(home / "pictures", home / "files")
    pictures = protocol(os.environ)
    if sys.stdin.isatty() and sys.stdout.isatty():
        # Needed by a real terminal only.
        from channels.terminal.prompt import PromptScreen

        return PromptScreen(folders, home / "terminal-history", pictures, color=_has_color(), files=files)
    # Where both streams are one file, one writer keeps the lines apart.
    is_one_file = os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    secondary = None if is_one_file else _writer(sys.stderr)
    printer = Printer(_writer(sys.stdout), _style, folders, secondary=secondary, pictures=pictures)
    screen = PlainScreen(printer, _from_stdin(whole=not sys.stdin.isatty(), may_be_empty=bool(files)), files)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _interrupt, screen)
    return screen


def _interrupt(screen: PlainScreen) -> None:
    """The first Ctrl-C stops the running task; the second ends the process."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    screen.interrupt()


def _has_color() -> bool:
    """https://no-color.org"""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _style() -> Style:
    return Style(os.get_terminal_size().columns - 1, _has_color()) if sys.stdout.isatty() else Style()


def _writer(stream: TextIO) -> Write:
    async def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


async def _from_stdin(*, whole: bool, may_be_empty: bool) -> AsyncIterator[str]:
    """All of standard input as one text, or each line as one. Raises `EmptyInput` when that one text is empty, unless
    it may be.

    Read by a daemon thread that is never joined: asyncio cannot wait for plain files, and a terminal may never end.
    """
    loop = asyncio.get_running_loop()
    texts: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        with suppress(RuntimeError):  # the loop is closed: the chat is over
            for text in [sys.stdin.read()] if whole else sys.stdin:
                loop.call_soon_threadsafe(texts.put_nowait, text)
            loop.call_soon_threadsafe(texts.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    while (text := await texts.get()) is not None:
        if whole and not may_be_empty and not text.strip():
            raise EmptyInput
        yield text


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
