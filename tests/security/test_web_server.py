"""Attacks on the web server: floods, slow clients, foreign sites, and what a log of the output gives away."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import resource
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from channels.web.body_limit import BodyLimit
from gateway.web.connections import ConnectionLimits
from gateway.web.http_server import bind, serve
from tests.channels.web_gateway import TOKEN, Gateway, site_of
from tests.servers.local import free_port
from tests.servers.models import Call, ModelServer, Say
from tests.servers.proxies import PUBLIC, behind_caddy, behind_nginx, browser, make_certificate

ROOT = Path(__file__).parents[2]
HERE = "/api/v1/conversations/web:local:a"
FILES = 512
FLOOD = 600
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


# --- the real process ---


@dataclass(frozen=True)
class Running:
    """A gateway in a process of its own. `output` is what it has written to standard output."""

    process: Process
    home: Path
    output: str

    @property
    def origin(self) -> str:
        link = json.loads((self.home / "gateway.json").read_text())["link"]
        return str(link).partition("/?")[0]

    @property
    def token(self) -> str:
        return (self.home / "web-token").read_text()

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.origin, headers=headers, timeout=30, trust_env=False)


def _few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "INTERJECT_HOME": str(home), "PYTHONPATH": str(ROOT)}


@asynccontextmanager
async def running(folder: Path, settings: str) -> AsyncIterator[Running]:
    (folder / "interject.toml").write_text(settings)
    home = folder / "home"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "interject", "run"),
        cwd=folder,
        env=_environment(home),
        stdout=PIPE,
        stderr=DEVNULL,
        preexec_fn=_few_files,
    )
    assert process.stdout is not None
    try:
        lines = []
        async with asyncio.timeout(60):
            while not lines or not lines[-1].startswith("  workspace"):
                lines.append((await process.stdout.readline()).decode())
        yield Running(process, home, "".join(lines))
    finally:
        process.kill()
        await process.wait()


def _settings(models: ModelServer) -> str:
    return (
        f'[agent]\nmodel = "openai:test"\n[models.openai]\napi_key = "test-key"\nbase_url = "{models.openai_url}"\n'
        '[web]\nport = 0\n[tools.shell]\nsandbox = "none"\napproval = "never"\n'
    )


async def test_a_flood_of_half_open_connections_leaves_the_page_and_the_shell_working(
    tmp_path: Path, models: ModelServer
) -> None:
    models.script([Call("shell", {"command": "echo $((6 * 7))"})], Say("Done."))
    async with running(tmp_path, _settings(models)) as gateway, AsyncExitStack() as flood:
        for _ in range(FLOOD):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            flood.callback(writer.close)
            writer.write(HALF)
        async with asyncio.timeout(30), gateway.client() as client:
            assert (await client.get("/")).status_code == 200
            posted = await client.post(f"{HERE}/messages", json={"client_id": "message-1", "text": "What is 6 * 7?"})
            report = (await client.get(f"/api/v1/runs/{posted.json()['run']}?wait=60&until=end")).json()
        assert report["state"] == "completed"
        assert "42" in str(models.requests[-1].body)
        assert len(os.listdir(f"/proc/{gateway.process.pid}/fd")) < FILES // 2


# --- slow clients ---


@asynccontextmanager
async def served(limits: ConnectionLimits, gateway: Gateway | None = None) -> AsyncIterator[int]:
    """The web channel behind the gateway's server with these limits; its port."""
    async with served_app(site_of(gateway or Gateway()), limits) as port:
        yield port


@asynccontextmanager
async def served_app(app: ASGIApp, limits: ConnectionLimits) -> AsyncIterator[int]:
    async def site() -> ASGIApp:
        return app

    with bind("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(serve(site, listener, limits))
        try:
            async with asyncio.timeout(60):
                yield listener.getsockname()[1]
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _is_disconnected(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", HALF, b"GET /page/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    """Also one that has had an answer."""
    async with served(ConnectionLimits(header_seconds=0.1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if sent.endswith(b"\r\n\r\n"):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HALF)
            await reader.read()
        else:
            assert await _is_disconnected(reader)
        writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    gateway = Gateway()
    async with served(ConnectionLimits(body_seconds=0.1), gateway) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST {HERE}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
            + b"Content-Length: 100\r\nAuthorization: Bearer "
            + TOKEN.encode()
            + b'\r\n\r\n{"client_id":'
        )
        assert await _is_disconnected(reader)
        writer.close()
    assert gateway.heard == []


async def test_a_client_that_takes_nothing_of_its_answer_is_disconnected() -> None:
    gateway = Gateway()
    file = await gateway.media.put(os.urandom(9_000_000), "large.bin")
    async with served(ConnectionLimits(send_seconds=0.1), gateway) as port:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(lazy, ("127.0.0.1", port))
            request = (
                f"GET {HERE}/files/{file.hash}/large.bin HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {TOKEN}\r\n"
            )
            await loop.sock_sendall(lazy, f"{request}\r\n".encode())
            hung_up = asyncio.Event()
            writing = loop.create_task(_until_closed(lazy, hung_up))
            await hung_up.wait()
            await writing


async def _until_closed(connection: socket.socket, hung_up: asyncio.Event) -> None:
    """Sends a byte of a next request now and then, and reads nothing, until that fails."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            await loop.sock_sendall(connection, b"G" * 1024)
    except OSError:
        hung_up.set()


async def test_a_stream_goes_on_when_the_request_before_it_on_its_connection_is_tidied_up() -> None:
    """A browser asks for the next thing as soon as it has the whole answer; the server may still have a file to close
    then."""
    begun, tidied, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/file":
            await Response("file")(scope, receive, send)
            await begun.wait()
            tidied.set()
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        await over.wait()
        await send({"type": "http.response.body", "body": b"the end"})

    async with served_app(app, ConnectionLimits(header_seconds=0.1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nfile")
        writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await tidied.wait()
        idle, other = await asyncio.open_connection("127.0.0.1", port)
        assert await _is_disconnected(idle)
        over.set()
        assert (await reader.read()).endswith(b"the end\r\n0\r\n\r\n")
        for each in (writer, other):
            each.close()


async def test_at_the_limit_the_connection_that_waits_longest_makes_room() -> None:
    async with served(ConnectionLimits(total=2)) as port:
        oldest, held = await asyncio.open_connection("127.0.0.1", port)
        held.write(HALF)
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert await _is_disconnected(oldest)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/page/style.css")).status_code == 200
        for writer in (held, *(writer for _, writer in others)):
            writer.close()


async def test_at_the_limit_connections_whose_body_does_not_come_make_room() -> None:
    """After those that wait for a request."""
    async with served(ConnectionLimits(total=3)) as port, AsyncExitStack() as stack:
        readers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(
                f"POST {HERE}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
                + b"Content-Length: 100\r\nExpect: 100-continue\r\nAuthorization: Bearer "
                + TOKEN.encode()
                + b"\r\n\r\n"
            )
            assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
            readers.append(reader)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/page/style.css")).status_code == 200
        assert await _is_disconnected(readers[0])


# --- what the output gives away ---


async def test_the_token_is_not_written_where_logs_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path, "[web]\nport = 0\n") as gateway:
        assert gateway.origin in gateway.output
        assert gateway.token not in gateway.output
        shown = await _call(tmp_path, "web-token", "show")
    assert gateway.token not in shown
    assert str(gateway.home / "web-token") in shown


async def test_in_a_terminal_the_sign_in_link_is_printed(tmp_path: Path) -> None:
    async with running(tmp_path, "[web]\nport = 0\n") as gateway:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "interject", "web-token", "show"),
            cwd=tmp_path,
            env=_environment(gateway.home),
            stdout=theirs,
        )
        os.close(theirs)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert os.read(ours, 1000).decode().strip() == f"{gateway.origin}/?token={gateway.token}"
        os.close(ours)


async def _call(folder: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "interject", *arguments),
        cwd=folder,
        env=_environment(folder / "home"),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return (out + err).decode()


async def test_a_new_token_ends_the_access_of_whoever_has_the_old_one(tmp_path: Path) -> None:
    async with running(tmp_path, "[web]\nport = 0\n") as gateway, gateway.client() as old:
        assert (await old.get("/api/v1/conversations")).status_code == 200
        assert "new token" in await _call(tmp_path, "web-token", "rotate")
        assert (await old.get("/api/v1/conversations")).status_code == 401
        async with gateway.client() as new:
            assert (await new.get("/api/v1/conversations")).status_code == 200
        assert json.loads((gateway.home / "gateway.json").read_text())["link"].endswith(gateway.token)
        assert (gateway.home / "web-token").stat().st_mode & 0o777 == 0o600


async def test_a_listener_on_all_interfaces_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "interject.toml").write_text('[web]\nhost = "0.0.0.0"\n')
    assert "from other machines, without HTTPS" in await _call(tmp_path, "check")
    (tmp_path / "interject.toml").write_text('[web]\nhost = "127.0.0.1"\n')
    assert "without HTTPS" not in await _call(tmp_path, "check")


# --- behind a proxy ---


@dataclass(frozen=True)
class Public:
    """The gateway at its public address."""

    url: str
    gateway: Running
    certificate: Path

    def browser(self, **headers: str) -> httpx.AsyncClient:
        return browser(self.url, self.certificate, headers)


PROXIES = {"nginx": behind_nginx, "caddy": behind_caddy}


@pytest.fixture(params=PROXIES)
async def public(request: pytest.FixtureRequest, tmp_path: Path, models: ModelServer) -> AsyncIterator[Public]:
    port = free_port()
    url = f"https://{PUBLIC}:{port}"
    certificate = make_certificate(tmp_path)
    settings = _settings(models).replace("port = 0\n", f'port = 0\nurl = "{url}"\n')
    async with (
        running(tmp_path, settings) as gateway,
        PROXIES[request.param](tmp_path, port, {8321: gateway.port}, certificate),
    ):
        yield Public(url, gateway, certificate)


async def test_behind_a_proxy_the_page_signs_in_posts_and_streams(public: Public, models: ModelServer) -> None:
    models.script(Say("Hello."))
    async with public.browser(Origin=public.url) as browser:
        signed_in = await browser.get(f"/?token={public.gateway.token}")
        cookie = signed_in.headers["set-cookie"]
        assert (signed_in.status_code, "Secure" in cookie, cookie.startswith("__Host-")) == (303, True, True)
        assert (await browser.get("/")).status_code == 200
        assert (await browser.get("/metrics")).status_code == 404
        async with browser.stream("GET", f"{HERE}/events") as stream, asyncio.timeout(60):
            lines = stream.aiter_lines()
            await _event(lines, "snapshot")
            posted = await browser.post(f"{HERE}/messages", content=_chunked(), headers=JSON)
            assert (posted.status_code, posted.json()["state"]) == (200, "accepted")
            # The stream is open: what comes here was not held back until its end.
            await _event(lines, "reply")
        assert (await browser.delete("/sign-in")).status_code == 204
        assert (await browser.get("/api/v1/conversations")).status_code == 401


JSON = {"Content-Type": "application/json"}


async def _chunked() -> AsyncIterator[bytes]:
    yield b'{"client_id": "message-1", '
    yield b'"text": "Hi"}'


async def _event(lines: AsyncIterator[str], name: str) -> None:
    async for line in lines:
        if line == f"event: {name}":
            return
    raise EOFError


async def test_behind_a_proxy_other_sites_and_names_are_still_refused(public: Public) -> None:
    token = {"Authorization": f"Bearer {public.gateway.token}"}
    async with public.browser(Origin="https://evil.example", **token) as other_site:
        assert (await other_site.get("/api/v1/conversations")).status_code == 403
    async with httpx.AsyncClient(base_url=public.gateway.origin, trust_env=False, headers=token) as rebound:
        assert (await rebound.get("/api/v1/conversations", headers={"Host": "evil.example"})).status_code == 403


@pytest.mark.parametrize("size", [900, 3000, 100_000])
async def test_a_chunked_body_has_the_same_limit_as_any_other(size: int) -> None:
    taken: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begin"
        yield b"x" * size
        yield b"end"

    async def take(request: Request) -> Response:
        taken.append(len(await request.body()))
        return Response()

    async def site() -> Callable[..., Awaitable[None]]:
        return Starlette(routes=[Route("/", take, methods=["POST"])], middleware=[Middleware(BodyLimit, limit=1000)])

    with bind("127.0.0.1", 0) as listener:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(site, listener))
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", content=chunks())
            serving.cancel()
    assert answer.status_code == (200 if size < 1000 else 413)
    assert taken == ([size + 8] if size < 1000 else [])
