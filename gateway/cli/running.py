"""The running gateway of the data directory: its address, and what only it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from gateway.cli.instance_file import published_link
from gateway.web.token import WebToken

TIMEOUT = 5.0
"""Seconds in which the gateway must answer."""

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
    """By channel. None: the gateway at this address does not say."""
    try:
        headers = {"Authorization": f"Bearer {WebToken(home)()}"}
        response = httpx.get(f"{address}/api/v1/channels", headers=headers, timeout=TIMEOUT, trust_env=False)
        response.raise_for_status()
        channels = response.json()["channels"]
        return {each["name"]: each["problem"] if not each["works"] else "" for each in channels}
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, LookupError, TypeError):
        return None
