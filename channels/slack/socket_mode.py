"""Socket Mode: one socket after the other, each opened before the one before it goes."""

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
from channels.slack.api import TOKEN_ERRORS, Api, asks_for_patience, code_of, patience

log = logging.getLogger(__name__)

PING_INTERVAL = 5.0
LOOK = 0.5
"""Seconds between two looks at whether a socket still lives: of a broken connection the SDK tells nobody."""

CONNECTING = 20.0
FINISHING = 3.0
"""Seconds in which Slack wants to hear that something arrived; longer it makes no sense to wait."""

SHORT_LIFE = 5.0

Connecting = Callable[[], None]


class AppTokenRejected(Exception):
    """Slack does not accept the app token; the message is Slack's word for it."""


class Sockets:
    """`trouble` is told in words, and that it is over by none."""

    def __init__(
        self, api: Api, app_token: str, bolt: AsyncApp, connecting: Connecting, trouble: Callable[[str], None]
    ):
        self._api = api
        self._app_token = app_token
        self._bolt = bolt
        self._connecting = connecting
        self._tell = trouble

    async def listen(self) -> None:
        """Until cancelled. Raises `AppTokenRejected`."""
        backoff, current = Backoff(), None
        try:
            while True:
                fresh = await self._open(backoff)
                self._tell("")
                if current is not None:
                    await current.retire()
                current = fresh
                lived = await current.lives()
                log.info("a socket of Slack's has gone after %.0f s; opening another", lived)
                if lived < SHORT_LIFE:
                    await backoff.pause()
                else:
                    backoff = Backoff()
        finally:
            if current is not None:
                await current.close()

    async def _open(self, backoff: Backoff) -> Socket:
        while True:
            self._connecting()
            socket = Socket(self._api, self._app_token, self._bolt)
            try:
                async with asyncio.timeout(CONNECTING):
                    await socket.connect()
                return socket
            except SlackApiError as error:
                await socket.close()
                if code_of(error) in TOKEN_ERRORS:
                    raise AppTokenRejected(code_of(error)) from error
                self._tell(f"Slack opens no socket: {code_of(error) or 'it fails'}")
                log.warning("Slack opens no socket, trying again: %s", error)
                if asks_for_patience(error):
                    await asyncio.sleep(patience(error))
            except (aiohttp.ClientError, SlackClientError, TimeoutError, OSError) as error:
                await socket.close()
                self._tell("Slack cannot be reached")
                log.warning("Slack cannot be reached, trying again: %r", error)
            except BaseException:
                await socket.close()
                raise
            await backoff.pause()


class Socket(SocketModeClient):
    """The SDK's client for one connection. It goes when Slack says so, and never comes back: the SDK's own way closes
    the old connection before it opens another, and tries one address for ever."""

    def __init__(self, api: Api, app_token: str, bolt: AsyncApp) -> None:
        super().__init__(app_token, web_client=api.client, auto_reconnect_enabled=False, ping_interval=PING_INTERVAL)
        self.socket_mode_request_listeners.append(self._take)
        self._api = api
        self._bolt = bolt
        self._leaving = asyncio.Event()
        self._since = time.monotonic()
        self._under_way: set[asyncio.Task[object]] = set()

    async def connect(self) -> None:
        url = await self._api.open_socket(self.app_token)
        self.current_session = await self.aiohttp_client_session.ws_connect(
            url, autoping=False, heartbeat=self.ping_interval, proxy=self.proxy
        )
        self.current_session_monitor = asyncio.ensure_future(self.monitor_current_session())
        self.message_receiver = asyncio.ensure_future(self.receive_messages())

    async def connect_to_new_endpoint(self, force: bool = False) -> None:
        """Slack has said that it is about to disconnect."""
        self._leaving.set()

    async def lives(self) -> float:
        """Returns when another socket is needed, with the seconds that this one lived."""
        while not self._leaving.is_set() and await self.is_connected():
            try:
                async with asyncio.timeout(LOOK):
                    await self._leaving.wait()
            except TimeoutError:
                continue
        return time.monotonic() - self._since

    async def _take(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            response = await run_async_bolt_app(self._bolt, request)
            await send_async_response(client, request, response, time.time())
        except (ConnectionError, aiohttp.ClientError) as error:
            log.info("Slack could not be told that something arrived, and will send it again: %r", error)
        finally:
            self._under_way.discard(task)

    async def retire(self) -> None:
        """Closes it once what came through it is confirmed."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=FINISHING)
        await self.close()

    async def close(self) -> None:
        tasks = [self.message_processor, self.current_session_monitor, self.message_receiver, *self._under_way]
        for handling in self._under_way:
            handling.cancel()
        self.closed = True
        if self.current_session is not None:
            await self.current_session.close()
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        await self.aiohttp_client_session.close()
