"""The operator page at /admin, and signing in to the API with a cookie at /sign-in."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import Body, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from channels.web.access_guard import COOKIE_AGE, Site, with_security_headers
from channels.web.body_limit import BodyLimit
from channels.web.parse import OWNER
from gateway.api.guard import Callers
from gateway.api.limits import RequestRate
from gateway.api.problems import Problem, answer_problems
from gateway.inbound.logins import Logins

PATHS = ("/admin", "/sign-in")

_PAGE = Path(str(files("gateway.web"))) / "admin"
_BODY_LIMIT = 10_000
_SIGN_INS_PER_MINUTE = 30


class SignIn(BaseModel, extra="forbid"):
    """Either a key of the API or the web chat's token, or the code of a link of `/login`."""

    key: str = Field(default="", max_length=200)
    code: str = Field(default="", max_length=200)


class SignedIn(BaseModel):
    name: str


def app(callers: Callers, logins: Logins, *, site: Site) -> FastAPI:
    """The app for `PATHS`. The page has no secrets: what it shows it asks the API for."""
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    rate = RequestRate(_SIGN_INS_PER_MINUTE)
    pages.add_middleware(BodyLimit, limit=_BODY_LIMIT)
    pages.add_middleware(_KnownSites, site=site)
    answer_problems(pages)

    @pages.get("/admin")
    @pages.get("/sign-in")
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    pages.mount("/admin", StaticFiles(directory=_PAGE))

    @pages.post("/sign-in")
    async def sign_in(request: Request, given: Annotated[SignIn, Body()]) -> Response:
        """Signs the browser in."""
        if after := rate.take(request.client.host if request.client else ""):
            raise Problem(429, "too_many_requests", "Too many attempts. Please wait a moment.", retry_after=after)
        secret = given.key or await logins.sign_in(given.code) or ""
        caller = await callers.find(secret)
        if caller is None:
            raise _refused(given)
        # The web chat's own cookie holds its token.
        name = site.cookie_name(request) if caller.sender == OWNER else site.session_cookie(request)
        answer = JSONResponse(SignedIn(name=caller.sender.name).model_dump())
        answer.set_cookie(
            name, secret, max_age=COOKIE_AGE, httponly=True, samesite="strict", secure=site.is_secure(request)
        )
        return answer

    @pages.delete("/sign-in", status_code=204)
    async def sign_out(request: Request) -> Response:
        await logins.sign_out(request.cookies.get(site.session_cookie(request), ""))
        answer = Response(status_code=204)
        for name in (site.session_cookie(request), site.cookie_name(request)):
            answer.delete_cookie(name, httponly=True, samesite="strict", secure=site.is_secure(request))
        return answer

    return pages


def _refused(given: SignIn) -> Problem:
    if given.code:
        detail = "This link was used already, or is older than 5 minutes. /login sends you another."
        return Problem(401, "link_invalid", detail)
    return Problem(401, "key_invalid", "This key is not valid, or not any more.")


class _KnownSites:
    """ASGI middleware: refuses unknown hosts and other sites, and adds the headers that protect pages."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http":
            refusal = self._refusal(Request(scope))
            send = with_security_headers(send)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if not self._site.knows_host(request):
            return Problem(403, "unknown_host", "Unknown host.").response()
        if not self._site.knows_origin(request):
            return Problem(403, "foreign_origin", "Requests from other sites are not allowed.").response()
        return None
