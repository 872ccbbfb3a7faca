"""What the agent remembers of the person or the group of a conversation."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from agent.memory import MemoryFault
from gateway.api.caller import Caller, Reader, Writer
from gateway.api.places import Place, find_place, find_place_to_change
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.notes import StoredNote
from gateway.turns.memory import owner_of


class Note(BaseModel):
    id: str
    text: str
    at: datetime


class Notes(BaseModel):
    """The oldest first."""

    notes: list[Note]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["memory"])

    def owner(caller: Caller, place: Place) -> str:
        return owner_of(place.address, caller.sender_at(place.address))

    @routes.get("/conversations/{conversation}/memory")
    async def notes(caller: Reader, conversation: str) -> Notes:
        """The notes that turns there are given."""
        place = await find_place(gateway, caller, conversation)
        return Notes(notes=list(map(_shown, await gateway.memories.of(owner(caller, place)))))

    @routes.delete("/conversations/{conversation}/memory/{note}")
    async def forget(caller: Writer, conversation: str, note: str) -> Note:
        """Forgets a note."""
        place = await find_place_to_change(gateway, caller, conversation)
        whose = owner(caller, place)
        found = next((each for each in await gateway.memories.of(whose) if each.note.handle == note), None)
        is_free = place.address.kind == "direct" or caller.may("operate")
        if found is not None and not is_free and caller.sender_at(place.address).id != found.author.id:
            raise Problem(
                403, "not_allowed", "Only the person for whom it was taken and operators may have it forgotten."
            )
        try:
            return _shown(await gateway.memories.forget(whose, note, None))
        except MemoryFault as error:
            raise Problem(404, "note_not_found", str(error)) from error

    return routes


def _shown(note: StoredNote) -> Note:
    return Note(id=note.note.handle, text=note.note.text, at=note.at)
