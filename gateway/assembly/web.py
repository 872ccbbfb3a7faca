"""The web chat: its token, its address and its application."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent.loading import importing, load
from config.load import Configuration
from config.shown import shown
from config.web import WebSettings
from gateway.app import Gateway
from gateway.assembly.channels import WEB, Webhooks
from gateway.assembly.events import Following
from gateway.assembly.mcp import SignInLinks
from gateway.inbound.proxy_names import ProxyNames
from gateway.lifecycle.recent_log import RecentLog
from gateway.log_context import About, work_is_about
from gateway.signals.http_app import PATHS
from gateway.web.connections import App
from gateway.web.http_server import lazily, mounted

if TYPE_CHECKING:
    # Loaded with the first request.
    from gateway.api.follower import Follower


def link(listener: socket.socket, token: str) -> str:
    """The sign-in link: whoever has it can open the chat."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}"


def exposure(settings: WebSettings) -> str:
    """Who can reach the web server from elsewhere, in a line for the operator; "" if only this machine can."""
    try:
        is_local = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        is_local = False
    if not settings.enabled or is_local:
        return ""
    return (
        f'[web] host = "{settings.host}" accepts connections from other machines, without HTTPS: the token and all '
        'messages can be read on the way. Use a reverse proxy with HTTPS on this machine, host = "127.0.0.1", and '
        "url = the public address"
    )


async def server_app(signals: App, webhooks: Webhooks, make_site: Callable[[], Awaitable[App]]) -> App:
    """The signals for operators' tools, the platforms' webhooks, which may come later, and the site. The site is loaded
    with the first request to it: neither who asks whether the gateway is alive nor a platform waits for that."""
    served = mounted(lazily(make_site), dict.fromkeys(PATHS, signals))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # The server has a task for each request. A message that a platform posts says itself which channel it is of.
        work_is_about(About(channel=WEB))
        await (webhooks.find(scope.get("path", "")) or served)(scope, receive, send)

    return app


async def site(
    gateway: Gateway,
    token: Callable[[], Awaitable[str]],
    settings: WebSettings,
    following: Following,
    links: SignInLinks,
    *,
    configuration: Callable[[], Configuration],
    log: RecentLog,
) -> App:
    """The web chat, the control API, and the pages of people who sign in, which may come later."""
    follower = await following.follower()
    if settings.trusted_header is not None:
        known = {} if settings.trusted_case_sensitive else await gateway.store.accounts(WEB)
        gateway.logins.proxy_names = ProxyNames(case_sensitive=settings.trusted_case_sensitive, known=known)
    always = await asyncio.to_thread(_page_and_apis, gateway, token, settings, follower, configuration, log)
    sign_in_pages: App | None = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sign_in_pages
        path = scope.get("path", "")
        if path.startswith("/oauth/") and sign_in_pages is None and links.made is not None:
            pages = await load("gateway.web.oauth")
            sign_in_pages = pages.app(links.made, settings.url or "")
        found = sign_in_pages if path.startswith("/oauth/") else None
        await (found or always)(scope, receive, send)

    return app


def _page_and_apis(
    gateway: Gateway,
    token: Callable[[], Awaitable[str]],
    settings: WebSettings,
    follower: Follower,
    configuration: Callable[[], Configuration],
    log: RecentLog,
) -> App:
    with importing():
        from channels.web import http_app
        from channels.web.access_guard import Site
        from channels.web.trusted_proxy import TrustedProxies
        from gateway.api import pages
        from gateway.api.app import app
        from gateway.api.guard import KeyCallers, SignedInCallers
        from gateway.api.openai.app import app as openai_app
        from gateway.api.operations import OperatorFacts, Setting

    def in_force() -> list[Setting]:
        return [Setting.model_validate(each, from_attributes=True) for each in shown(configuration().settings)]

    callers = SignedInCallers(KeyCallers(token, gateway.keys), gateway.logins)
    proxies = TrustedProxies(settings.trusted_header or "", settings.networks)
    known = Site(settings.host, settings.url or "", proxies)
    facts = OperatorFacts(in_force, log.lines)
    operators = pages.app(callers, gateway.logins, site=known)
    page = http_app.app(token, known, lambda name: gateway.logins.by_proxy(name) is not None)
    apis: dict[str, App] = {
        "/api/v1/": app(gateway, callers, follower, site=known, facts=facts),
        **dict.fromkeys(pages.PATHS, operators),
        "/v1/": openai_app(gateway, gateway.media, callers, site=known),
    }
    return mounted(page, apis)
