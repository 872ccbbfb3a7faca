"""The server of bytes: what it promises other tests, it keeps here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.servers.raw_models import Hold, KeepAlive, KeepOpen, RawModelServer, Reset, sse, stream_head, whole


@pytest.fixture
async def server() -> AsyncIterator[RawModelServer]:
    async with RawModelServer() as server:
        yield server


@pytest.fixture
async def client(server: RawModelServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


async def test_bytes_arrive_as_they_are_and_the_request_is_kept(
    server: RawModelServer, client: httpx.AsyncClient
) -> None:
    server.script([stream_head(), b": a comment\r\n", sse({"a": 1}, "[DONE]", newline="\r\n", name="odd")])
    response = await client.post("/v1/answers?version=2", json={"stream": True}, headers={"X-Own": "yes"})
    assert response.text == (': a comment\r\nevent: odd\r\ndata: {"a": 1}\r\n\r\nevent: odd\r\ndata: [DONE]\r\n\r\n')
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/v1/answers?version=2")
    assert (request.headers["x-own"], request.json) == ("yes", {"stream": True})


async def test_a_connection_is_used_again_where_the_answer_says_so(
    server: RawModelServer, client: httpx.AsyncClient
) -> None:
    server.script([whole({"a": 1}), KeepAlive()], whole("no", status=503, retry_after="7"), whole({}))
    answers = [await client.post("/", content=b"x") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert answers[1].headers["retry-after"] == "7"
    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_an_answer_is_held_until_the_test_lets_it_go(server: RawModelServer, client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    server.script([stream_head(), sse("one"), Hold(gate), sse("two")])
    async with client.stream("POST", "/") as response:
        pieces = response.aiter_text()
        assert await anext(pieces) == "data: one\n\n"
        gate.set()
        assert await anext(pieces) == "data: two\n\n"


async def test_a_client_that_leaves_is_noticed_at_once(server: RawModelServer, client: httpx.AsyncClient) -> None:
    server.script([stream_head(), sse("one"), KeepOpen()])
    async with client.stream("POST", "/") as response:
        await anext(response.aiter_text())
        [request] = server.requests
        assert not request.left.is_set()
        leaving = time.monotonic()
    assert await request.until_left() - leaving < 1


async def test_a_connection_that_is_reset_fails_the_client(server: RawModelServer, client: httpx.AsyncClient) -> None:
    server.script([stream_head(), sse("one"), Reset()])
    with pytest.raises(httpx.TransportError):
        await client.post("/")


async def test_without_a_script_the_answer_says_so(server: RawModelServer, client: httpx.AsyncClient) -> None:
    response = await client.post("/")
    assert (response.status_code, response.json()["error"]["message"]) == (
        500,
        "nothing is scripted for this request",
    )
