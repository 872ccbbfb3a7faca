"""`interject mcp`: lists the MCP servers, and signs everybody in or out at one. Works beside a running gateway."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.mcp.account import Accounts, Callback
from agent.mcp.errors import McpError
from config.load import Configuration
from config.mcp import McpSettings, McpUrlSettings
from gateway.assembly.mcp import accounts, client_settings
from gateway.cli.checks.mcp import place_of
from gateway.cli.home import describe_error, make_home
from gateway.cli.output import json_line, write_lines

WAIT = 600.0
"""Seconds in which the person must have signed in."""

MAX_REQUEST = 16_384
"""Bytes of a browser's request that are read."""

THANKS = "Thank you. You can close this page: the command line says what came of it."
UNKNOWN = "This is not the answer that is waited for."


def show_servers(configuration: Configuration, *, as_json: bool = False) -> int:
    """A line each. Returns the exit code."""
    try:
        found = asyncio.run(_servers_json(configuration))
    except McpError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    if as_json:
        write_lines(map(json_line, found))
    else:
        write_lines(map(_server_line, found), "There are no MCP servers in the settings.")
    return 0


async def _servers_json(configuration: Configuration) -> list[dict[str, Any]]:
    """Raises `McpError`."""
    kept = accounts(configuration)
    return [await _server_json(kept, name, given) for name, given in configuration.settings.mcp.items()]


async def _server_json(kept: Accounts, name: str, given: McpSettings) -> dict[str, Any]:
    """`signed_in` is the number of accounts. Raises `McpError`."""
    is_remote = isinstance(given, McpUrlSettings)
    return {
        "name": name,
        "place": place_of(given),
        "per_person": isinstance(given, McpUrlSettings) and given.per_person,
        "signed_in": await kept.store.count(name) if is_remote else 0,
    }


def _server_line(server: dict[str, Any]) -> str:
    return f"{server['name']}: {server['place']}{_signed_in(server['signed_in'], per_person=server['per_person'])}"


def _signed_in(number: int, *, per_person: bool) -> str:
    if per_person:
        return f" ({number} {'person is' if number == 1 else 'people are'} signed in)"
    return " (signed in)" if number else ""


def log_in(configuration: Configuration, name: str, *, pastes: bool = False) -> int:
    """Prints a link and waits until somebody has signed in with it, in a browser on this machine. If somebody `pastes`
    the address to which their browser comes back, it may be on any machine. Returns the exit code."""
    given = _server(configuration, name)
    if given is None:
        return 1
    from agent.mcp.sign_in import sign_in

    account = accounts(configuration).shared(name, given.url, client_settings(given))

    async def run() -> None:
        async with _Pasted() if pastes else _Loopback() as link:
            await sign_in(account, link)

    try:
        make_home(configuration.home)
        asyncio.run(run())
    except (McpError, OSError) as error:
        sys.stderr.write(f"interject: {name}: {describe_error(error, configuration.home)}\n")
        return 1
    sys.stdout.write(f"Signed in at {name}. A running gateway uses it with the next call.\n")
    return 0


def log_out(configuration: Configuration, name: str) -> int:
    """Returns the exit code."""
    given = _server(configuration, name)
    if given is None:
        return 1
    from agent.mcp.sign_in import sign_out

    try:
        why = asyncio.run(sign_out(accounts(configuration).shared(name, given.url, client_settings(given))))
    except McpError as error:
        sys.stderr.write(f"interject: {name}: {error}\n")
        return 1
    if why is None:
        sys.stdout.write(f"Nobody was signed in at {name}.\n")
        return 0
    if why:
        sys.stderr.write(f"interject: {name}: the access may be valid there still, because {why}\n")
    sys.stdout.write(f"Signed out of {name}. A running gateway forgets it with the next call.\n")
    return 0


def _server(configuration: Configuration, name: str) -> McpUrlSettings | None:
    """The server that everybody shares; None, with what is wrong on stderr, if it is none of that kind."""
    given = configuration.settings.mcp.get(name)
    if given is None:
        known = ", ".join(configuration.settings.mcp) or "none"
        sys.stderr.write(f"interject: there is no MCP server {name!r} in the settings. There are: {known}\n")
    elif not isinstance(given, McpUrlSettings):
        sys.stderr.write(f"interject: {name} is a program on this machine, at which nobody signs in\n")
    elif given.per_person:
        sys.stderr.write(f"interject: at {name} each person signs in for themselves, in chat: /mcp login {name}\n")
    else:
        return given
    return None


class _Loopback:
    """A free port of this machine to which the browser comes back. Implements `agent.mcp.account.Link`.

    Use as a context manager.
    """

    document: str | None = None
    without_code = ""

    def __init__(self) -> None:
        self.redirect_uri: str | None = None
        self._state = ""

    async def __aenter__(self) -> _Loopback:
        self._answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_REQUEST)
        self.redirect_uri = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/oauth/callback"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def show(self, url: str) -> None:
        self._state = _query(url).get("state", "")
        sys.stdout.write(f"Open this link in a browser on this machine, and sign in:\n\n  {url}\n\n")
        sys.stdout.flush()

    async def show_code(self, url: str, code: str, seconds: float) -> None:
        """Not called: a browser on this machine comes back."""

    async def returned(self) -> Callback:
        try:
            async with asyncio.timeout(WAIT):
                answer = await self._answer
        except TimeoutError:
            raise McpError("nobody has signed in within 10 minutes") from None
        if "code" not in answer:
            raise McpError("the sign-in was refused")
        return Callback(answer["code"], answer["state"], answer.get("iss"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of a browser. Only the one with the state counts."""
        try:
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
            path = head.decode("latin-1").split(" ", 2)[1]
            query = _query(path)
            is_ours = path.startswith("/oauth/callback?") and bool(self._state) and query.get("state") == self._state
            text = (THANKS if is_ours else UNKNOWN).encode()
            status = b"200 OK" if is_ours else b"404 Not Found"
            writer.write(
                b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: " + str(len(text)).encode() + b"\r\n\r\n" + text
            )
            await writer.drain()
            if is_ours and not self._answer.done():
                self._answer.set_result(query)
        except (OSError, TimeoutError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # It is no browser, or has gone.
            return
        finally:
            writer.close()


class _Pasted(_Loopback):
    """The browser is on another machine, and cannot open the address to which it comes back: it is pasted here."""

    async def show(self, url: str) -> None:
        self._state = _query(url).get("state", "")
        sys.stdout.write(
            f"Open this link in a browser, and sign in:\n\n  {url}\n\n"
            f"Then the browser cannot open an address that begins with {self.redirect_uri}. Paste that address here:\n"
        )
        sys.stdout.flush()
        # A daemon: nothing waits for a person who has typed no line when this ends.
        Thread(target=self._read, args=(asyncio.get_running_loop(),), daemon=True).start()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop has ended
            for line in sys.stdin:
                loop.call_soon_threadsafe(self._take, line.strip())
            loop.call_soon_threadsafe(self._end)

    def _take(self, line: str) -> None:
        query = _query(line)
        if not line or self._answer.done():
            return
        if self._state and query.get("state") == self._state:
            self._answer.set_result(query)
            return
        sys.stderr.write("This is not the address that the browser shows after this sign-in. Paste all of it.\n")
        sys.stderr.flush()

    def _end(self) -> None:
        if not self._answer.done():
            self._answer.set_exception(McpError("no address was pasted"))


def _query(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
