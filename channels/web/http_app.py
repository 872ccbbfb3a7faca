"""The web page, as an ASGI app that the gateway's web server runs. What it shows it asks the HTTP API for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from channels.web.access_guard import AccessGuard, Site
from channels.web.body_limit import BodyLimit
from channels.web.formulas import MAX_FORMULA, mathml

_PAGE = Path(__file__).parent / "page"
_MAX_FORMULAS = 100
_BODY_LIMIT = 4 * MAX_FORMULA * _MAX_FORMULAS


class _Formula(BaseModel, extra="forbid"):
    tex: str = Field(max_length=MAX_FORMULA)
    display: bool = False


class _Formulas(BaseModel, extra="forbid"):
    formulas: list[_Formula] = Field(max_length=_MAX_FORMULAS)


def app(token: Callable[[], Awaitable[str]], site: Site, admits: Callable[[str], bool] = lambda name: False) -> FastAPI:
    """The app. `token` is the current one of the sign-in link; `admits` says whether a person whom a proxy names may
    use the page.

    Errors are JSON `{"error": "message for a person"}` with the matching status.
    """
    pages = FastAPI(title="Interject", docs_url=None, redoc_url=None, openapi_url=None)
    pages.add_middleware(BodyLimit, limit=_BODY_LIMIT)
    pages.add_middleware(AccessGuard, token=token, site=site, admits=admits)

    @pages.get("/")
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    @pages.post("/page/formulas")
    async def formulas(wanted: _Formulas) -> dict[str, Any]:
        """The MathML of each; null where it stays as it is written."""
        return {
            "mathml": await asyncio.to_thread(lambda: [mathml(one.tex, display=one.display) for one in wanted.formulas])
        }

    pages.mount("/page", StaticFiles(directory=_PAGE))

    @pages.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code)

    @pages.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> Response:
        return JSONResponse({"error": "The body must be JSON with exactly the fields of a formula."}, 422)

    @pages.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "Internal error. See the gateway's log."}, 500)

    return pages
