"""Brings what a platform shows of a reply up to date with the reply's pieces, and records it in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, Literal, Protocol, TypeVar

from agent.media import MediaUnavailable
from channels.channel import (
    ChatMoved,
    Ledger,
    OutcomeUnknown,
    Refused,
    RetryLater,
    Sent,
    ServerFailed,
    Undeliverable,
    Unreachable,
)
from channels.reply import Reply, TextSegment

STATUS = "status"
"""The key of the one temporary piece: what is running now."""

REPEAT_NOTE = "(possibly a repeat: the connection broke while this was being sent)"

_REPEATED = "repeated:"
"""Prefix of the digest of a piece that was sent a second time, so that its note stays when it is edited."""

_SHORT = 1000
"""Characters of Markdown that are rendered within some milliseconds."""

T = TypeVar("T")
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Piece(Generic[Content]):
    """One platform message of a reply. `digest` identifies the content; `editable`: another piece's message may become
    it by an edit."""

    key: str
    digest: str
    content: Content
    editable: bool = True


class Target(Protocol[Content]):
    """One chat on a platform, for one reply. Errors are those of `Channel.show`, and `Refused`."""

    def batch_size(self, contents: Sequence[Content]) -> int:
        """How many of the first of these one call can send; at least 1."""

    async def send(self, contents: Sequence[Content], *, first: bool, repeat: bool) -> Sequence[str]:
        """The refs of those sent, in order: at least one. The others were certainly not sent.

        `first`: nothing of the reply is shown yet. `repeat`: add `REPEAT_NOTE`.
        """

    async def edit(self, ref: str, content: Content, *, repeat: bool) -> bool:
        """Whether the message shows the content now; false when it is deleted or can no longer be changed."""

    async def delete(self, ref: str) -> None:
        """A message that is already deleted, or can no longer be deleted, is no error."""

    def simpler(self, content: Content) -> Sequence[Content]:
        """The same content without formatting, in one or several messages; empty for a file, which has no such form."""

    def notice(self, content: Content, reason: str) -> Content:
        """A short message that says what cannot be shown, and why."""


async def rendered(render: Callable[[Reply], T], reply: Reply) -> T:
    """What `render` makes of the reply; in a thread where that may take long, so that everything else goes on."""
    if sum(len(segment.markdown) for segment in reply.segments if isinstance(segment, TextSegment)) <= _SHORT:
        return render(reply)
    return await asyncio.get_running_loop().run_in_executor(_renderers(), render, reply)


@cache
def _renderers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="render")


async def sync_pieces(pieces: Sequence[Piece[Content]], ledger: Ledger, target: Target[Content]) -> None:
    """Makes the platform show these pieces in this order. Repeatable; a piece that the ledger says is shown costs no
    call.

    A piece whose sending was never confirmed is sent again, with a note. The status message is edited into the next new
    piece where possible, so that a reply's first message exists early and does not flicker.

    A piece that the platform refuses is shown in a simpler form from then on, and if that is refused too, replaced by a
    notice. Where even that cannot be sent, what is shown gets its newest content, so that no live button is left.
    """
    await _Sync(pieces, ledger, target).run()


_Form = Literal["whole", "simple", "notice"]


@dataclass(frozen=True, slots=True)
class _Shape(Generic[Content]):
    """A piece in the form in which it is to be shown; `origin` is the piece that was rendered."""

    piece: Piece[Content]
    form: _Form
    origin: Piece[Content]

    @property
    def key(self) -> str:
        return self.piece.key


class _Sync(Generic[Content]):
    def __init__(self, pieces: Sequence[Piece[Content]], ledger: Ledger, target: Target[Content]) -> None:
        self._pieces = pieces
        self._ledger = ledger
        self._target = target
        self._sent = {sent.key: sent for sent in ledger.pieces()}

    async def run(self) -> None:
        shapes = [shape for piece in self._pieces for shape in self._shapes(piece)]
        await self._remove_unwanted({shape.key for shape in shapes} | {piece.key for piece in self._pieces})
        at = 0
        while at < len(shapes):
            shape = shapes[at]
            try:
                if await self._updated(shape.piece) or await self._replaced_status(shape.piece):
                    at += 1
                else:
                    at += await self._send(self._batch(shapes[at:]))
            except Undeliverable as error:
                if not self._has_other_form(shape, error):
                    await self._close(shapes[at + 1 :])
                    raise Undeliverable(str(error)) from error
                shapes[at : at + 1] = await self._in_another_form(shape, str(error))
        if STATUS not in {shape.key for shape in shapes} and (status := self._sent.get(STATUS)):
            await self._remove(status)

    async def _remove_unwanted(self, wanted: set[str]) -> None:
        for sent in list(self._sent.values()):
            if sent.key not in wanted | {STATUS} or (sent.key == STATUS and sent.state == "unknown"):
                await self._remove(sent)

    # --- forms ---

    def _shapes(self, piece: Piece[Content]) -> Sequence[_Shape[Content]]:
        """The forms in which the piece is to be shown."""
        sent = self._sent.get(piece.key)
        match sent and sent.state:
            case "simplified":
                return self._simple(piece)
            case "undeliverable":
                assert sent is not None
                kept = [shape for shape in self._simple(piece) if self._is_shown(shape.key)]
                return [*kept, self._notice(piece, sent.reason)]
            case _:
                return [_Shape(piece, "whole", piece)]

    def _simple(self, piece: Piece[Content]) -> list[_Shape[Content]]:
        contents = self._target.simpler(piece.content)
        return [
            _Shape(Piece(f"{piece.key}~{number}", f"{piece.digest}~{number}", content, piece.editable), "simple", piece)
            for number, content in enumerate(contents)
        ]

    def _notice(self, piece: Piece[Content], reason: str) -> _Shape[Content]:
        content = self._target.notice(piece.content, reason)
        return _Shape(Piece(f"{piece.key}~!", reason, content), "notice", piece)

    def _has_other_form(self, shape: _Shape[Content], error: Undeliverable) -> bool:
        """Where a chat may not receive files, it may still receive words."""
        is_file = not self._target.simpler(shape.origin.content)
        may_pass = isinstance(error, Refused) or is_file
        return shape.form != "notice" and shape.origin.key != STATUS and may_pass

    async def _in_another_form(self, shape: _Shape[Content], reason: str) -> Sequence[_Shape[Content]]:
        origin, simple = shape.origin, self._simple(shape.origin)
        sent = self._sent.get(shape.key)
        if shape.form == "whole" and simple:
            if sent is not None and sent.state == "shown":
                await self._rename(shape.key, simple[0].key)
            await self._ledger.simplified(origin.key)
            self._sent[origin.key] = Sent(origin.key, "simplified")
            return simple
        notice = self._notice(origin, reason)
        if sent is not None and sent.state == "shown" and not sent.digest:
            # Until now the message was a temporary one.
            await self._rename(shape.key, notice.key)
        await self._ledger.undeliverable(origin.key, reason)
        self._sent[origin.key] = Sent(origin.key, "undeliverable", reason=reason)
        return [notice]

    async def _rename(self, old: str, new: str) -> None:
        await self._ledger.rename(old, new)
        self._sent[new] = replace(self._sent.pop(old), key=new, digest="")

    async def _close(self, shapes: Sequence[_Shape[Content]]) -> None:
        """Nothing more can be sent: what is shown may still be changed, and the status removed."""
        for shape in shapes:
            if self._is_shown(shape.key):
                with suppress(Undeliverable, Unreachable, OutcomeUnknown):
                    await self._updated(shape.piece)
        if STATUS not in {piece.key for piece in self._pieces} and (status := self._sent.get(STATUS)):
            with suppress(Undeliverable, Unreachable, OutcomeUnknown):
                await self._remove(status)

    def _is_shown(self, key: str) -> bool:
        sent = self._sent.get(key)
        return sent is not None and sent.state == "shown"

    # --- messages ---

    async def _remove(self, sent: Sent) -> None:
        if sent.state == "shown":
            self._ledger.permit()
            await self._target.delete(sent.ref)
        await self._forget(sent.key)

    async def _forget(self, key: str) -> None:
        await self._ledger.removed(key)
        del self._sent[key]

    async def _updated(self, piece: Piece[Content]) -> bool:
        """Whether the piece is shown with its current content, edited if necessary."""
        sent = self._sent.get(piece.key)
        if sent is None or sent.state != "shown":
            return False
        repeat = sent.digest.startswith(_REPEATED)
        if sent.digest.removeprefix(_REPEATED) == piece.digest:
            return True
        self._ledger.permit()
        if not await self._target.edit(sent.ref, piece.content, repeat=repeat):
            await self._forget(piece.key)
            return False
        await self._confirmed(piece, sent.ref, repeat)
        return True

    async def _replaced_status(self, piece: Piece[Content]) -> bool:
        """Whether the status message is the new piece now. If it cannot become it, it is deleted."""
        status = self._sent.get(STATUS)
        if status is None or piece.key == STATUS:
            return False
        if not piece.editable or piece.key in self._sent:
            await self._remove(status)
            return False
        await self._rename(STATUS, piece.key)
        return await self._updated(piece)

    def _batch(self, shapes: Sequence[_Shape[Content]]) -> Sequence[_Shape[Content]]:
        """The new pieces at the beginning that one call can send."""
        repeat = shapes[0].key in self._sent
        batch = [shapes[0]]
        for shape in shapes[1:]:
            sent = self._sent.get(shape.key)
            if repeat != (sent is not None and sent.state == "unknown") or (sent and sent.state == "shown"):
                break
            batch.append(shape)
        return batch[: self._target.batch_size([shape.piece.content for shape in batch])]

    async def _send(self, batch: Sequence[_Shape[Content]]) -> int:
        """How many of the batch were sent. All are new, or all are of unknown outcome."""
        repeat = batch[0].key in self._sent
        first = not any(sent.state == "shown" for sent in self._sent.values())
        for shape in batch:
            await self._ledger.sending(shape.key)
        try:
            self._ledger.permit()
            refs = await self._target.send([shape.piece.content for shape in batch], first=first, repeat=repeat)
        except OutcomeUnknown as error:
            self._sent.update({shape.key: Sent(shape.key, "unknown") for shape in batch})
            if self._counts_as_refused(batch[0]):
                raise Refused(str(error)) from error
            raise
        except ServerFailed as error:
            await self._not_sent(batch, repeat)
            if self._counts_as_refused(batch[0]):
                raise Refused(str(error)) from error
            raise
        except MediaUnavailable as error:
            await self._not_sent(batch, repeat)
            raise Unreachable(str(error)) from error
        except (RetryLater, Unreachable, ChatMoved, Undeliverable):
            await self._not_sent(batch, repeat)
            raise
        for shape, ref in zip(batch, refs, strict=False):
            await self._confirmed(shape.piece, ref, repeat)
        await self._not_sent(batch[len(refs) :], repeat)
        return len(refs)

    def _counts_as_refused(self, shape: _Shape[Content]) -> bool:
        """A server that fails at a file again and again does not take it. Texts wait until it works."""
        is_file = not self._target.simpler(shape.origin.content)
        return is_file and shape.form == "whole" and self._ledger.failed(shape.key)

    async def _not_sent(self, batch: Sequence[_Shape[Content]], repeat: bool) -> None:
        # A second attempt leaves the outcome unknown: the first may have arrived.
        if not repeat:
            for shape in batch:
                await self._ledger.removed(shape.key)

    async def _confirmed(self, piece: Piece[Content], ref: str, repeat: bool) -> None:
        digest = _REPEATED + piece.digest if repeat else piece.digest
        await self._ledger.sent(piece.key, ref, digest)
        self._sent[piece.key] = Sent(piece.key, "shown", ref, digest)
