"""Hooks as HTTP endpoints, over real sockets."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from agent.agent import unmasked
from agent.hook import Deny, HookContext, MessageIn, Respond, Ruled, ToolCall
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.http import HttpHook, signature
from agent.hooks.runner import HookError
from agent.masking import Mask
from agent.media import NewFile

HERE = HookContext(session="s", channel="web", sender="Ada")
CALL = ToolCall("c1", "shell", {"command": "ls"}, "external")
SECRET = "not-to-be-shown"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def endpoint(handler: Handler, mask: Callable[[str], str] = unmasked) -> AsyncIterator[HttpHook]:
    """A hook whose endpoint is the handler."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with HttpHook("guard", f"http://127.0.0.1:{port}/hook?token={SECRET}", SECRET, mask) as hook:
            yield hook
    finally:
        await runner.cleanup()


def answering(answer: object, *, status: int = 200) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return web.Response(body=body, status=status)

    return handle


async def test_an_endpoint_is_not_sent_secrets_that_people_write() -> None:
    bodies: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response()

    async with endpoint(handle, Mask(["the-key-4711"])) as hook:
        await hook.ask("on_message", HERE, MessageIn("it is the-key-4711", "quoting: the-key-4711"))
        await hook.observe(HERE, {"event": "TurnStarted", "about": "the-key-4711"})
    assert [(body.count(b"[secret]"), b"4711" in body) for body in bodies] == [(2, False), (1, False)]


async def test_an_endpoint_is_asked_with_a_signed_body() -> None:
    asked: list[tuple[web.Request, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append((request, await request.read()))
        return web.json_response({"decision": "deny", "reason": "no"})

    async with endpoint(handle) as hook:
        assert await hook.ask("before_tool", HERE, CALL) == Deny("no")
    ((request, body),) = asked
    assert (request.method, request.content_type) == ("POST", "application/json")
    timestamp = request.headers["X-Interject-Timestamp"]
    assert abs(time.time() - int(timestamp)) < 60
    expected = hmac.new(SECRET.encode(), f"v1:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()
    assert request.headers["X-Interject-Signature"] == f"v1={expected}"
    assert json.loads(body) == {
        "protocol": 1,
        "hook": "guard",
        "point": "before_tool",
        "context": {"session": "s", "channel": "web", "run_id": "", "sender": "Ada", "sender_id": "", "agent": ""},
        "subject": {
            "call_id": "c1",
            "tool": "shell",
            "arguments": {"command": "ls"},
            "effect": "external",
            "foreign": [],
            "tools": {},
        },
    }


def test_the_signature_is_the_documented_one() -> None:
    assert signature("secret", "1700000000", b'{"protocol":1}') == (
        "v1=" + hmac.new(b"secret", b'v1:1700000000:{"protocol":1}', hashlib.sha256).hexdigest()
    )


async def test_an_endpoint_is_shown_events() -> None:
    seen: list[object] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return web.Response(status=204)

    async with endpoint(handle) as hook, HookChain([RegisteredHook("guard", hook, ("on_event",), timeout=60)]) as chain:
        chain.observe(HERE, {"kind": "ended"})
    (event,) = seen
    assert isinstance(event, dict)
    assert (event["point"], event["event"]) == ("on_event", {"kind": "ended"})


async def test_an_endpoint_changes_what_it_names() -> None:
    async with endpoint(answering({"decision": "modify", "change": {"text": "bye"}})) as hook:
        assert await hook.ask("on_message", HERE, MessageIn("hi", "a note")) == MessageIn("bye", "a note")


async def test_an_endpoint_supplies_a_whole_result() -> None:
    result = {"text": "a cat", "files": [{"name": "cat.png", "data": "UE5H"}], "for_user": "Look.", "final": True}
    async with endpoint(answering({"decision": "respond", **result})) as hook:
        given = await hook.ask("before_tool", HERE, CALL)
    assert given == Respond("a cat", (NewFile("cat.png", b"PNG"),), for_user="Look.", final=True)


@pytest.mark.parametrize("answer", [{"decision": "continue"}, b"", b"\n"])
async def test_an_endpoint_without_an_opinion_lets_it_go_on(answer: object) -> None:
    async with endpoint(answering(answer)) as hook:
        assert await hook.ask("before_tool", HERE, CALL) is None


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (answering(b"", status=500), "it answered 500"),
        (answering(b"", status=401), "it answered 401"),
        (answering(b"<html>"), "its answer is not JSON: <html>"),
        (answering({"decision": "perhaps"}), "its answer is invalid"),
        (
            answering({"decision": "respond", "files": [{"name": "a", "data": "?"}]}),
            "the data of a is not valid base64",
        ),
        (answering({"decision": "modify", "change": {"effect": "read"}}), "effect cannot be changed here"),
        (answering(b"x" * 16_800_000), "its response exceeds 16,777,216 bytes"),
    ],
)
async def test_whatever_else_it_answers_is_an_error(handler: Handler, why: str) -> None:
    async with endpoint(handler) as hook:
        with pytest.raises(HookError, match=why):
            await hook.ask("before_tool", HERE, CALL)


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with endpoint(handle) as hook:
        with pytest.raises(HookError, match="it answered 307"):
            await hook.ask("before_tool", HERE, CALL)
    assert asked == ["/hook"]


async def test_an_answer_without_end_is_cut_off() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    async with endpoint(handle) as hook:
        with pytest.raises(HookError, match="exceeds"):
            await hook.ask("before_tool", HERE, CALL)


async def test_an_endpoint_that_never_answers_costs_its_time_limit() -> None:
    async def handle(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with (
        endpoint(handle) as hook,
        HookChain([RegisteredHook("guard", hook, ("approve_tool",), timeout=0.1)]) as chain,
    ):
        _, ruled = await chain.ask("approve_tool", HERE, CALL)
    assert ruled == Ruled(Deny("the hook 'guard' failed: it timed out after 0.1 s"), "guard")


@pytest.mark.parametrize(
    "url", [f"http://127.0.0.1:1/{SECRET}", f"ftp://host/{SECRET}", f"http://:x/{SECRET}", SECRET, ""]
)
async def test_an_endpoint_that_cannot_be_reached_is_an_error_without_its_url(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "httpx")
    async with (
        HttpHook("guard", url, SECRET) as hook,
        HookChain([RegisteredHook("guard", hook, ("approve_tool",))]) as chain,
    ):
        _, ruled = await chain.ask("approve_tool", HERE, CALL)
    assert ruled is not None
    assert isinstance(ruled.ruling, Deny)
    assert ruled.ruling.reason.startswith("the hook 'guard' failed: it")
    assert SECRET not in ruled.ruling.reason + caplog.text
