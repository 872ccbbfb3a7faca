"""The journal of a turn: the log that it writes and the inbox that it reads, as one protocol with one writer."""

from __future__ import annotations

from typing import Protocol

from agent.log import ApprovalDecided, Ended, Entry, InputEnded, MessagesRead, ModelAnswered


class JournalError(Exception):
    """The journal cannot be written; nothing of the failed write is stored. The message is for a person."""


class TurnLost(JournalError):
    """Another worker has taken over this turn. The turn must end at once, without writing."""


class Journal(Protocol):
    """Every awaited operation is committed when it returns. Every write may raise `JournalError` or `TurnLost`."""

    @property
    def has_unread(self) -> bool:
        """Whether the inbox has unread messages, as far as is known without a query."""

    @property
    def interjected(self) -> bool:
        """Likewise, whether there is an unread message of a person, for which calls not yet started are skipped.
        Results of background work do not count: they can wait until the calls have run."""

    async def interjection(self) -> None:
        """Returns as soon as there is an unread message of a person that interrupts running work, at once if there is
        one already. A request to finish up does not interrupt."""

    async def read_inbox(self, step: int) -> MessagesRead | None:
        """Reads all unread messages and logs them as read at `step`, in one transaction; None if there are none."""

    async def arrival(self) -> bool:
        """If a message of a person that cannot be read yet has interrupted the work (its files are being fetched),
        returns as soon as something can be read, at the latest after some seconds. Whether that is so now."""

    async def append(self, *entries: Entry) -> None:
        """Adds entries to the log, in order."""

    async def answered(self) -> None:
        """Returns as soon as there is a message that answers the open `InputRequested` of the log. Such a message
        interrupts nothing, and is not read from the inbox."""

    async def end_input(self, otherwise: InputEnded) -> InputEnded:
        """Ends the open request and logs that: with the answer, if there is one, or else as given. All in one
        transaction."""

    async def keep(self, draft: ModelAnswered | None) -> None:
        """Keeps the unfinished answer of the model, in place of the one kept before, until an answer is logged. After
        a restart the log has it, as interrupted by the restart."""

    async def now(self) -> float:
        """The time in seconds since 1970, by the clock on which people's time to decide ends."""

    async def park(self, until: float | None) -> bool | ApprovalDecided:
        """Parks the turn until a message or a decision arrives or until the time (see `now`), if the inbox has no
        unread messages. All in one transaction.

        The decision, if somebody has made it since it was requested: the log ends with it, and the turn continues.
        False: there are unread messages, `has_unread` is true, and the turn continues.
        """

    async def close(self, ended: Ended, *entries: Entry) -> tuple[Entry, ...]:
        """Adds `entries`; then, if the inbox has no unread messages, ends the turn. All in one transaction.

        Returns the entries that it added last: `ended`, and before it messages that were read and need no answer (a
        request to finish up). Empty: there are unread messages, `has_unread` is true, and the turn continues. A turn
        that is stopped or failed ends in any case.
        """
