"""Bodies of requests: messages with files, as JSON or as a form, and results of calls."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter
from starlette.datastructures import FormData, UploadFile

from agent.media import Attachment, MediaStore, NewFile
from channels.message import BusyMode, DeclaredTool
from channels.runs import CallResult
from channels.web.parse import clean_name, clean_text
from gateway.api.uploads import is_form, store_part

MAX_FILES = 50
MAX_RESULT_FILES = 20
MAX_TEXT = 2_000_000
"""Characters."""

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
    """`uploads` are the files of a form, which are stored."""

    body: NewMessage
    uploads: tuple[Attachment, ...] = ()


_TOOLS = TypeAdapter(list[Tool])


async def read_message(request: Request, media: MediaStore) -> GivenMessage:
    """The files of a form go through temporary files into the media store. Raises `pydantic.ValidationError`, and
    `agent.media.MediaError`."""
    if not is_form(request):
        return GivenMessage(NewMessage.model_validate_json(await request.body()))
    async with request.form(max_files=MAX_FILES, max_part_size=MAX_TEXT) as form:
        fields: dict[str, Any] = {
            name: value for name, value in form.items() if isinstance(value, str) and name != "files"
        }
        if "tools" in fields:
            fields["tools"] = _TOOLS.validate_json(fields["tools"])
        body = NewMessage.model_validate(fields, by_alias=True)
        return GivenMessage(body, tuple([await store_part(media, each) for each in _uploads(form)]))


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
