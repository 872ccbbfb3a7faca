"""Access to the web page: host, origin and token checks, and security headers for browsers. What the page asks for is
guarded by the API."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from channels.web.trusted_proxy import BadIdentity, TrustedProxies

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY_HOST = frozenset({"0.0.0.0", "::", ""})
COOKIE_AGE = 90 * 24 * 3600
"""Seconds for which a browser stays signed in."""


_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Interject: {title}</title><link rel="stylesheet" href="/page/style.css">
<main class="sign-in"><h1>{title}</h1>
<p>{text}</p>
<p><a href="/">Try again</a></p></main></html>
"""

_SIGN_IN_PAGE = _PAGE.format(
    title="Sign-in link required",
    text="Open the link that Interject printed when it started, or that <code>interject web-token show</code> prints.\n"
    "It ends in <code>?token=…</code> and signs this browser in.",
)


class Site:
    """Which hosts and origins are this server's own. `host` is what the server binds, `url` its public address behind a
    proxy, whose host and origin are known as well. `proxies` sign people in.

    A foreign page can neither post here (its origin differs) nor read by pointing its own host name at this machine
    (DNS rebinding: that host is unknown).
    """

    def __init__(self, host: str, url: str = "", proxies: TrustedProxies | None = None) -> None:
        self.url = url.lower()
        self.proxies = proxies or TrustedProxies()
        self._host = host.lower()
        self._public_host = _host_name(urlsplit(self.url).netloc)

    def knows_host(self, request: HTTPConnection) -> bool:
        host = _host_name(request.headers.get("host", ""))
        if self._host in _ANY_HOST and _is_ip(host):
            return True
        return host in LOOPBACK or (host != "" and host in (self._host, self._public_host))

    def knows_origin(self, request: HTTPConnection) -> bool:
        origin = request.headers.get("origin")
        if origin is None or (self.url and origin.lower() == self.url):
            return True
        return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()

    def is_from_its_page(self, request: HTTPConnection) -> bool:
        """Whether the browser says that a page of this server sends the request. A proxy signs in whatever a browser
        sends, also for a page of another site, since its cookie may go with that.

        Browsers send Sec-Fetch-Site over HTTPS and on this machine (https://www.w3.org/TR/fetch-metadata/), and Origin
        with every request that can change something (https://fetch.spec.whatwg.org/#origin-header).
        """
        fetched = request.headers.get("sec-fetch-site")
        if fetched is not None:
            return fetched == "same-origin"
        return "origin" in request.headers and self.knows_origin(request)

    def is_secure(self, request: HTTPConnection) -> bool:
        return "https" in (request.url.scheme, urlsplit(self.url).scheme)

    def cookie_name(self, request: HTTPConnection) -> str:
        """With the port: browsers share cookies between the ports of a host, and another gateway may use another port.

        `__Host-` keeps other hosts of the same domain from setting it.
        """
        return self._cookie(request, "interject")

    def session_cookie(self, request: HTTPConnection) -> str:
        """That of people who are signed in by another secret than the owner's token."""
        return self._cookie(request, "interject-session")

    def _cookie(self, request: HTTPConnection, name: str) -> str:
        return f"{'__Host-' if self.is_secure(request) else ''}{name}-{request.url.port or 80}"


class AccessGuard:
    """ASGI middleware around the page. `admits` says whether a person whom a proxy names may use it."""

    def __init__(
        self, app: ASGIApp, token: Callable[[], Awaitable[str]], site: Site, admits: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._token = token
        self._site = site
        self._admits = admits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        answer = self._answer(request, await self._token())
        await (answer or self._app)(scope, receive, with_security_headers(send))

    def _answer(self, request: HTTPConnection, token: str) -> Response | None:
        """The answer to requests without access, and to the sign-in link; None for all others. `token` is that of the
        owner."""
        if not self._site.knows_host(request):
            return _refuse(403, "Unknown host. Open the page with the sign-in link that Interject printed.")
        if not self._site.knows_origin(request):
            return _refuse(403, "Requests from other sites are not allowed.")
        if _is_public(request):
            return None
        if request.url.path == "/" and _is_token(request.query_params.get("token"), token):
            return self._sign_in(request, token)
        if _is_token(bearer_token(request), token):
            return None
        try:
            name = self._site.proxies.person(request)
        except BadIdentity as error:
            return _refusal_page(400, str(error))
        if name is not None:
            return self._answer_person(request, name)
        if _is_token(request.cookies.get(self._site.cookie_name(request)), token):
            return None
        if request.url.path == "/":
            return HTMLResponse(_SIGN_IN_PAGE, 401)
        return _refuse(
            401, "Sign-in link required: open the link that Interject printed, or send its token as a Bearer token."
        )

    def _answer_person(self, request: HTTPConnection, name: str) -> Response | None:
        """People whom a proxy has signed in get the page. What it shows is asked of the API, which has a guard too."""
        if not self._admits(name):
            return _refusal_page(403, f"{name} may not write to the agent. The operator adds people to allow in [web].")
        return None

    def _sign_in(self, request: HTTPConnection, token: str) -> Response:
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self._site.cookie_name(request),
            token,
            max_age=COOKIE_AGE,
            httponly=True,
            samesite="strict",
            secure=self._site.is_secure(request),
        )
        return answer


def _is_token(given: str | None, token: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), token.encode())


def _is_public(request: HTTPConnection) -> bool:
    """The page's styles and scripts hold no secret, and the sign-in page uses them."""
    return request.scope["method"] in ("GET", "HEAD") and request.url.path.startswith("/page/")


def bearer_token(request: HTTPConnection) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def _refusal_page(status: int, message: str) -> Response:
    """For people whom a proxy has signed in: another link does not help them."""
    return HTMLResponse(_PAGE.format(title="No access", text=escape(message)), status)


class SecurityHeaders:
    """ASGI middleware: `with_security_headers` around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, with_security_headers(send))


def with_security_headers(send: Send) -> Send:
    """Adds the headers that protect pages of this server in browsers."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
