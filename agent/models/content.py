"""The content of a conversation as a model reads it, text and images; the same for every provider's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.frames import RULES, escape, file_name, foreign_frame, has_frame, message_text
from agent.log import Call, MessagesRead, ModelAnswered, UserMessage
from agent.media import Attachment, for_model
from agent.model import Request
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Result, Results, SystemNote

INTERRUPTED = SystemNote("Your answer was interrupted here, by a new message or a stop; it was shown up to this point.")
RESTARTED = SystemNote(
    "Your answer was interrupted here, by a restart of the gateway; the person has read it up to about this point. "
    "Do not repeat it: go on from here, if that is still wanted."
)
BEGINNING = SystemNote("The beginning of the conversation is left out.")
CONTINUE = SystemNote("Continue.")
FINISH_UP = "(finish up)"


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image as it is sent to a model; `data` is its bytes in base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class UnavailableImage:
    """An image that cannot be sent to the model, and why."""

    reason: str


LoadedImages = Mapping[str, LoadedImage | UnavailableImage]
"""The images of a conversation, by their hash."""

ContentPart = str | LoadedImage


def with_notices(transcript: Sequence[Exchange]) -> Iterator[Exchange]:
    """The conversation with a notice after each interrupted answer, beginning and ending with something for the model
    to answer."""
    if transcript and isinstance(transcript[0], ModelAnswered):
        yield BEGINNING
    notice: SystemNote | None = None
    for exchange in transcript:
        # Providers require the results of calls directly after the calls, so the notice comes after the results.
        if notice is not None and not isinstance(exchange, Results):
            yield notice
            notice = None
        yield exchange
        if isinstance(exchange, ModelAnswered) and exchange.interrupted:
            notice = RESTARTED if exchange.by_restart else INTERRUPTED
    if notice is not None:
        yield notice
    elif transcript and isinstance(transcript[-1], ModelAnswered):
        yield CONTINUE


def instructions_of(request: Request) -> str:
    """The instructions, with the rules of frames if the conversation has any."""
    if not any(map(_has_frames, request.transcript)):
        return request.instructions
    return f"{request.instructions}\n\n{RULES}" if request.instructions else RULES


def _has_frames(exchange: Exchange) -> bool:
    match exchange:
        case MessagesRead():
            return any(map(has_frame, exchange.messages))
        case Results():
            return any(result.foreign or escape(result.text) != result.text for result in exchange.results)
        case _:
            return False


def images_in(transcript: Iterable[Exchange]) -> list[Attachment]:
    """The images for the model, oldest first."""
    found: list[Attachment] = []
    for exchange in transcript:
        if isinstance(exchange, MessagesRead):
            for message in exchange.messages:
                found += [attachment for attachment in for_model(message.attachments) if attachment.is_picture]
        elif isinstance(exchange, Results):
            for result in exchange.results:
                found += result.images
    return found


def message_content(read: MessagesRead, images: LoadedImages) -> list[ContentPart]:
    """The messages and their attachments, in order; in groups each in a frame with its sender. Never empty."""
    if len(read.messages) == 1 and _is_plain(read.messages[0]):
        # Nearly all of a long history is this, and it is rendered anew for every request.
        return [read.messages[0].text]
    parts: list[ContentPart] = []
    for message in read.messages:
        parts.append(message_text(message, message.text if message.text.strip() else _without_words(message)))
        for attachment in for_model(message.attachments):
            where = f", in the workspace as {workspace_path(attachment)}"
            parts += _attachment_content(attachment, images, where=where)
    return [part for part in parts if part] or ["[an empty message]"]


def result_text(result: Result) -> str:
    """The result, which cannot imitate a frame; foreign text is in one with its sources."""
    text = result.text if result.text.strip() else "(no output)"
    return foreign_frame(text, *result.foreign) if result.foreign else escape(text)


def call_as_text(call: Call) -> str:
    """The call in words, for a model that takes no tools."""
    return f"[The tool {call.name} was called with {call.arguments or '{}'}]"


def result_as_text(result: Result) -> str:
    """The result with the name of its tool, for a model that takes no tools."""
    return f"[Result of the tool {result.call.name}]\n{result_text(result)}"


def image_content(attachments: Iterable[Attachment], images: LoadedImages) -> list[ContentPart]:
    return [part for attachment in attachments for part in _attachment_content(attachment, images)]


def notice_text(notice: SystemNote) -> str:
    return f"[{escape(notice.text)}]"


def unavailable_text(attachment: Attachment, unavailable: UnavailableImage, *, where: str = "") -> str:
    return f"[Picture {file_name(attachment.name)}{where} cannot be shown to you: {unavailable.reason}]"


def joined_text(parts: Iterable[ContentPart]) -> str | None:
    """The parts as one text, or None if an image is among them."""
    texts: list[str] = []
    for part in parts:
        if not isinstance(part, str):
            return None
        texts.append(part)
    return "\n\n".join(texts)


def _without_words(message: UserMessage) -> str:
    """What a message says that has no words."""
    return FINISH_UP if message.source == "wrap" else ""


def _is_plain(message: UserMessage) -> bool:
    more = message.attachments or has_frame(message)
    return not more and bool(message.text) and not message.text.isspace()


def _attachment_content(attachment: Attachment, images: LoadedImages, *, where: str = "") -> list[ContentPart]:
    name, where = file_name(attachment.name), file_name(where)
    if not attachment.is_picture:
        kind = "Attached file" if attachment.taken_from is None else "Text of the file, as a file"
        return [f"[{kind}: {name}, {file_name(attachment.media_type)}, {attachment.size:,} bytes{where}]"]
    image = images.get(attachment.hash, UnavailableImage("it is not available"))
    if isinstance(image, UnavailableImage):
        return [unavailable_text(attachment, image, where=where)]
    return [f"[Picture: {name}{where}]", image]
