"""The web chat: its token, its address and its application."""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from channels.channel import WebhookChannel
from channels.web.channel import WebChannel
from gateway.web.http_server import App, mounted


def web_token(home: Path) -> str:
    """The web chat's token: created once, in the data directory, readable by its owner only."""
    file = home / "web-token"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(24))
    return file.read_text().strip()


def link(listener: socket.socket, token: str) -> str:
    """The sign-in link: whoever has it can open the chat."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}"


async def site(web: WebChannel, host: str, webhooks: Mapping[str, WebhookChannel]) -> App:
    """The web chat and the platforms' webhooks. Loaded on the first connection."""
    page = await asyncio.to_thread(importlib.import_module, "channels.web.http_app")
    return mounted(page.app(web, host=host), {path: channel.asgi() for path, channel in webhooks.items()})
