"""Brings what a platform shows of a reply up to date with the reply's pieces, and records it in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, Protocol, TypeVar

from channels.channel import Ledger, RetryLater, Sent, Undeliverable, Unreachable
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
Content_contra = TypeVar("Content_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Piece(Generic[Content]):
    """One platform message of a reply. `digest` identifies the content; `editable`: another piece's message may become
    it by an edit."""

    key: str
    digest: str
    content: Content
    editable: bool = True


class Target(Protocol[Content_contra]):
    """One chat on a platform, for one reply. Errors are those of `Channel.show`."""

    def batch_size(self, contents: Sequence[Content_contra]) -> int:
        """How many of the first of these one call can send; at least 1."""

    async def send(self, contents: Sequence[Content_contra], *, first: bool, repeat: bool) -> Sequence[str]:
        """The refs of those sent, in order: at least one. The others were certainly not sent.

        `first`: nothing of the reply is shown yet. `repeat`: add `REPEAT_NOTE`.
        """

    async def edit(self, ref: str, content: Content_contra, *, repeat: bool) -> bool:
        """Whether the message shows the content now; false when it is deleted or can no longer be changed."""

    async def delete(self, ref: str) -> None:
        """A message that is already deleted, or can no longer be deleted, is no error."""


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
    """
    await _Sync(ledger, target).run(pieces)


class _Sync(Generic[Content]):
    def __init__(self, ledger: Ledger, target: Target[Content]) -> None:
        self._ledger = ledger
        self._target = target
        self._sent = {sent.key: sent for sent in ledger.pieces()}

    async def run(self, pieces: Sequence[Piece[Content]]) -> None:
        wanted = {piece.key for piece in pieces}
        for sent in list(self._sent.values()):
            if sent.key not in wanted | {STATUS} or (sent.key == STATUS and sent.state == "unknown"):
                await self._remove(sent)
        at = 0
        while at < len(pieces):
            piece = pieces[at]
            if await self._updated(piece) or await self._replaced_status(piece):
                at += 1
            else:
                at += await self._send(self._batch(pieces[at:]))
        if STATUS not in wanted and (status := self._sent.get(STATUS)):
            await self._remove(status)

    async def _remove(self, sent: Sent) -> None:
        if sent.state == "shown":
            await self._target.delete(sent.ref)
        await self._forget(sent.key)

    async def _forget(self, key: str) -> None:
        await self._ledger.removed(key)
        del self._sent[key]

    async def _updated(self, piece: Piece[Content]) -> bool:
        """Whether the piece is shown with its current content, edited if necessary."""
        sent = self._sent.get(piece.key)
        if sent is None or sent.state == "unknown":
            return False
        repeat = sent.digest.startswith(_REPEATED)
        if sent.digest.removeprefix(_REPEATED) == piece.digest:
            return True
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
        await self._ledger.rename(STATUS, piece.key)
        self._sent[piece.key] = replace(self._sent.pop(STATUS), key=piece.key, digest="")
        return await self._updated(piece)

    def _batch(self, pieces: Sequence[Piece[Content]]) -> Sequence[Piece[Content]]:
        """The new pieces at the beginning that one call can send."""
        repeat = pieces[0].key in self._sent
        batch = [pieces[0]]
        for piece in pieces[1:]:
            sent = self._sent.get(piece.key)
            if repeat != (sent is not None and sent.state == "unknown") or (sent and sent.state == "shown"):
                break
            batch.append(piece)
        return batch[: self._target.batch_size([piece.content for piece in batch])]

    async def _send(self, batch: Sequence[Piece[Content]]) -> int:
        """How many of the batch were sent. All are new, or all are of unknown outcome."""
        repeat = batch[0].key in self._sent
        first = all(sent.state == "unknown" for sent in self._sent.values())
        for piece in batch:
            await self._ledger.sending(piece.key)
        try:
            refs = await self._target.send([piece.content for piece in batch], first=first, repeat=repeat)
        except (RetryLater, Unreachable, Undeliverable):
            await self._not_sent(batch, repeat)
            raise
        for piece, ref in zip(batch, refs, strict=False):
            await self._confirmed(piece, ref, repeat)
        await self._not_sent(batch[len(refs) :], repeat)
        return len(refs)

    async def _not_sent(self, batch: Sequence[Piece[Content]], repeat: bool) -> None:
        # A second attempt leaves the outcome unknown: the first may have arrived.
        if not repeat:
            for piece in batch:
                await self._ledger.removed(piece.key)

    async def _confirmed(self, piece: Piece[Content], ref: str, repeat: bool) -> None:
        digest = _REPEATED + piece.digest if repeat else piece.digest
        await self._ledger.sent(piece.key, ref, digest)
        self._sent[piece.key] = Sent(piece.key, "shown", ref, digest)
