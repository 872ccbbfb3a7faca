"""The protocols of image models: requests as bodies, and pictures from answers. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.image_model import ImageSize, ReferencePicture
from agent.model import ModelError
from agent.models.image_prices import ImageTokens

UNREADABLE = "The image model's answer has no picture. Please try again."
REFUSED = "The image model's provider refused to draw this: its safety system does not allow it. Change the prompt."

Field = tuple[str, str]
File = tuple[str, tuple[str, bytes, str]]


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request to `path` below the base URL: a JSON `body`, or a form with `files`. `size` is as the server is asked
    for it."""

    path: str
    size: str
    body: Mapping[str, Any] = field(default_factory=dict)
    fields: Sequence[Field] = ()
    files: Sequence[File] = ()


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """A picture: its bytes, or the address where it is."""

    data: bytes = b""
    url: str = ""
    tokens: ImageTokens = field(default_factory=ImageTokens)
    seed: str = ""
    revised_prompt: str = ""


class ImageProtocol(Protocol):
    def request(
        self, model: str, prompt: str, size: ImageSize, references: Sequence[ReferencePicture], quality: str
    ) -> ImageRequest: ...

    def answer(self, body: object) -> ImageAnswer:
        """The picture in the answer's JSON value. Raises `ModelError`."""

    def key_header(self, key: str) -> Mapping[str, str]: ...


class OpenAIImages:
    """`POST /images/generations` and `/images/edits` of OpenAI and compatible servers:
    https://platform.openai.com/docs/api-reference/images."""

    def request(
        self, model: str, prompt: str, size: ImageSize, references: Sequence[ReferencePicture], quality: str
    ) -> ImageRequest:
        pixels = _pixels(model, size)
        values: dict[str, Any] = {"model": model, "prompt": prompt, "n": 1}
        values |= {"size": pixels} if pixels else {}
        values |= {"quality": quality} if quality else {}
        # Its newer models always send the bytes, and refuse the parameter.
        values |= {"response_format": "b64_json"} if model.startswith("dall-e") else {}
        if not references:
            return ImageRequest("/images/generations", pixels, values)
        name = "image" if len(references) == 1 else "image[]"
        files = [(name, (picture.name, picture.data, picture.media_type)) for picture in references]
        return ImageRequest("/images/edits", pixels, fields=[(key, str(v)) for key, v in values.items()], files=files)

    def answer(self, body: object) -> ImageAnswer:
        match body:
            case {"data": [dict(first), *_]}:
                pass
            case _:
                raise ModelError("server", UNREADABLE, was_answer=True)
        assert isinstance(body, dict)
        revised, seed = _text(first.get("revised_prompt")), _text(first.get("seed", body.get("seed")))
        tokens = _openai_tokens(body.get("usage"))
        match first:
            case {"b64_json": str(data)} if data:
                return ImageAnswer(_decoded(data), "", tokens, seed, revised)
            case {"url": str(url)} if url.startswith("data:"):
                return ImageAnswer(_decoded(url.partition(",")[2]), "", tokens, seed, revised)
            case {"url": str(url)} if url:
                return ImageAnswer(b"", url, tokens, seed, revised)
            case _:
                raise ModelError("server", UNREADABLE, was_answer=True)

    def key_header(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"}


class GeminiImages:
    """`POST /models/{model}:generateContent` of Gemini: https://ai.google.dev/gemini-api/docs/image-generation."""

    def request(
        self, model: str, prompt: str, size: ImageSize, references: Sequence[ReferencePicture], quality: str
    ) -> ImageRequest:
        ratio = _RATIOS.get(size, "")
        parts: list[dict[str, Any]] = [
            {"inlineData": {"mimeType": picture.media_type, "data": base64.b64encode(picture.data).decode()}}
            for picture in references
        ]
        config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
        config |= {"imageConfig": {"aspectRatio": ratio}} if ratio else {}
        body = {"contents": [{"role": "user", "parts": [*parts, {"text": prompt}]}], "generationConfig": config}
        return ImageRequest(f"/models/{model}:generateContent", ratio, body)

    def answer(self, body: object) -> ImageAnswer:
        match body:
            case {"promptFeedback": {"blockReason": str(reason)}}:
                raise ModelError("refused", REFUSED, detail=reason)
            case {"candidates": [dict(candidate), *_]}:
                pass
            case _:
                raise ModelError("server", UNREADABLE, was_answer=True)
        assert isinstance(body, dict)
        tokens = _gemini_tokens(body.get("usageMetadata"))
        words: list[str] = []
        for part in _parts(candidate):
            match part:
                case {"thought": True}:
                    pass
                case {"inlineData": {"data": str(data)}}:
                    return ImageAnswer(_decoded(data), tokens=tokens)
                case {"text": str(text)}:
                    words.append(text)
                case _:
                    pass
        if _text(candidate.get("finishReason")).upper() in _GEMINI_REFUSALS:
            raise ModelError("refused", REFUSED, detail=_text(candidate.get("finishMessage")))
        said = " ".join("".join(words).split())[:300]
        raise ModelError("server", f"{UNREADABLE} It says: {said}" if said else UNREADABLE, was_answer=True)

    def key_header(self, key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key}


_RATIOS: Mapping[ImageSize, str] = {"square": "1:1", "landscape": "3:2", "portrait": "2:3"}
_GEMINI_REFUSALS = frozenset(
    {"SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION"}
)


def _pixels(model: str, size: ImageSize) -> str:
    """The size as OpenAI names it; "" leaves it to the server."""
    if size == "auto":
        return ""
    if size == "square" or model.startswith("dall-e-2"):
        return "1024x1024"
    long = 1792 if model.startswith("dall-e-3") else 1536
    return f"{long}x1024" if size == "landscape" else f"1024x{long}"


def _decoded(data: str) -> bytes:
    try:
        decoded = base64.b64decode(data)
    except (binascii.Error, ValueError) as error:
        raise ModelError("server", UNREADABLE, was_answer=True) from error
    if not decoded:
        raise ModelError("server", UNREADABLE, was_answer=True)
    return decoded


def _openai_tokens(usage: object) -> ImageTokens:
    match usage:
        case {"output_tokens": int(output), "input_tokens": int(read)}:
            pass
        case _:
            return ImageTokens()
    assert isinstance(usage, dict)
    match usage.get("input_tokens_details"):
        case {"image_tokens": int(pictures)} if 0 <= pictures <= read:
            return ImageTokens(read - pictures, pictures, max(0, output))
        case _:
            return ImageTokens(max(0, read), 0, max(0, output))


def _gemini_tokens(usage: object) -> ImageTokens:
    match usage:
        case {"promptTokenCount": int(read), "candidatesTokenCount": int(output)}:
            return ImageTokens(max(0, read), 0, max(0, output))
        case _:
            return ImageTokens()


def _parts(candidate: Mapping[str, Any]) -> Sequence[object]:
    match candidate.get("content"):
        case {"parts": list(parts)}:
            return parts
        case _:
            return ()


def _text(value: object) -> str:
    return str(value)[:4000] if isinstance(value, str | int) and not isinstance(value, bool) else ""
