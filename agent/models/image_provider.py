"""An image model of a provider: sends a request and reads the picture, with the provider's keys and headers."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from agent.events import Delta
from agent.image_model import GeneratedImage, ImageSize, ReferencePicture
from agent.log import Usage
from agent.model import ModelError
from agent.models.errors import error_of_response, transport_errors, without_keys
from agent.models.image_prices import ImagePrice
from agent.models.image_protocols import REFUSED, UNREADABLE, ImageAnswer, ImageProtocol, ImageRequest
from agent.models.keys import KeyRing
from agent.models.provider import Provider
from agent.tools.addresses import is_public
from agent.tools.checked_transport import AddressRefused, CheckedTransport

log = logging.getLogger(__name__)

MAX_PICTURE_BYTES = 48 * 1024 * 1024
MAX_ANSWER_BYTES = 2 * MAX_PICTURE_BYTES
"""Base64 makes a third more of it."""

MAX_ERROR_BYTES = 256 * 1024

TIMEOUT = httpx.Timeout(None, connect=20.0)


class ProviderImageModel:
    """Implements `agent.image_model.ImageModel`. How long a picture may take is the caller's to limit.

    `model` is the name at the provider, `quality` what the server is asked for ("": its default). Without a `price` a
    picture counts as free.
    """

    def __init__(
        self,
        provider: Provider,
        model: str,
        protocol: ImageProtocol,
        *,
        price: ImagePrice | None = None,
        quality: str = "",
    ) -> None:
        self.name = f"{provider.name}:{model}"
        self._provider = provider
        self._model = model
        self._protocol = protocol
        self._price = price
        self._quality = quality
        self._keys = KeyRing(provider)
        self._http: httpx.AsyncClient | None = None

    @property
    def typical_cost(self) -> float:
        return 0.0 if self._price is None else self._price.typical

    async def aclose(self) -> None:
        """Closes the connections. Another request opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def generate(
        self, prompt: str, size: ImageSize, references: Sequence[ReferencePicture] = ()
    ) -> GeneratedImage:
        request = self._protocol.request(self._model, prompt, size, references, self._quality)

        async def send(key: str) -> ImageAnswer:
            return await self._answer(request, key)

        answer = await _with_keys(self._keys, send)
        data = answer.data or await self._download(answer.url)
        tokens = answer.tokens
        cost = 0.0 if self._price is None else self._price.of(tokens)
        usage = Usage(tokens.text + tokens.pictures, tokens.output, cost=cost, estimated=not tokens)
        return GeneratedImage(data, usage, request.size, answer.seed, answer.revised_prompt)

    async def _answer(self, request: ImageRequest, key: str) -> ImageAnswer:
        """Raises `ModelError`, in which the key does not appear."""
        try:
            body = await self._send(request, key)
            return self._protocol.answer(_json(body))
        except ModelError as error:
            if not key or (key not in str(error) and key not in error.detail):
                raise
            shown = without_keys(str(error), (key,))
            raise error.saying(shown, detail=without_keys(error.detail, (key,))) from error.__cause__

    async def _send(self, request: ImageRequest, key: str) -> bytes:
        url = _url(self._provider, request.path)
        headers = {**self._provider.headers, **self._key_header(key)}
        if request.files:
            call = self._client().build_request(
                "POST", url, headers=headers, data=dict(request.fields), files=list(request.files)
            )
        else:
            body = {**request.body, **self._provider.extra_body}
            call = self._client().build_request("POST", url, headers=headers, json=body)
        async with _response(self._client(), call) as response:
            if response.is_success:
                return await _read(response, MAX_ANSWER_BYTES)
            words = await _read(response, MAX_ERROR_BYTES, cut=True)
            raise self._refusal(response, words, key)

    def _refusal(self, response: httpx.Response, body: bytes, key: str) -> ModelError:
        error = error_of_response(
            response.status_code,
            response.headers,
            body.decode(errors="replace"),
            provider=self._provider.name,
            model=self._model,
            keys=(key,) if key else (),
        )
        if error.kind != "refused":
            return error
        return error.saying(f"{REFUSED} It says: {error.detail[:300]}" if error.detail else REFUSED)

    async def _download(self, url: str) -> bytes:
        """The picture that a server has put elsewhere: on its own host or in the public internet, as the server could
        name any address of the gateway's network. The key is not sent there, and nothing else of the provider.

        Raises `ModelError`, always with `was_answer`: the picture was drawn, and costs what it costs."""
        try:
            where = httpx.URL(url)
            if where.scheme not in ("http", "https"):
                raise ModelError("server", UNREADABLE, was_answer=True)
            if where.host == httpx.URL(self._provider.base_url).host:
                return await _picture(self._client(), where)
            async with _public_client() as client:
                return await _picture(client, where)
        except AddressRefused as error:
            raise ModelError("server", f"It exists, but cannot be fetched: {error}.", was_answer=True) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise ModelError("server", UNREADABLE, was_answer=True) from error
        except ModelError as error:
            if error.was_answer:
                raise
            raise ModelError("server", f"It exists, but cannot be fetched. {error}", was_answer=True) from error

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            # Redirects are not followed: the key would be sent to another server.
            self._http = HttpxAiohttpClient(timeout=TIMEOUT)
        return self._http

    def _key_header(self, key: str) -> dict[str, str]:
        if not key:
            return {}
        named = self._provider.key_header
        return {named: key} if named else dict(self._protocol.key_header(key))


async def _with_keys(keys: KeyRing, send: Callable[[str], Awaitable[ImageAnswer]]) -> ImageAnswer:
    """The answer to a request, with the next key of the provider that works. Raises `ModelError`."""

    async def send_telling(key: str, _: Callable[[Delta], Awaitable[None]]) -> ImageAnswer:
        return await send(key)

    return await keys.ask(send_telling, _ignore)


async def _ignore(_: Delta) -> None:
    return None


def _public_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=CheckedTransport(is_public), timeout=TIMEOUT, trust_env=False)


async def _picture(client: httpx.AsyncClient, url: httpx.URL) -> bytes:
    async with _response(client, client.build_request("GET", url)) as response:
        if response.is_success:
            return await _read(response, MAX_PICTURE_BYTES)
        raise ModelError("server", f"Its address answered {response.status_code}.")


@asynccontextmanager
async def _response(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    """The response, whose body has not been read. Leaving closes the connection of one that was not read to its end; so
    does cancelling."""
    with transport_errors():
        response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        await response.aclose()


async def _read(response: httpx.Response, max_bytes: int, *, cut: bool = False) -> bytes:
    """The body; if it is longer, its beginning (`cut`) or `ModelError`."""
    body = bytearray()
    pieces = response.aiter_bytes()
    while True:
        with transport_errors():
            piece = await anext(pieces, None)
        if piece is None:
            return bytes(body)
        body += piece
        if len(body) > max_bytes:
            if cut:
                return bytes(body[:max_bytes])
            raise ModelError("server", f"The picture is larger than {max_bytes // 2**20} MiB and was not taken.")


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ModelError("server", UNREADABLE, was_answer=True) from error


def _url(provider: Provider, path: str) -> httpx.URL:
    """The path below the base URL, whose query stays."""
    base = httpx.URL(provider.base_url)
    url = base.copy_with(path=base.path.rstrip("/") + path)
    return url.copy_merge_params(dict(provider.query)) if provider.query else url
