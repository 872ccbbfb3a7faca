"""Messages and replies as the API shows them, in histories and in events."""

from __future__ import annotations

from dataclasses import replace

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


def reply_change(conversation: str, before: replies.Reply, now: replies.Reply) -> events.ReplyChanged:
    """What has changed of the reply. Of a text that only grew, that is what was added to it: a long answer is not sent
    whole at every word."""
    known = {segment.key: segment for segment in before.segments}
    changed = [segment for segment in now.segments if known.get(segment.key) != segment]
    grown = {segment.key: added for segment in changed if (added := _growth(known.get(segment.key), segment))}
    return events.ReplyChanged(
        conversation=conversation,
        turn=now.id,
        status=now.status,
        done=now.done,
        parked=now.parked,
        order=[segment.key for segment in now.segments],
        segments=[segment for segment in changed if segment.key not in grown],
        grown=grown,
    )


def _growth(before: replies.Segment | None, now: replies.Segment) -> str:
    match before, now:
        case replies.TextSegment(open=True), replies.TextSegment() if now == replace(before, markdown=now.markdown):
            return now.markdown.removeprefix(before.markdown) if now.markdown.startswith(before.markdown) else ""
        case _:
            return ""


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
        schedule=message.schedule,
        sent_at=message.sent_at,
    )


def file_item(attachment: Attachment) -> events.File:
    return events.File(
        hash=attachment.hash,
        name=attachment.name,
        media_type=attachment.media_type,
        size=attachment.size,
        width=attachment.width,
        height=attachment.height,
    )
