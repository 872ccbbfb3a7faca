"""Bodies of requests: messages with files, as JSON or as a form, and results of calls."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter
from starlette.datastructures import FormData, UploadFile

from agent.media import Attachment, MediaStore, NewFile
from channels.message import BusyMode, DeclaredTool
from channels.runs import CallResult
from channels.web.parse import clean_name, clean_text
from gateway.api.problems import Problem
from gateway.api.uploads import drop_body, is_form, store_part
from gateway.lifecycle.fair_slots import FairSlots

MAX_FILES = 50
MAX_RESULT_FILES = 20
MAX_TEXT = 2_000_000
"""Characters."""

LARGE = 1_000_000
"""Bytes of a JSON message; larger ones are read for few callers at a time, one for each."""

LARGE_AT_ONCE = 2
LARGE_WAIT = 60.0
"""Seconds for which a large message waits until it is read."""

CLIENT_ID = r"^[A-Za-z0-9_-]{8,64}$"

As = Literal["auto", "message", "command"]


class Tool(BaseModel, extra="forbid"):
    """A tool that the caller runs. `schema` is the JSON schema of its arguments, an object."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")

    def declared(self) -> DeclaredTool:
        return DeclaredTool(self.name, clean_text(self.description), self.schema_)


def _from_base64(data: object) -> bytes:
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except ValueError:
        raise ValueError("this is not valid base64") from None


class NewFileBody(BaseModel, extra="forbid"):
    """`data` is base64."""

    name: str
    data: Annotated[bytes, BeforeValidator(_from_base64, json_schema_input_type=str)]

    def new(self) -> NewFile:
        return NewFile(clean_name(self.name), self.data)


class StoredFile(BaseModel, extra="forbid"):
    """A file of this conversation, or one that was uploaded for it."""

    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str


class NewMessage(BaseModel, extra="forbid"):
    """`client_id` is yours, new for each message of the conversation, and the same when you send it again. `busy` is
    what the message does to a running turn; null: what is set there. `as`: "command": the text is a command like
    `/status`; "message": the agent reads it as it is; "auto": as if a person had written it."""

    client_id: str = Field(pattern=CLIENT_ID)
    text: str = Field(default="", max_length=MAX_TEXT)
    tools: list[Tool] = Field(default=[], max_length=64)
    busy: BusyMode | None = None
    as_: As = Field(default="auto", alias="as")
    files: list[NewFileBody | StoredFile] = Field(default=[], max_length=MAX_FILES)


@dataclass(frozen=True, slots=True)
class GivenMessage:
    """`files` are those of the message in their order, stored, or named as what is stored; `body` has none."""

    body: NewMessage
    files: tuple[Attachment | StoredFile, ...] = ()


_TOOLS = TypeAdapter(list[Tool])


class MessageBodies:
    """Reads messages from requests. A form goes through temporary files; JSON is in memory as a whole while it is read,
    with its files in base64, so large JSON is read for `LARGE_AT_ONCE` callers at a time."""

    def __init__(self) -> None:
        self._large = FairSlots(LARGE_AT_ONCE, 1)

    async def read(self, request: Request, media: MediaStore, caller: str) -> GivenMessage:
        """Stores the files. Raises `Problem`, `pydantic.ValidationError`, and `agent.media.MediaError`."""
        if is_form(request):
            return await _read_form(request, media)
        if _declared_size(request) <= LARGE:
            return await _read_json(request, media)
        async with AsyncExitStack() as reading:
            try:
                async with asyncio.timeout(LARGE_WAIT):
                    await reading.enter_async_context(self._large.hold(caller))
            except TimeoutError:
                await drop_body(request)
                detail = "Other large messages are being read. Send this one again, or upload its files before."
                raise Problem(429, "too_many_requests", detail, retry_after=5) from None
            return await _read_json(request, media)


async def _read_json(request: Request, media: MediaStore) -> GivenMessage:
    # A request that keeps its body would keep it until the run has ended.
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
    body = NewMessage.model_validate_json(raw)
    del raw
    files: list[Attachment | StoredFile] = []
    for each in body.files:
        if isinstance(each, NewFileBody):
            new = each.new()
            files.append(await media.put(new.data, new.name))
        else:
            files.append(each)
    return GivenMessage(body.model_copy(update={"files": []}), tuple(files))


async def _read_form(request: Request, media: MediaStore) -> GivenMessage:
    async with request.form(max_files=MAX_FILES, max_part_size=MAX_TEXT) as form:
        fields: dict[str, Any] = {
            name: value for name, value in form.items() if isinstance(value, str) and name != "files"
        }
        if "tools" in fields:
            fields["tools"] = _TOOLS.validate_json(fields["tools"])
        body = NewMessage.model_validate(fields, by_alias=True)
        return GivenMessage(body, tuple([await store_part(media, each) for each in _uploads(form)]))


def _declared_size(request: Request) -> float:
    """In bytes; infinite for a body that comes in chunks."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else math.inf


def _uploads(form: FormData) -> Iterable[UploadFile]:
    return [each for each in form.getlist("files") if isinstance(each, UploadFile)]


class Result(BaseModel, extra="forbid"):
    """The result of a call that the caller has run: `text` for the model, `files` with one `caption` and `for_user`
    (Markdown) for people, `images` shown to the model. `final`: it is the answer; `silent`: people are not shown the
    call."""

    call_id: str
    text: str = Field(default="", max_length=MAX_TEXT)
    failed: bool = False
    files: list[NewFileBody] = Field(default=[], max_length=MAX_RESULT_FILES)
    images: list[NewFileBody] = Field(default=[], max_length=MAX_RESULT_FILES)
    caption: str = Field(default="", max_length=MAX_TEXT)
    for_user: str = Field(default="", max_length=MAX_TEXT)
    final: bool = False
    silent: bool = False

    def result(self) -> CallResult:
        return CallResult(
            self.call_id,
            clean_text(self.text),
            self.failed,
            tuple(file.new() for file in self.files),
            tuple(file.new() for file in self.images),
            clean_text(self.caption),
            clean_text(self.for_user),
            self.final,
            self.silent,
        )


class Results(BaseModel, extra="forbid"):
    results: list[Result] = Field(min_length=1)


def message_schema() -> dict[str, Any]:
    """The request body of a message for the API's description: JSON, or a form with files."""
    form = {
        "type": "object",
        "required": ["client_id"],
        "properties": {
            "client_id": {"type": "string", "pattern": CLIENT_ID},
            "text": {"type": "string"},
            "tools": {"type": "string", "contentMediaType": "application/json"},
            "busy": {"enum": ["steer", "queue", "collect", "interrupt"]},
            "as": {"enum": ["auto", "message", "command"]},
            "files": {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}},
        },
    }
    schema = NewMessage.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs")
    content = {
        "application/json": {"schema": _inlined(schema, definitions)},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its definitions in the places that refer to them."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    return [_inlined(each, definitions) for each in schema] if isinstance(schema, list) else schema


def declared(tools: Sequence[Tool]) -> tuple[DeclaredTool, ...]:
    return tuple(tool.declared() for tool in tools)
