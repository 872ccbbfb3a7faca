"""What rows of the contract share.

One contract for all channels: nothing lost, nothing doubled, in the right place, in the right order. A row says what it
needs; a home that has not got it says so (`Home.has`) and is left out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.channels.contract.discord_home import DiscordHome
from tests.channels.contract.home import Feature, Home, Place, lines
from tests.channels.contract.slack_home import SlackHome, SlackPaneHome
from tests.channels.contract.telegram_home import TelegramHome
from tests.channels.contract.terminal_home import TerminalHome
from tests.channels.contract.web_home import WebHome
from tests.servers.models import Request

HOMES = (TelegramHome, SlackHome, SlackPaneHome, DiscordHome, WebHome, TerminalHome)

WAIT_FOR_GO = "until test -e go; do sleep 0.02; done; echo all done"
"""A shell command that runs until a row makes the file `go` in the workspace."""

POSSIBLY_A_REPEAT = "(possibly a repeat: the connection broke while this was being sent)"


def over(*needs: Feature) -> pytest.MarkDecorator:
    """Over every home that has got what the row needs."""
    return _over([home for home in HOMES if home is not SlackPaneHome], needs)


def over_streams(*needs: Feature) -> pytest.MarkDecorator:
    """Also over Slack's native streams, where how a reply grows is what matters."""
    return _over(HOMES, needs)


def _over(homes: Iterable[type[Home]], needs: Iterable[Feature]) -> pytest.MarkDecorator:
    able = [home.name for home in homes if home.has >= set(needs)]
    return pytest.mark.parametrize("stage", able, indirect=True)


def read_by_model(request: Request) -> list[str]:
    """People's messages, with frames in a short form: "[note]" and "Ann: text"."""
    return [without_frames(message.text) for message in request.messages if message.role == "user"]


def without_frames(text: str) -> str:
    return _MESSAGE.sub(lambda found: f"{found[2] or ''}{found[1]}: {found[3]}", _NOTE.sub(r"[\1]", text))


_NOTE = re.compile(r"<note>\n?(.*?)\n?</note>", re.DOTALL)
_MESSAGE = re.compile(r'<message from="([^"]*)" id="[^"]*">\n(\[[^\]]*\]\n)?(.*?)\n</message>', re.DOTALL)


def said(request: Request) -> str:
    """All that the model heard, as one text."""
    return "\n".join(read_by_model(request))


def shows(place: Place, line: str) -> bool:
    return line in lines(place)


def png(color: str = "#4255c8") -> bytes:
    kept = BytesIO()
    Image.new("RGB", (64, 48), color).save(kept, "PNG")
    return kept.getvalue()


async def written(file: Path) -> None:
    """Returns once a tool has written something there."""
    async with asyncio.timeout(60):
        while not (file.exists() and file.stat().st_size):  # noqa: ASYNC110, ASYNC240 - a file rings no bell
            await asyncio.sleep(0.005)


async def worker(module: str) -> psutil.Process:
    """The tool's worker process, once it is there."""
    async with asyncio.timeout(60):
        while True:
            for child in psutil.Process().children(recursive=True):
                if module in child.cmdline():
                    return child
            await asyncio.sleep(0.005)
