"""HTTP to the Bot API for python-telegram-bot, over aiohttp: half of the CPU of the client that the library brings."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from telegram.error import BadRequest, NetworkError, TimedOut
from telegram.request import BaseRequest, RequestData

CONNECT_TIMEOUT = 10.0

WRITE_TIMEOUT = 30.0
"""Seconds to send a request without files."""

UPLOAD_TIMEOUT = 900.0
"""Seconds to send a request with files, of 50 MB at most."""

FORM = "application/x-www-form-urlencoded"

NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Causes of errors that say that nothing of the request was sent."""

_KNOWN_STATUSES = (400, 401, 403, 404, 409, 429)
"""Refusals that the library has errors for."""


class BotRequests(BaseRequest):
    """Runs at most as many calls at once as there are `connections`. Beyond that, the cost per call grows with the
    number of waiting calls.

    Errors are the library's; their cause is aiohttp's. Proxies of the environment are used.
    """

    def __init__(self, url: str, *, connections: int, read_timeout: float, tls: ssl.SSLContext) -> None:
        self._read_timeout = read_timeout
        self._tls = tls
        self._proxy, self._proxy_headers = _proxy_for(url)
        self._slots = asyncio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def read_timeout(self) -> float:
        return self._read_timeout

    async def initialize(self) -> None:
        """The first request opens the session."""

    async def shutdown(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = BaseRequest.DEFAULT_NONE,
        write_timeout: Any = BaseRequest.DEFAULT_NONE,
        connect_timeout: Any = BaseRequest.DEFAULT_NONE,
        pool_timeout: Any = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """Raises `BadRequest` for each status that refuses the request: the library treats those that it does not know
        (413 of a server before the Bot API) like a lost connection."""
        patience = self._read_timeout if read_timeout is BaseRequest.DEFAULT_NONE else read_timeout
        async with self._slots:
            status, payload = await self._request(url, method, request_data, patience)
        if 400 <= status < 500 and status not in _KNOWN_STATUSES:
            raise BadRequest(f"{_description(payload)} ({status})")
        return status, payload

    async def _request(
        self, url: str, method: str, request_data: RequestData | None, read_timeout: float
    ) -> tuple[int, bytes]:
        headers = {"User-Agent": self.USER_AGENT}
        if not url.startswith("https:"):
            # Only with TLS the proxy is asked apart from the server.
            headers |= self._proxy_headers
        data, total = _body(request_data, headers)
        timeout = aiohttp.ClientTimeout(
            total=None if method == "GET" else total + read_timeout,
            sock_connect=CONNECT_TIMEOUT,
            sock_read=read_timeout,
        )
        try:
            async with self._open().request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
            ) as response:
                return response.status, await response.read()
        except TimeoutError as error:
            raise TimedOut from error
        except aiohttp.InvalidURL as error:
            # Its words have the URL, and that has the token.
            raise NetworkError("the address of the Bot API is not valid") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NetworkError(f"{type(error).__name__}: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise NetworkError("the channel is closed")
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def _body(request_data: RequestData | None, headers: dict[str, str]) -> tuple[aiohttp.FormData | bytes | None, float]:
    """The body of a request, its headers added to the `headers`, and the seconds that sending it may take."""
    if request_data is None:
        return None, WRITE_TIMEOUT
    if not request_data.contains_files:
        headers["Content-Type"] = FORM
        return request_data.url_encoded_parameters().encode(), WRITE_TIMEOUT
    # Names of files are sent as they are: Telegram shows quoted ones with the quoting.
    form = aiohttp.FormData(request_data.json_parameters, quote_fields=False)
    for name, (file_name, content, media_type) in request_data.multipart_data.items():
        # In pieces: a large file that is written at once holds up the event loop.
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        form.add_field(name, file, filename=file_name, content_type=media_type)
    return form, UPLOAD_TIMEOUT


def _description(payload: bytes) -> str:
    """What the Bot API says; a server before it answers with a page of its own."""
    try:
        answer = json.loads(payload)
    except ValueError:
        return "refused"
    return str(answer.get("description") or "refused") if isinstance(answer, dict) else "refused"


def _proxy_for(url: str) -> tuple[str | None, dict[str, str]]:
    """The proxy of the environment for this URL, and the headers that it wants."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    proxies = getproxies()
    given = proxies.get(scheme) or proxies.get("all")
    if not given or proxy_bypass(host):
        return None, {}
    proxy = urlsplit(given if "://" in given else f"http://{given}")
    address = proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl()
    if proxy.username is None:
        return address, {}
    login = aiohttp.encode_basic_auth(unquote(proxy.username), unquote(proxy.password or ""))
    return address, {"Proxy-Authorization": login}
