"""Brings a platform from what it shows of a reply to what it should show, piece by piece, by way of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from channels.channel import Ledger, RetryLater, Sent, Undeliverable, Unreachable

STATUS = "status"
"""The key of the one piece that comes and goes: what runs now."""

REPEAT_NOTE = "(possibly a repeat: the connection broke while this was being sent)"

_REPEATED = "repeated:"
"""Before the digest of a piece that was sent a second time, so that its note stays when it is edited."""

Content = TypeVar("Content")
Content_contra = TypeVar("Content_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Piece(Generic[Content]):
    """One message of a reply. `digest` tells two contents apart; `editable`: another piece's message can become it."""

    key: str
    digest: str
    content: Content
    editable: bool = True


class Platform(Protocol[Content_contra]):
    """One place on a platform, for one reply. Errors are those of `Channel.show`."""

    def together(self, contents: Sequence[Content_contra]) -> int:
        """How many of the first of these one call may send; at least 1."""

    async def send(self, contents: Sequence[Content_contra], *, first: bool, repeat: bool) -> Sequence[str]:
        """The refs of those sent, in order: at least one. The others were certainly not sent.

        `first`: nothing of the reply is on screen yet. `repeat`: say `REPEAT_NOTE` with it.
        """

    async def edit(self, ref: str, content: Content_contra, *, repeat: bool) -> bool:
        """Whether the message shows the content now; false when it is gone or cannot be changed any more."""

    async def delete(self, ref: str) -> None:
        """A message that is gone already, or cannot be deleted any more, is no error."""


async def show_pieces(pieces: Sequence[Piece[Content]], ledger: Ledger, platform: Platform[Content]) -> None:
    """Makes the platform show these pieces in this order. Repeatable; what the ledger says is shown costs no call.

    A piece whose sending was never confirmed is sent again, with a note. The status is turned into the next new
    piece where that can be, so that a reply's first message exists early and does not flicker.
    """
    await _Screen(ledger, platform).show(pieces)


class _Screen(Generic[Content]):
    def __init__(self, ledger: Ledger, platform: Platform[Content]) -> None:
        self._ledger = ledger
        self._platform = platform
        self._sent = {sent.key: sent for sent in ledger.pieces()}

    async def show(self, pieces: Sequence[Piece[Content]]) -> None:
        wanted = {piece.key for piece in pieces}
        for sent in list(self._sent.values()):
            if sent.key not in wanted | {STATUS} or (sent.key == STATUS and sent.state == "unknown"):
                await self._take_down(sent)
        at = 0
        while at < len(pieces):
            piece = pieces[at]
            if await self._kept(piece) or await self._status_became(piece):
                at += 1
            else:
                at += await self._send(self._run(pieces[at:]))
        if STATUS not in wanted and (status := self._sent.get(STATUS)):
            await self._take_down(status)

    async def _take_down(self, sent: Sent) -> None:
        if sent.state == "shown":
            await self._platform.delete(sent.ref)
        await self._forget(sent.key)

    async def _forget(self, key: str) -> None:
        await self._ledger.removed(key)
        del self._sent[key]

    async def _kept(self, piece: Piece[Content]) -> bool:
        """Whether the piece is on screen and shows what it should, edited if need be."""
        sent = self._sent.get(piece.key)
        if sent is None or sent.state == "unknown":
            return False
        repeat = sent.digest.startswith(_REPEATED)
        if sent.digest.removeprefix(_REPEATED) == piece.digest:
            return True
        if not await self._platform.edit(sent.ref, piece.content, repeat=repeat):
            await self._forget(piece.key)
            return False
        await self._confirmed(piece, sent.ref, repeat)
        return True

    async def _status_became(self, piece: Piece[Content]) -> bool:
        """Whether the status's message is the new piece now. If it cannot be, it makes room."""
        status = self._sent.get(STATUS)
        if status is None or piece.key == STATUS:
            return False
        if not piece.editable or piece.key in self._sent:
            await self._take_down(status)
            return False
        await self._ledger.rename(STATUS, piece.key)
        self._sent[piece.key] = replace(self._sent.pop(STATUS), key=piece.key, digest="")
        return await self._kept(piece)

    def _run(self, pieces: Sequence[Piece[Content]]) -> Sequence[Piece[Content]]:
        """The new pieces at the beginning that go out in one call."""
        repeat = pieces[0].key in self._sent
        run = [pieces[0]]
        for piece in pieces[1:]:
            sent = self._sent.get(piece.key)
            if repeat != (sent is not None and sent.state == "unknown") or (sent and sent.state == "shown"):
                break
            run.append(piece)
        return run[: self._platform.together([piece.content for piece in run])]

    async def _send(self, run: Sequence[Piece[Content]]) -> int:
        """How many of the run were sent. All are new, or all are of unknown outcome."""
        repeat = run[0].key in self._sent
        first = all(sent.state == "unknown" for sent in self._sent.values())
        for piece in run:
            await self._ledger.sending(piece.key)
        try:
            refs = await self._platform.send([piece.content for piece in run], first=first, repeat=repeat)
        except (RetryLater, Unreachable, Undeliverable):
            await self._never_sent(run, repeat)
            raise
        for piece, ref in zip(run, refs, strict=False):
            await self._confirmed(piece, ref, repeat)
        await self._never_sent(run[len(refs) :], repeat)
        return len(refs)

    async def _never_sent(self, run: Sequence[Piece[Content]], repeat: bool) -> None:
        # What is sent a second time stays in doubt: the first time may have arrived.
        if not repeat:
            for piece in run:
                await self._ledger.removed(piece.key)

    async def _confirmed(self, piece: Piece[Content], ref: str, repeat: bool) -> None:
        digest = _REPEATED + piece.digest if repeat else piece.digest
        await self._ledger.sent(piece.key, ref, digest)
        self._sent[piece.key] = Sent(piece.key, "shown", ref, digest)
