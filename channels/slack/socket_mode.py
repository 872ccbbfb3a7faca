"""Socket Mode: one connection after another, each opened before the previous one is closed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
from slack_bolt.adapter.socket_mode.async_internals import run_async_bolt_app, send_async_response
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest

from channels.backoff import Backoff
from channels.slack.api import TOKEN_ERRORS, Api, error_code, is_rate_limit, retry_seconds

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.3
PING_INTERVAL = 5.0
CHECK_INTERVAL = 0.5
"""Seconds between two checks of the connection: the SDK does not report a broken one."""

CONNECT_TIMEOUT = 20.0
ACKNOWLEDGE_TIMEOUT = 3.0
"""Seconds within which Slack requires an acknowledgement; it is useless later."""

SHORT_LIFE = 5.0
"""Seconds; after a shorter connection there is a pause before the next."""

Connecting = Callable[[], None]


class AppTokenRejected(Exception):
    """Slack rejects the app token; the message is Slack's error code."""


class SocketMode:
    """`connecting` is called before each connection, `problem` with the current problem, "" for none."""

    def __init__(
        self, api: Api, app_token: str, bolt: AsyncApp, connecting: Connecting, problem: Callable[[str], None]
    ):
        self._api = api
        self._app_token = app_token
        self._bolt = bolt
        self._connecting = connecting
        self._problems = problem

    async def listen(self) -> None:
        """Until cancelled. Raises `AppTokenRejected`."""
        backoff, current = Backoff(FIRST_PAUSE), None
        try:
            while True:
                fresh = await self._open(backoff)
                self._problems("")
                if current is not None:
                    await current.retire()
                current = fresh
                lived = await current.wait_for_end()
                log.info("a socket was closed after %.0f s; opening another", lived)
                if lived < SHORT_LIFE:
                    await backoff.pause()
                else:
                    backoff = Backoff(FIRST_PAUSE)
        finally:
            if current is not None:
                await current.close()

    async def _open(self, backoff: Backoff) -> Socket:
        while True:
            self._connecting()
            socket = Socket(self._api, self._app_token, self._bolt)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await socket.connect()
                return socket
            except SlackApiError as error:
                await socket.close()
                if error_code(error) in TOKEN_ERRORS:
                    raise AppTokenRejected(error_code(error)) from error
                self._problems(f"Slack opens no socket: {error_code(error) or 'no answer'}")
                log.warning("Slack opens no socket, trying again: %s", error)
                if is_rate_limit(error):
                    await asyncio.sleep(retry_seconds(error))
            except (aiohttp.ClientError, SlackClientError, TimeoutError, OSError) as error:
                await socket.close()
                self._problems("Slack is not reachable")
                log.warning("Slack is not reachable, trying again: %r", error)
            except BaseException:
                await socket.close()
                raise
            await backoff.pause()


class Socket(SocketModeClient):
    """The SDK's client for one connection. It never reconnects: the SDK's own way closes the old connection before it
    opens another, and retries the same URL for ever."""

    def __init__(self, api: Api, app_token: str, bolt: AsyncApp) -> None:
        super().__init__(app_token, web_client=api.client, auto_reconnect_enabled=False, ping_interval=PING_INTERVAL)
        self.socket_mode_request_listeners.append(self._receive)
        self._api = api
        self._bolt = bolt
        self._leaving = asyncio.Event()
        self._since = time.monotonic()
        self._running: set[asyncio.Task[object]] = set()

    async def connect(self) -> None:
        url = await self._api.open_socket(self.app_token)
        self.current_session = await self.aiohttp_client_session.ws_connect(
            url, autoping=False, heartbeat=self.ping_interval, proxy=self.proxy
        )
        self.current_session_monitor = asyncio.ensure_future(self.monitor_current_session())
        self.message_receiver = asyncio.ensure_future(self.receive_messages())

    async def connect_to_new_endpoint(self, force: bool = False) -> None:
        """Slack announced that it is about to disconnect."""
        self._leaving.set()

    async def wait_for_end(self) -> float:
        """Returns when another socket is needed, with this one's age in seconds."""
        while not self._leaving.is_set() and await self.is_connected():
            try:
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._leaving.wait()
            except TimeoutError:
                continue
        return time.monotonic() - self._since

    async def _receive(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            response = await run_async_bolt_app(self._bolt, request)
            await send_async_response(client, request, response, time.time())
        except (ConnectionError, aiohttp.ClientError) as error:
            log.info("an event could not be acknowledged; Slack sends it again: %r", error)
        finally:
            self._running.discard(task)

    async def retire(self) -> None:
        """Closes it once its events are acknowledged."""
        if self._running:
            await asyncio.wait(self._running, timeout=ACKNOWLEDGE_TIMEOUT)
        await self.close()

    async def close(self) -> None:
        tasks = [self.message_processor, self.current_session_monitor, self.message_receiver, *self._running]
        for handling in self._running:
            handling.cancel()
        self.closed = True
        if self.current_session is not None:
            await self.current_session.close()
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        await self.aiohttp_client_session.close()
