"""What a conversation reads like to a model, whichever provider's protocol carries it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.log import MessagesRead, ModelAnswered, UserMessage
from agent.media import Attachment
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Result, Results, SystemNote

INTERRUPTED = SystemNote("Your answer was interrupted here, by a new message or a stop; it was shown as far as it got.")
GO_ON = SystemNote("Go on.")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a model is shown it; `data` is its bytes in base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class UnavailableImage:
    """A picture the model cannot be shown, and why."""

    reason: str


LoadedImages = Mapping[str, Picture | UnavailableImage]
"""What is seen of each picture of a conversation, by its hash."""

Piece = str | Picture


def marked(transcript: Sequence[Exchange]) -> Iterator[Exchange]:
    """The conversation with a notice wherever an answer was interrupted, ending in the model's turn to speak."""
    interrupted = False
    for exchange in transcript:
        # A provider wants the results of calls directly after them, so the notice waits until after those.
        if interrupted and not isinstance(exchange, Results):
            yield INTERRUPTED
            interrupted = False
        yield exchange
        if isinstance(exchange, ModelAnswered):
            interrupted = exchange.interrupted
    if interrupted:
        yield INTERRUPTED
    elif transcript and isinstance(transcript[-1], ModelAnswered):
        yield GO_ON


def pictures(transcript: Iterable[Exchange]) -> list[Attachment]:
    """The pictures a model is to see, oldest first."""
    found: list[Attachment] = []
    for exchange in transcript:
        if isinstance(exchange, MessagesRead):
            for message in exchange.messages:
                found += [attachment for attachment in message.attachments if attachment.is_picture]
        elif isinstance(exchange, Results):
            for result in exchange.results:
                found += result.images
    return found


def message_content(heard: MessagesRead, sights: LoadedImages) -> list[Piece]:
    """What people said, in reading order, in groups each with their name before their words. Never empty."""
    if len(heard.messages) == 1 and _is_plain(heard.messages[0]):
        # Nearly all of a long history is this, and it is read anew for every request.
        return [heard.messages[0].text]
    pieces: list[Piece] = []
    for message in heard.messages:
        pieces.append(_words(message))
        for attachment in message.attachments:
            pieces += _attachment_pieces(
                attachment, sights, where=f", in the workspace as {workspace_path(attachment)}"
            )
    return [piece for piece in pieces if piece] or ["[an empty message]"]


def result_text(result: Result) -> str:
    return result.text if result.text.strip() else "(no output)"


def image_content(images: Iterable[Attachment], sights: LoadedImages) -> list[Piece]:
    return [piece for image in images for piece in _attachment_pieces(image, sights)]


def notice_text(notice: SystemNote) -> str:
    return f"[{notice.text}]"


def unavailable_text(attachment: Attachment, unseen: UnavailableImage, *, where: str = "") -> str:
    return f"[Picture {attachment.name}{where} cannot be shown to you: {unseen.reason}]"


def in_words(pieces: Iterable[Piece]) -> str | None:
    """The pieces as one text, or None when a picture is among them."""
    texts: list[str] = []
    for piece in pieces:
        if not isinstance(piece, str):
            return None
        texts.append(piece)
    return "\n\n".join(texts)


def _is_plain(message: UserMessage) -> bool:
    more = message.attachments or message.note or message.in_group
    return not more and bool(message.text) and not message.text.isspace()


def _words(message: UserMessage) -> str:
    words = message.text if message.text.strip() else ""
    if message.in_group and message.sender and message.source != "work":
        words = f"{message.sender}: {words}"
    return f"[{message.note}]\n{words}".rstrip() if message.note else words


def _attachment_pieces(attachment: Attachment, sights: LoadedImages, *, where: str = "") -> list[Piece]:
    if not attachment.is_picture:
        return [f"[Attached file: {attachment.name}, {attachment.media_type}, {attachment.size:,} bytes{where}]"]
    sight = sights.get(attachment.hash, UnavailableImage("it is not there"))
    if isinstance(sight, UnavailableImage):
        return [unavailable_text(attachment, sight, where=where)]
    return [f"[Picture: {attachment.name}{where}]", sight]
