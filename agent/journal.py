"""A turn's hold on the world: the log it writes and the inbox it reads, as one protocol with one writer."""

from __future__ import annotations

from typing import Protocol

from agent.log import Ended, Entry, MessagesRead


class JournalError(Exception):
    """The journal cannot be written; nothing of the failed write is kept. The message is for a person."""


class TurnLost(JournalError):
    """Another worker has taken this turn over. The turn must end at once, silently."""


class Journal(Protocol):
    """What is awaited here is committed when it returns. Every write may raise `JournalError` or `TurnLost`."""

    @property
    def has_unread(self) -> bool:
        """Whether something waits in the inbox, as far as is known without asking."""

    @property
    def interjected(self) -> bool:
        """Likewise, whether people have said something, for which calls not yet started are skipped: the results of
        work beside the turn can wait until they have run."""

    async def interjection(self) -> None:
        """Returns as soon as people have said something that cannot wait until what runs has ended, at once if they
        have already: more than the wish that the turn come to its end."""

    async def read_inbox(self, step: int) -> MessagesRead | None:
        """Reads all that waits and logs it as heard at `step`, in one transaction; None if nothing waits."""

    async def append(self, *entries: Entry) -> None:
        """Adds entries to the log, in order."""

    async def park(self, until: float | None) -> bool:
        """Lets go of the turn until somebody says something or decides, or until the time (in seconds since 1970), if
        nothing waits in the inbox. All in one transaction.

        False: something waits, `has_unread` says so, and the turn goes on.
        """

    async def close(self, ended: Ended, *entries: Entry) -> tuple[Entry, ...]:
        """Adds `entries`; then, if nothing waits in the inbox, ends the turn. All in one transaction.

        What it has added at the end: `ended`, and before it what was heard without another answer (a wish that the
        turn come to its end). Nothing: something waits, `has_unread` says so, and the turn goes on. A turn that is
        stopped or failed ends whatever waits.
        """
