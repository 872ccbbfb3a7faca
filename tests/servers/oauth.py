"""An authorization server on a local socket, and an MCP server with the SDK that takes its tokens only.

Strict as OAuth 2.1 and MCP's authorization (https://modelcontextprotocol.io/specification/draft/basic/authorization)
say: a client is registered with its redirect URIs; PKCE with S256, `state` and `resource` are required; codes are used
once, for one client, redirect URI and verifier; a refresh token is used once, and one that is used again ends all
tokens of its sign-in. People sign in by name: `grant(url, "ann")` is a person at the page.

With `devices` it takes sign-ins with a code (RFC 8628): `enter(code, "ann")` is a person who enters it. Who asks for
tokens more often than every `interval` seconds (it says `named_interval`) is told to slow down, and waits `slower`
seconds longer from then on.
With `revokes` it ends tokens that are sent to it (RFC 7009): a refresh token with all tokens of its sign-in.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_hex, token_urlsafe
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from aiohttp import web
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp_types import ToolAnnotations

from tests.servers.local import LocalServer, free_port
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
class Device:
    """A sign-in with a code. `person` is who entered it, "" for one who refuses."""

    client: str
    resource: str
    user_code: str
    until: float
    interval: float
    asked_at: float = 0.0
    person: str | None = None


DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


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
    devices: bool = False
    interval: float = 0.02
    named_interval: float | None = None
    slower: float = 0.02
    code_lifetime: float = 60.0
    revokes: bool = False
    slowed_down: int = 0
    before_refreshed: Callable[[], Awaitable[object]] | None = None
    """What happens meanwhile, before new tokens are given for a refresh token."""

    def __post_init__(self) -> None:
        self._codes: dict[str, Grant] = {}
        self._refresh_tokens: dict[str, Grant] = {}
        self._used: dict[str, Grant] = {}
        self._devices: dict[str, Device] = {}
        self._may: dict[str, list[str]] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_post("/register", self._register)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_post("/device", self._device)
        app.router.add_post("/revoke", self._revoke)
        return app

    def enter(self, code: str, person: str) -> None:
        """A person at the page for codes."""
        (device,) = [each for each in self._devices.values() if each.user_code == code and each.until > time.time()]
        device.person = person

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
        if self.devices:
            about["device_authorization_endpoint"] = f"{self.url}/device"
            about["grant_types_supported"].append(DEVICE_CODE)
        if self.revokes:
            about["revocation_endpoint"] = f"{self.url}/revoke"
        if self.registers:
            about["registration_endpoint"] = f"{self.url}/register"
        return web.json_response(about)

    async def _register(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        uris, grants = wanted.get("redirect_uris") or [], wanted.get("grant_types") or ["authorization_code"]
        needs_uri = "authorization_code" in grants
        if not self.registers or (needs_uri and not uris) or not all(map(_is_redirect_uri, uris)):
            return web.json_response({"error": "invalid_redirect_uri"}, status=400)
        client = token_urlsafe(8)
        self.clients[client], self._may[client] = uris, grants
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
                if self.before_refreshed is not None:
                    await self.before_refreshed()
            case grant_type if grant_type == DEVICE_CODE:
                device = self._devices.get(form.get("device_code", ""))
                if (error := self._not_granted(device, form)) or device is None:
                    return _refused(error)
                del self._devices[form["device_code"]]
                grant = Grant(device.person or "", device.client, "", "", device.resource)
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

    async def _device(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        client, resource = form.get("client_id", ""), form.get("resource", "")
        if not self.devices or DEVICE_CODE not in self._may.get(client, ()):
            return _refused("unauthorized_client")
        if not resource:
            return _refused("invalid_target")
        user_code = "-".join(token_hex(2).upper() for _ in range(2))
        code = token_urlsafe()
        self._devices[code] = Device(client, resource, user_code, time.time() + self.code_lifetime, self.interval)
        answer = {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": f"{self.url}/enter",
            "expires_in": self.code_lifetime,
            "interval": self.interval if self.named_interval is None else self.named_interval,
        }
        return web.json_response(answer)

    def _not_granted(self, device: Device | None, form: dict[str, str]) -> str:
        """The error of RFC 8628, section 3.5; "" if there are tokens."""
        if device is None or device.client != form.get("client_id"):
            return "invalid_grant"
        now, before, device.asked_at = time.time(), device.asked_at, time.time()
        if device.until < now:
            return "expired_token"
        if now - before < device.interval:
            device.interval += self.slower
            self.slowed_down += 1
            return "slow_down"
        if device.person is None:
            return "authorization_pending"
        return "" if device.person else "access_denied"

    async def _revoke(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        if self.failing:
            return web.Response(status=self.failing)
        if not self.revokes or form.get("client_id") not in self.clients:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = form.get("token", "")
        refreshing = self._refresh_tokens.get(token)
        if refreshing is not None:
            self._end(refreshing)
        self.tokens.pop(token, None)
        return web.Response()

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

    @server.prompt()
    def digest(of: str) -> str:
        """Sums up somebody's mail."""
        token = get_access_token()
        return f"Sum up the mail of {token.subject if token else 'nobody'}: {of}"

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
    port = free_port()
    async with serve(private(authority, f"http://127.0.0.1:{port}/mcp"), port=port) as url:
        yield url
