"""The running gateway of the data directory: its address, and what only it knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from config.load import Configuration
from gateway.cli.instance_file import published_link, published_process
from gateway.cli.web_token import current_token
from gateway.store.errors import StoreError
from gateway.store.read_only import Holder

TIMEOUT = 5.0
"""Seconds in which the gateway must answer."""

Trouble = str
"""Why a channel does not work at the moment; "" if it does."""


def running_here(home: Path, running: Iterable[Holder]) -> Holder | None:
    """That of the gateways which has this data directory; None if none has, or if it has no web server."""
    pid = published_process(home)
    if pid is None:
        return None
    return next((each for each in running if not each.host or (each.is_here and each.pid == pid)), None)


def published_address(home: Path) -> str:
    """The address of the web server, without its token; "" if the gateway has none."""
    link = published_link(home)
    if link is None:
        return ""
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"


def ask(configuration: Configuration, address: str, resource: str) -> Any:
    """What the API of the gateway at this address says of a resource, asked as its owner. None: it does not answer."""
    try:
        headers = {"Authorization": f"Bearer {current_token(configuration)}"}
        response = httpx.get(f"{address}/api/v1/{resource}", headers=headers, timeout=TIMEOUT, trust_env=False)
        return response.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, StoreError, OSError, ValueError):
        return None


def channel_troubles(configuration: Configuration, address: str) -> Mapping[str, Trouble] | None:
    """By channel. None: the gateway at this address does not say."""
    found = ask(configuration, address, "channels")
    try:
        return None if found is None else {each["name"]: _trouble(each) for each in found["channels"]}
    except (LookupError, TypeError):
        return None


def _trouble(channel: dict[str, Any]) -> Trouble:
    return "" if channel["works"] else channel["problem"] or "does not work"
