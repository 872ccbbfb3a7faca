"""Image services on a local socket: OpenAI's images protocol and Gemini's `generateContent`, strict as documented.

    async with ImageServer() as server:
        ...                                    # point a provider at server.openai_url or server.gemini_url
        server.faults.append(Hang())           # comes before the next picture

Every picture is a PNG of another colour. OpenAI: https://platform.openai.com/docs/api-reference/images; Gemini:
https://ai.google.dev/gemini-api/docs/image-generation.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.local import LocalServer

SIZES = {
    "gpt-image-1": {"auto", "1024x1024", "1536x1024", "1024x1536"},
    "dall-e-3": {"1024x1024", "1792x1024", "1024x1792"},
}
QUALITIES = {"gpt-image-1": {"auto", "low", "medium", "high"}, "dall-e-3": {"standard", "hd"}}
RATIOS = {"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"}
USAGE = {"total_tokens": 1_110, "input_tokens": 110, "output_tokens": 1_000}


@dataclass(frozen=True, slots=True)
class Fail:
    """Answers once with an error."""

    status: int
    message: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """Does not answer, once."""


@dataclass(frozen=True, slots=True)
class Late:
    """Draws once the event is set."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Body:
    """Answers once with this body, whatever it is."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a picture: what it says, and the pictures that it brings, as (width, height)."""

    path: str
    values: Mapping[str, Any]
    pictures: tuple[tuple[int, int], ...] = ()
    key: str = ""


@dataclass
class ImageServer(LocalServer):
    key: str = "sk-right-0123456789"
    faults: deque[Fail | Hang | Late | Body] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    drawn: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    by_address: bool = False
    """Whether pictures are sent as addresses where the protocol leaves the choice to the server."""

    def __post_init__(self) -> None:
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()
        self._colours = count(1)

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def gemini_url(self) -> str:
        """Where it speaks the protocol of chats, as the setting has it."""
        return f"{self.url}/v1beta/openai"

    def app(self) -> web.Application:
        app = web.Application(client_max_size=30 * 1024 * 1024)
        app.router.add_post("/v1/images/generations", self._generate)
        app.router.add_post("/v1/images/edits", self._edit)
        app.router.add_post("/v1beta/models/{call}", self._gemini)
        app.router.add_get("/pictures/{number}.png", self._picture)
        return app

    # OpenAI

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return self._error(400, "Unsupported content type.")
        return await self._openai(request, await request.json(), ())

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "multipart/form-data":
            return self._error(400, "Unsupported content type.")
        form = await request.post()
        files = [*form.getall("image", []), *form.getall("image[]", [])]
        if not files or (len(form.getall("image", [])) > 1):
            return self._error(400, "Missing required parameter: 'image'.")
        pictures = []
        for each in files:
            if not isinstance(each, web.FileField) or each.content_type not in (
                "image/png",
                "image/jpeg",
                "image/webp",
            ):
                return self._error(400, "Invalid image file or mode.")
            with Image.open(io.BytesIO(each.file.read())) as picture:
                pictures.append(picture.size)
        values = {name: value for name, value in form.items() if isinstance(value, str)}
        return await self._openai(request, values, tuple(pictures))

    async def _openai(
        self, request: web.Request, values: Mapping[str, Any], pictures: tuple[tuple[int, int], ...]
    ) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if (ended := await self._begin(Asked(request.path, values, pictures, key))) is not None:
            return ended
        if key != self.key:
            return self._error(401, f"Incorrect API key provided: {key}.", "invalid_api_key")
        if wrong := _wrong_in(values):
            return self._error(400, wrong)
        data, is_old = self._draw(), str(values["model"]).startswith("dall-e")
        by_address = values.get("response_format") == "url" if is_old else self.by_address
        where = f"{self.url}/pictures/{len(self.drawn)}.png"
        item = {"url": where} if by_address else {"b64_json": base64.b64encode(data).decode()}
        item |= {"revised_prompt": f"{values['prompt']}, in detail"} if is_old else {}
        details = {"input_tokens_details": {"text_tokens": 10, "image_tokens": 100}}
        return web.json_response({"created": 1, "data": [item]} | ({} if is_old else {"usage": USAGE | details}))

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return self._error(400, "Only one auth mechanism is allowed.")
        return web.Response(body=self.drawn[int(request.match_info["number"]) - 1], content_type="image/png")

    # Gemini

    async def _gemini(self, request: web.Request) -> web.StreamResponse:
        body, key = await request.json(), request.headers.get("x-goog-api-key", "")
        model, _, call = request.match_info["call"].partition(":")
        parts = [part for content in body.get("contents", []) for part in content["parts"]]
        sizes = []
        for part in parts:
            if "inlineData" in part:
                with Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"], validate=True))) as picture:
                    sizes.append(picture.size)
        prompt = " ".join(part["text"] for part in parts if "text" in part)
        values = {"model": model, "prompt": prompt, **body.get("generationConfig", {}).get("imageConfig", {})}
        if (ended := await self._begin(Asked(request.path, values, tuple(sizes), key))) is not None:
            return ended
        if key != self.key:
            error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}
            return web.json_response({"error": error}, status=400)
        modalities = body.get("generationConfig", {}).get("responseModalities", [])
        if call != "generateContent" or "IMAGE" not in modalities or values.get("aspectRatio", "1:1") not in RATIOS:
            return self._error(400, "Request contains an invalid argument.")
        if "swords" in prompt:
            return web.json_response({"candidates": [{"finishReason": "IMAGE_SAFETY"}]})
        data = base64.b64encode(self._draw()).decode()
        drawn = {"inlineData": {"mimeType": "image/png", "data": data}}
        content = {"role": "model", "parts": [{"text": "Here it is."}, drawn]}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 1_290, "totalTokenCount": 1_300}
        return web.json_response({"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": usage})

    # Both

    async def _begin(self, asked: Asked) -> web.StreamResponse | None:
        """Notes the request; the answer, if there is a fault in place of the picture."""
        self.asked.append(asked)
        self.arrived.set()
        match self.faults.popleft() if self.faults else None:
            case None:
                return None
            case Fail(status, message, code):
                return self._error(status, message, code)
            case Body(body):
                return web.Response(body=body, content_type="application/json")
            case Late(event):
                await event.wait()
                return None
            case Hang():
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self.left.set()
        raise AssertionError

    def _draw(self) -> bytes:
        data = io.BytesIO()
        Image.new("RGB", (64, 64), (next(self._colours) * 37 % 256, 90, 160)).save(data, "PNG")
        self.drawn.append(data.getvalue())
        return data.getvalue()

    def _error(self, status: int, message: str, code: str | None = None) -> web.StreamResponse:
        self.refused.append(message)
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return web.Response(status=status, text=json.dumps({"error": error}), content_type="application/json")


def _wrong_in(values: Mapping[str, Any]) -> str:
    model = str(values.get("model", ""))
    known = {"model", "prompt", "n", "size", "quality", *(["response_format"] if model.startswith("dall-e") else [])}
    if unknown := set(values) - known:
        return f"Unknown parameter: '{min(unknown)}'."
    if model not in SIZES:
        return f"The model '{model}' does not exist."
    if not values.get("prompt") or len(values["prompt"]) > 32_000:
        return "Missing required parameter: 'prompt'."
    if str(values.get("n", 1)) != "1" or values.get("size", "1024x1024") not in SIZES[model]:
        return f"Invalid value: '{values.get('size')}'."
    if values.get("quality", "standard" if model == "dall-e-3" else "auto") not in QUALITIES[model]:
        return f"Invalid value: '{values['quality']}'."
    return ""
