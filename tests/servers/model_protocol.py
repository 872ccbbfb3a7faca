"""What the protocols of model servers have in common, as the servers of the tests speak them."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tests.servers.model_script import (
    Arguments,
    Delta,
    Fail,
    Finished,
    Found,
    Message,
    Opened,
    Provider,
    Request,
    Searched,
    Text,
    Thought,
    ToolCall,
    TooLong,
)


class Refused(Exception):
    """The request breaks a rule of the provider; `fail` is the provider's answer."""

    def __init__(self, fail: Fail) -> None:
        super().__init__(fail.message)
        self.fail = fail


class Encoder(Protocol):
    """Writes one streamed answer as server-sent events, called in the order of the stream."""

    def begin(self) -> bytes: ...
    def encode(self, delta: Delta) -> bytes: ...
    def error(self, fail: Fail) -> bytes: ...
    def malformed(self) -> bytes: ...


class Dialect(Protocol):
    """One provider's protocol. `check`, `tools` and `read` raise Refused where the provider answers 400."""

    provider: Provider
    no_key: str

    def key(self, headers: Mapping[str, str]) -> str | None: ...
    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None: ...
    def read(self, body: dict[str, Any]) -> tuple[Message, ...]: ...
    def tools(self, body: dict[str, Any]) -> tuple[str, ...]: ...
    def encoder(self, request: Request, name: str) -> Encoder: ...
    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]: ...
    def error(self, fail: Fail) -> dict[str, Any]: ...
    def too_long(self, fault: TooLong) -> Fail: ...
    def models(self) -> dict[str, Any]: ...


def refuse(message: str, code: str | None = None) -> Refused:
    return Refused(Fail(400, message=message, code=code))


def bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def read_request(request: Request, dialect: Dialect, content: bytes) -> None:
    try:
        body = json.loads(content)
        if not isinstance(body, dict):
            raise refuse("We could not parse the JSON body of your request. (The body is not an object.)")
        request.body = body
        request.stream = bool(body.get("stream"))
        request.model = body.get("model") or ""
        dialect.check(request.headers, body)
        request.tools = dialect.tools(body)
        request.messages = dialect.read(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise refuse(f"The request is not of the documented form: {error!r}") from error


NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


def decoded_image(media_type: str, data: str, where: str) -> bytes:
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise refuse(f"{where}: invalid base64 data") from error
    if not content:
        raise refuse(f"{where}: image cannot be empty")
    if not content.startswith(_SIGNATURES.get(media_type, ())):
        raise refuse(f"{where}: the image was specified as {media_type}, which its bytes are not or which is unknown")
    return content


def check_tool_names(names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        if not NAME.fullmatch(name):
            raise refuse(f"tools.{number}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if len(set(names)) != len(names):
        raise refuse("tools: Tool names must be unique.")


def gather(deltas: Iterable[Delta]) -> tuple[str, str, list[ToolCall]]:
    text, thoughts = "", ""
    calls: list[ToolCall] = []
    for delta in deltas:
        match delta:
            case Text():
                text += delta.text
            case Thought():
                thoughts += delta.text
            case Opened():
                calls.append(ToolCall(delta.id, delta.name, ""))
            case Arguments():
                last = calls.pop()
                calls.append(ToolCall(last.id, last.name, last.arguments + delta.text))
            case Searched() | Found() | Finished():
                pass
    return text, thoughts, calls


def end_of(deltas: Sequence[Delta]) -> Finished:
    last = deltas[-1]
    assert isinstance(last, Finished), "an answer that was not broken off has an end"
    return last


def event(name: str | None, data: dict[str, Any]) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
