"""The running gateway of the data directory: its address, and what only it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from gateway.cli.instance_file import published_link

Trouble = str
"""Why a channel does not work at the moment; "" if it does."""


def published_address(home: Path) -> str:
    """The address of the web server, without its token; "" if the gateway has none."""
    link = published_link(home)
    if link is None:
        return ""
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"


def channel_troubles(home: Path, address: str) -> Mapping[str, Trouble] | None:
    """By channel. None: the gateway does not say."""
    return None
