"""Messages and replies as the API shows them, in histories and in events."""

from __future__ import annotations

from agent.media import Attachment
from channels import reply as replies
from channels.message import MessageState
from gateway.api import events
from gateway.store import watching


def reply_item(reply: replies.Reply) -> events.Reply:
    return events.Reply(
        id=reply.id,
        reply_to=reply.reply_to,
        segments=list(reply.segments),
        status=reply.status,
        done=reply.done,
        parked=reply.parked,
    )


def message_item(message: watching.WatchedMessage, state: MessageState | None = None) -> events.PersonMessage:
    """`state` is another than the present one: what is told was so before."""
    is_read = state != "waiting"
    return events.PersonMessage(
        id=message.id,
        message_id=message.message_id,
        sender=events.Person(id=message.sender.id, name=message.sender.name),
        text=message.text,
        files=list(map(file_item, message.attachments)),
        state=state or message.state,
        reason=message.reason,
        run=message.run,
        turn=message.turn if is_read else None,
        step=message.step if is_read else None,
        sent_at=message.sent_at,
    )


def cursor(item: events.PersonMessage | events.ShownReply) -> str:
    """Its place in the history: with it, the page before this item is asked for."""
    return f"m{item.id}" if isinstance(item, events.PersonMessage) else f"r{item.reply.id}"


def file_item(attachment: Attachment) -> events.File:
    return events.File(
        hash=attachment.hash, name=attachment.name, media_type=attachment.media_type, size=attachment.size
    )
