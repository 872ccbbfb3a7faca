"""The notes of people and groups, as turns, people and programs take and forget them."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol
from urllib.parse import quote

from agent.memory import Memory, MemoryFault, NoMemory, Note
from channels.address import Address, Sender
from gateway.outbound.wording import escaped
from gateway.sessions import is_child, session_key
from gateway.store.api_keys import SENDER
from gateway.store.notes import MAX_NOTES, StoredNote
from gateway.store.records import Turn

WEB = "web"

NOT_THERE = "There is no note {handle} here."
NOT_YOURS = "Only {name}, for whom it was taken, and admins can have the note {handle} forgotten."
TOO_MANY = f"There are {MAX_NOTES} notes, as many as there may be. Forget one first."


class NoteStore(Protocol):
    is_shared: bool

    async def add_note(
        self, owner: str, session: str, channel: str, author: Sender, made_by: str, text: str
    ) -> StoredNote | None: ...
    async def notes_of(self, owner: str) -> tuple[StoredNote, ...]: ...
    async def forget_note(self, owner: str, id: str) -> StoredNote | None: ...
    async def has_notes(self) -> bool: ...


def owner_of(address: Address, sender: Sender) -> str:
    """Whose notes are used there: those of the chat, with all its threads; on the web channel those of the person, in
    all their conversations, but for programs those of the one conversation. So nobody's notes are told elsewhere."""
    if address.channel == WEB and not sender.id.startswith(SENDER):
        return f"{WEB}/{quote(address.account, safe='')}"
    return session_key(replace(address, thread=None))


class Memories:
    """All methods raise `StoreError`."""

    def __init__(self, store: NoteStore) -> None:
        self._store = store
        self._has_any: bool | None = None

    async def of(self, owner: str) -> tuple[StoredNote, ...]:
        """Those of the owner, the oldest first. As long as there are none at all, this costs nothing."""
        if self._has_any is None:
            # Only other processes can take one without this one's knowledge.
            found = self._store.is_shared or await self._store.has_notes()
            self._has_any = self._has_any or found
        return await self._store.notes_of(owner) if self._has_any else ()

    async def add(self, address: Address, session: str, author: Sender, made_by: str, text: str) -> StoredNote:
        """Takes a note; the same `made_by` finds what it has taken before. Raises `MemoryFault`."""
        owner = owner_of(address, author)
        added = await self._store.add_note(owner, session, address.channel, author, made_by, text)
        if added is None:
            raise MemoryFault(TOO_MANY)
        self._has_any = True
        return added

    async def forget(self, owner: str, handle: str, person: str | None) -> StoredNote:
        """Forgets a note that was taken for this person, None: for anybody. Raises `MemoryFault`."""
        found = next((each for each in await self.of(owner) if each.note.handle == handle), None)
        if found is not None and person not in (None, found.author.id):
            raise MemoryFault(NOT_YOURS.format(name=escaped(found.author.name), handle=handle))
        forgotten = await self._store.forget_note(owner, handle)
        if forgotten is None:
            raise MemoryFault(NOT_THERE.format(handle=handle))
        return forgotten

    def of_turn(self, record: Turn) -> Memory:
        """Those of whoever the turn is for; a side question and a delegated task take none."""
        return NoMemory() if record.kind != "turn" or is_child(record.session) else TurnMemory(self, record)


class TurnMemory:
    """Implements `agent.memory.Memory`."""

    def __init__(self, memories: Memories, record: Turn) -> None:
        self._memories = memories
        self._record = record

    async def add(self, call_id: str, text: str) -> Note:
        record = self._record
        made_by = f"{record.id} {call_id}"
        return (await self._memories.add(record.address, record.session, record.principal, made_by, text)).note

    async def notes(self) -> tuple[Note, ...]:
        return tuple(each.note for each in await self._memories.of(self._owner))

    async def forget(self, handle: str) -> Note:
        record = self._record
        person = None if record.address.kind == "direct" else record.principal.id
        return (await self._memories.forget(self._owner, handle, person)).note

    @property
    def _owner(self) -> str:
        return owner_of(self._record.address, self._record.principal)
