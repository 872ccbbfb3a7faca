"""Room for turns where their number is limited for all workers together, see `gateway.store.slots`."""

from __future__ import annotations

from gateway.store.records import NoRoom


class Room:
    """Whether all workers together run fewer turns than they may, as far as this one knows.

    Where there is a limit, one turn after another asks the store for a slot, so that those that wait keep their order.
    After a refusal nobody asks until a slot may be free again.
    """

    def __init__(self, total: int | None) -> None:
        """`total`: so many turns may run, None: any number."""
        self.total = total
        self._asking = 0
        self._is_full = False
        self._without_room: set[str] = set()
        self._is_freed = False

    def limit(self, total: int | None) -> None:
        self.total = total
        self.freed()

    @property
    def is_open(self) -> bool:
        """Whether no turn was refused since a slot may have become free."""
        return self.total is None or not self._is_full

    @property
    def may_ask(self) -> bool:
        """Whether a turn may ask for a slot now."""
        return self.is_open and (self.total is None or not self._asking)

    def has_room(self, person: str) -> bool:
        """Whether no turn of this person was refused because others of theirs run."""
        return self.total is None or person not in self._without_room

    def ask(self) -> None:
        """A turn asks for a slot; `answered` follows."""
        self._asking += 1
        self._is_freed = False

    def answered(self, person: str, refusal: NoRoom | None) -> None:
        """The turn of this person has a slot, or needs none, or is refused. A slot that has become free since it has
        asked may not have been seen."""
        self._asking -= 1
        if refusal is None or self._is_freed:
            return
        if refusal == "full":
            self._is_full = True
        else:
            self._without_room.add(person)

    def freed(self) -> None:
        """A slot may be free, here or at another worker."""
        self._is_full, self._is_freed = False, True
        self._without_room.clear()
