"""The API as an ASGI application."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI

from channels.web.access_guard import SecurityHeaders, Site
from channels.web.body_limit import BodyLimit
from gateway.api import (
    catalog,
    control,
    conversations,
    decisions,
    forks,
    keys,
    memory,
    messages,
    operations,
    people,
    runs,
    schedules,
    session,
    streams,
    traces,
    usage,
    workers,
)
from gateway.api.follower import Follower
from gateway.api.guard import Callers, Guard
from gateway.api.limits import UPLOAD_LIMIT
from gateway.api.operations import NO_FACTS, OperatorFacts
from gateway.api.problems import DESCRIBED, answer_problems
from gateway.app import Gateway

PREFIX = "/api/v1"
VERSION = "1"


class _Described(FastAPI):
    def openapi(self) -> dict[str, Any]:
        described = super().openapi()
        described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        return described


def description() -> dict[str, Any]:
    """The API as OpenAPI."""
    # Routes use the gateway when they are called, not before.
    nobody = cast(Any, None)
    return app(nobody, nobody, nobody, site=Site("")).openapi()


def app(
    gateway: Gateway,
    callers: Callers,
    follower: Follower,
    *,
    site: Site,
    facts: OperatorFacts = NO_FACTS,
) -> FastAPI:
    """The app for paths that begin with /api/v1."""
    api = _Described(
        title="Interject",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
    )
    api.add_middleware(BodyLimit, limit=UPLOAD_LIMIT)
    api.add_middleware(Guard, callers=callers, site=site)
    api.add_middleware(SecurityHeaders)
    answer_problems(api)
    for router in (
        conversations.router(gateway),
        forks.router(gateway),
        keys.router(gateway),
        messages.router(gateway),
        control.router(gateway),
        decisions.router(gateway),
        runs.router(gateway),
        operations.router(gateway, facts),
        catalog.router(gateway),
        people.router(gateway),
        usage.router(gateway),
        traces.router(gateway),
        workers.router(gateway),
        schedules.router(gateway),
        memory.router(gateway),
        streams.router(gateway, follower),
        session.router(),
    ):
        api.include_router(router, prefix=PREFIX, responses=DESCRIBED)
    return api
