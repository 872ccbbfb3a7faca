"""`interject chat`: a conversation in the terminal, with the gateway that runs or with one of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from channels.channel import ChannelError
from channels.terminal.pictures import protocol
from channels.terminal.printer import Place, Printer, Write
from channels.terminal.remote import Link, RemoteGateway, Whereabouts, parse_link, reach
from channels.terminal.render import Look
from channels.terminal.screen import PlainScreen, Screen
from config.load import Configuration
from gateway.cli.event_loop import Ending, in_loop
from gateway.cli.home import in_words, make_home
from gateway.cli.instance_file import announced_link
from gateway.cli.logs import log_to, secrets_in

NOTHING_TO_SAY = 2
"""The exit code when the input that is piped in is empty."""


class NothingPiped(Exception):
    """What is piped in holds no message."""


def chat(configuration: Configuration, url: str | None, *, new: bool) -> int:
    """The exit code: 1 when there was nobody to talk to, or something could not be said; `NOTHING_TO_SAY`."""
    code = 1
    try:
        make_home(configuration.home)
        with open(configuration.home / "chat.log", "a", encoding="utf-8", opener=_private) as log:
            log_to(log, secrets_in(configuration))
            return in_loop(_chat(configuration, url, new=new))
    except* (ChannelError, OSError) as group:
        sys.stderr.write(f"interject: {in_words(_first(group), configuration.home)}\n")
    except* NothingPiped:
        sys.stderr.write("interject: there is nothing to send: the input is empty\n")
        code = NOTHING_TO_SAY
    return code


async def _chat(configuration: Configuration, url: str | None, *, new: bool) -> int:
    with Ending(signal.SIGTERM, signal.SIGHUP):
        where = partial(_announced, configuration.home) if url is None else None
        link = await _running_gateway(configuration.home) if url is None else await _given_gateway(url)
        screen = _screen(configuration.home)
        if new:
            screen.begin_anew()
        await _meet(screen, _talk_within(configuration, screen) if link is None else _talk_to(link, screen, where))
        return screen.failures and 1
    return 1


async def _running_gateway(home: Path) -> Link | None:
    """The gateway that runs with this data directory; none when it is gone or does not answer."""
    link = _announced(home)
    if link is None:
        return None
    with suppress(ChannelError):
        await reach(link)
        return link
    return None


def _announced(home: Path) -> Link | None:
    announced = announced_link(home)
    with suppress(ChannelError):
        return parse_link(announced) if announced is not None else None
    return None


async def _given_gateway(url: str) -> Link:
    """Raises `ChannelError` when there is none: a person who waits for it would learn nothing."""
    link = parse_link(url)
    await reach(link)
    return link


async def _meet(screen: Screen, gateway: Coroutine[Any, Any, None]) -> None:
    """Until the person leaves, or the gateway's side breaks."""
    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(gateway)
        await screen.run()
        talking.cancel()


async def _talk_to(link: Link, screen: Screen, where: Whereabouts | None) -> None:
    async with RemoteGateway(link, screen, where=where) as gateway:
        await gateway.run()


async def _talk_within(configuration: Configuration, screen: Screen) -> None:
    # The whole gateway is loaded only when there is none to talk to.
    from gateway.cli.in_process import talk_within

    await talk_within(configuration, screen)


def _screen(home: Path) -> Screen:
    place = Place(home / "pictures", home / "files")
    pictures = protocol(os.environ)
    if sys.stdin.isatty() and sys.stdout.isatty():
        # What only a real terminal needs.
        from channels.terminal.prompt import PromptScreen

        return PromptScreen(place, home / "terminal-history", pictures, color=_has_color())
    # Where both go to one place, one writer keeps the lines apart.
    is_one_place = os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    aside = None if is_one_place else _writer(sys.stderr)
    printer = Printer(_writer(sys.stdout), _look, place, aside=aside, pictures=pictures)
    screen = PlainScreen(printer, _from_stdin(whole=not sys.stdin.isatty()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _interrupt, screen)
    return screen


def _interrupt(screen: PlainScreen) -> None:
    """The first Ctrl-C stops what runs; a second one ends at once."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    screen.interrupt()


def _has_color() -> bool:
    """https://no-color.org"""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _look() -> Look:
    return Look(os.get_terminal_size().columns - 1, _has_color()) if sys.stdout.isatty() else Look()


def _writer(stream: TextIO) -> Write:
    async def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


async def _from_stdin(*, whole: bool) -> AsyncIterator[str]:
    """All of standard input as one text, or each line as one. Raises `NothingPiped` when that one text is empty.

    Read by a thread that nobody waits for: asyncio cannot wait for plain files, and a terminal may never end.
    """
    loop = asyncio.get_running_loop()
    texts: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            for text in [sys.stdin.read()] if whole else sys.stdin:
                loop.call_soon_threadsafe(texts.put_nowait, text)
            loop.call_soon_threadsafe(texts.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    while (text := await texts.get()) is not None:
        if whole and not text.strip():
            raise NothingPiped
        yield text


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
