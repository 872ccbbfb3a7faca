"""What the HTTP client of the Bot API does beyond the calls themselves."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiohttp import BodyPartReader, web
from aiohttp.test_utils import TestServer
from telegram import Bot, InputFile
from telegram.error import NetworkError

from channels.telegram.requests import NOT_SENT, BotRequests

URL = "http://bot-api.test/bot1:a/getMe"


def requests(url: str = URL) -> BotRequests:
    return BotRequests(url, connections=1, read_timeout=5, tls=ssl.create_default_context())


async def test_the_proxy_of_the_environment_is_asked_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}')
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        api = requests()
        assert await api.do_request(URL, "POST") == (200, b'{"ok":true}')
        await api.shutdown()
    assert asked[0].startswith(f"POST {URL} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEBzcw==" in asked[0]


async def test_hosts_that_need_no_proxy_are_asked_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}')
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0) as server:
        url = f"http://localhost:{server.sockets[0].getsockname()[1]}/bot1:a/getMe"
        api = requests(url)
        assert await api.do_request(url, "POST") == (200, b'{"ok":true}')
        await api.shutdown()


async def test_a_connection_that_is_lost_after_the_request_leaves_its_outcome_open() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/bot1:a/sendMessage"
        api = requests(url)
        with pytest.raises(NetworkError) as lost:
            await api.do_request(url, "POST")
        assert not isinstance(lost.value.__cause__, NOT_SENT)
    with pytest.raises(NetworkError) as refused:
        await api.do_request(url, "POST")
    assert isinstance(refused.value.__cause__, NOT_SENT)
    await api.shutdown()
    with pytest.raises(NetworkError, match="closed"):
        await api.do_request(url, "POST")


async def test_an_address_that_is_none_is_told_without_the_token() -> None:
    api = requests()
    with pytest.raises(NetworkError) as told:
        await api.do_request("http:///bot1:secret/getMe", "POST")
    assert "secret" not in str(told.value)
    await api.shutdown()


async def test_a_large_file_is_sent_whole_under_its_own_name() -> None:
    data = bytes(range(256)) * 16 * 1024  # 4 MiB
    received: list[tuple[str | None, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            if part.name == "document":
                received.append((part.filename, bytes(await part.read())))
        return web.json_response({"ok": True, "result": {}})

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/{path:.*}", take)
    async with TestServer(app) as server:
        calls = BotRequests(str(server.make_url("/")), connections=1, read_timeout=5, tls=ssl.create_default_context())
        bot = Bot("1:a", f"{server.make_url('/')}bot", request=calls)
        await bot.do_api_request("senddocument", {"chat_id": 1, "document": InputFile(data, filename='Über "uns".bin')})
        await calls.shutdown()
    assert received == [('Über "uns".bin', data)]
