"""Pages for people who sign in at MCP servers: anybody who has a link sees them, without the token of the web chat.

A link leads to a page that says who asked for it, because whoever signs in lends that person their account. Opening it
changes nothing: chat apps open links to show a preview.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from html import escape
from typing import Protocol
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from agent.mcp.account import CLIENT_NAME
from gateway.store.errors import StoreError
from gateway.store.records import McpSignIn

log = logging.getLogger(__name__)

COOKIE = "interject_sign_in"

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Interject</title><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;"
    "padding:0 1rem}}button{{font:inherit;padding:.5rem 1rem}}</style><h1>{title}</h1>{body}</html>"
)


class Links(Protocol):
    """See `gateway.inbound.sign_ins.SignIns`."""

    async def find(self, ticket: str) -> McpSignIn | None: ...
    async def begin(self, ticket: str, browser: str) -> str | None: ...
    async def come_back(self, query: Mapping[str, str], browser: str) -> bool: ...


def app(links: Links, url: str) -> Starlette:
    """The app for paths that begin with /oauth/. `url` is the public address, "" if there is none."""
    base = url.rstrip("/")

    async def start(request: Request) -> Response:
        ticket = request.query_params.get("ticket", "")
        link = await links.find(ticket)
        if link is None:
            return _gone()
        if request.method == "GET":
            return _ask(link, ticket)
        browser = await links.begin(ticket, request.cookies.get(COOKIE, ""))
        if browser is None:
            return _gone()
        response = RedirectResponse(link.url, 303, HEADERS)
        response.set_cookie(
            COOKIE,
            browser,
            max_age=600,
            path="/oauth/",
            secure=base.startswith("https://"),
            httponly=True,
            samesite="lax",
        )
        return response

    async def callback(request: Request) -> Response:
        if not await links.come_back(request.query_params, request.cookies.get(COOKIE, "")):
            return _gone()
        if "error" in request.query_params:
            return _page("Not signed in", "<p>The sign-in was refused. The conversation says what happens now.</p>")
        return _page("Thank you", "<p>You can close this page. The conversation goes on where you were.</p>")

    async def document(request: Request) -> Response:
        """What the client is, for authorization servers that read it here instead of registering it."""
        about = {
            "client_id": f"{base}/oauth/client.json",
            "client_name": CLIENT_NAME,
            "client_uri": base,
            "redirect_uris": [f"{base}/oauth/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "web",
        }
        return JSONResponse(about) if base.startswith("https://") else _gone()

    return Starlette(
        routes=[
            Route("/oauth/start", start, methods=["GET", "POST"]),
            Route("/oauth/callback", callback, methods=["GET"]),
            Route("/oauth/client.json", document, methods=["GET"]),
        ],
        exception_handlers={StoreError: _unavailable},
    )


def _ask(link: McpSignIn, ticket: str) -> Response:
    host = escape(urlsplit(link.url).hostname or "")
    body = (
        f"<p><strong>{escape(link.who)}</strong> asked Interject to use the MCP server "
        f"<strong>{escape(link.server)}</strong>. You sign in at <strong>{host}</strong>; after that, the assistant "
        f"acts there with your account when <strong>{escape(link.who)}</strong> asks it to.</p>"
        "<p>Go on only if you are that person. If somebody sent you this link, close the page.</p>"
        f'<form method="post" action="/oauth/start?ticket={escape(ticket)}"><button>Go on</button></form>'
    )
    return _page("Sign in", body)


def _gone() -> Response:
    body = (
        "<p>It was used already, has expired, or was opened in another browser. Ask again in the conversation: "
        "<code>/mcp login</code> and the name of the server.</p>"
    )
    return _page("This link is not valid", body, 404)


async def _unavailable(request: Request, error: Exception) -> Response:
    log.warning("a page to sign in at an MCP server cannot be shown: %s", error)
    return _page("Not at the moment", "<p>The gateway cannot reach its database. Try again in a moment.</p>", 503)


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(title=title, body=body), status, HEADERS)
