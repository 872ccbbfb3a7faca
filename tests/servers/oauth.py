"""An authorization server on a local socket, and an MCP server with the SDK that takes its tokens only.

Strict as OAuth 2.1 and MCP's authorization (https://modelcontextprotocol.io/specification/draft/basic/authorization)
say: a client is registered with its redirect URIs; PKCE with S256, `state` and `resource` are required; codes are used
once, for one client, redirect URI and verifier; a refresh token is used once, and one that is used again ends all
tokens of its sign-in. People sign in by name: `grant(url, "ann")` is a person at the page.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from aiohttp import web
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp_types import ToolAnnotations

from tests.servers.local import LocalServer
from tests.servers.mcp_example import record, serve

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)


@dataclass
class Grant:
    """What a person has allowed. `family`: all tokens that come from it."""

    person: str
    client: str
    redirect_uri: str
    challenge: str
    resource: str
    family: str = field(default_factory=token_urlsafe)


@dataclass
class AuthorizationServer(LocalServer):
    """`lifetime` of access tokens in seconds. `documents`: clients may be URLs of documents. `failing`: the status of
    every answer for a token."""

    lifetime: int = 3600
    registers: bool = True
    documents: bool = False
    failing: int = 0
    clients: dict[str, list[str]] = field(default_factory=dict)
    tokens: dict[str, tuple[Grant, float]] = field(default_factory=dict)
    refreshed: int = 0

    def __post_init__(self) -> None:
        self._codes: dict[str, Grant] = {}
        self._refresh_tokens: dict[str, Grant] = {}
        self._used: dict[str, Grant] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_post("/register", self._register)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        return app

    def revoke(self, person: str) -> None:
        """All tokens of a person."""
        for kept in (self.tokens, self._refresh_tokens):
            for token, value in list(kept.items()):
                grant = value[0] if isinstance(value, tuple) else value
                if grant.person == person:
                    del kept[token]

    def expire(self) -> None:
        """All access tokens, before the time that they were issued for."""
        self.tokens = {token: (grant, 0.0) for token, (grant, _) in self.tokens.items()}

    async def verify_token(self, token: str) -> AccessToken | None:
        """For the MCP server: `mcp.server.auth.provider.TokenVerifier`."""
        grant, until = self.tokens.get(token, (None, 0.0))
        if grant is None or until < time.time():
            return None
        return AccessToken(
            token=token, client_id=grant.client, scopes=["use"], resource=grant.resource, subject=grant.person
        )

    async def _metadata(self, request: web.Request) -> web.Response:
        about: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": self.documents,
        }
        if self.registers:
            about["registration_endpoint"] = f"{self.url}/register"
        return web.json_response(about)

    async def _register(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        uris = wanted.get("redirect_uris") or []
        if not self.registers or not uris or not all(map(_is_redirect_uri, uris)):
            return web.json_response({"error": "invalid_redirect_uri"}, status=400)
        client = token_urlsafe(8)
        self.clients[client] = uris
        answer = {**wanted, "client_id": client, "token_endpoint_auth_method": "none"}
        return web.json_response(answer, status=201)

    async def _authorize(self, request: web.Request) -> web.Response:
        """The page, at which a person signs in by the parameter `as`, or refuses with an empty one."""
        query = request.query
        uri = query.get("redirect_uri", "")
        if uri not in self.clients.get(query.get("client_id", ""), []):
            return web.Response(text="unknown client or redirect URI", status=400)
        wrong = (
            query.get("response_type") != "code"
            or query.get("code_challenge_method") != "S256"
            or len(query.get("code_challenge", "")) != 43
            or len(query.get("state", "")) < 16
            or not query.get("resource")
        )
        answer = {"state": query.get("state", ""), "iss": self.url}
        if wrong:
            answer["error"] = "invalid_request"
        elif not query.get("as"):
            answer |= {"error": "access_denied", "error_description": "The person said no."}
        else:
            answer["code"] = code = token_urlsafe()
            self._codes[code] = Grant(query["as"], query["client_id"], uri, query["code_challenge"], query["resource"])
        return web.Response(status=302, headers={"Location": f"{uri}?{urlencode(answer)}"})

    async def _token(self, request: web.Request) -> web.Response:
        if self.failing:
            return web.Response(status=self.failing)
        form = {key: str(value) for key, value in (await request.post()).items()}
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._codes.pop(form.get("code", ""), None)
                if grant is None or form.get("redirect_uri") != grant.redirect_uri or not _fits(grant, form):
                    return _refused("invalid_grant")
            case "refresh_token":
                old = form.get("refresh_token", "")
                if old in self._used:
                    self._end(self._used[old])
                    return _refused("invalid_grant")
                grant = self._refresh_tokens.pop(old, None)
                if grant is None:
                    return _refused("invalid_grant")
                self._used[old] = grant
                self.refreshed += 1
            case _:
                return _refused("unsupported_grant_type")
        if form.get("client_id") != grant.client or form.get("resource") != grant.resource:
            return _refused("invalid_target")
        access, refresh = f"access-{token_urlsafe()}", f"refresh-{token_urlsafe()}"
        self.tokens[access] = (grant, time.time() + self.lifetime)
        self._refresh_tokens[refresh] = grant
        return web.json_response(
            {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime, "refresh_token": refresh}
        )

    def _end(self, grant: Grant) -> None:
        self.tokens = {token: kept for token, kept in self.tokens.items() if kept[0].family != grant.family}
        self._refresh_tokens = {
            token: kept for token, kept in self._refresh_tokens.items() if kept.family != grant.family
        }


def _refused(error: str) -> web.Response:
    return web.json_response({"error": error}, status=400)


def _fits(grant: Grant, form: dict[str, str]) -> bool:
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == grant.challenge


def _is_redirect_uri(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost"))


async def grant(url: str, person: str) -> str:
    """Signs in at the page of the authorization server as this person ("": refuses); where it sends them then."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(f"{url}&{urlencode({'as': person})}")
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def returned(location: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(location).query).items()}


def private(authority: AuthorizationServer, url: str) -> MCPServer:
    """An MCP server at `url` that knows who calls."""
    server = MCPServer(
        "private",
        token_verifier=authority,
        auth=AuthSettings(
            issuer_url=authority.url,  # type: ignore[arg-type]  # pydantic makes a URL of it
            resource_server_url=url,  # type: ignore[arg-type]  # as above
            required_scopes=["use"],
            validate_token_resource=True,
        ),
    )

    @server.tool(annotations=READS)
    async def whoami() -> str:
        """Says who calls."""
        token = get_access_token()
        return f"you are {token.subject if token else 'nobody'}"

    @server.tool(annotations=READS)
    async def show_token() -> str:
        """Says the token, which a server should not."""
        token = get_access_token()
        return token.token if token else ""

    @server.tool(annotations=ADDS)
    async def buy(thing: str) -> str:
        """Buys a thing."""
        token = get_access_token()
        record(f"buy {thing} for {token.subject if token else 'nobody'}")
        return "bought"

    return server


@asynccontextmanager
async def serve_private(authority: AuthorizationServer) -> AsyncIterator[str]:
    """The address of that server."""
    probe = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    async with serve(private(authority, f"http://127.0.0.1:{port}/mcp"), port=port) as url:
        yield url
