"""The workspace of one turn: brought to its newest version at the start, saved while the turn goes on."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TypeVar

from agent.interrupt import cancel_and_wait
from agent.journal import TurnLost
from agent.log import CallStarted, Resumed
from gateway.lifecycle.retry import until_reached
from gateway.store.records import SavedWorkspace, Turn, WorkspaceChange
from gateway.workspaces.local_state import Mark
from gateway.workspaces.sync import ERRORS, NotSaved, WorkspaceSync, reason_of

log = logging.getLogger(__name__)

T = TypeVar("T")

SAVED_WITHIN = 300.0
"""Seconds for saving what a call in the background has changed."""

NOT_BROUGHT = (
    "The workspace cannot be brought to its newest version at the moment ({reason}): files may be missing or old here."
)
NOT_SAVED = (
    "The changed files of the workspace could not be saved ({reason}). They are only on the machine {host}, and are "
    "saved with the next changes there."
)
TOO_SLOW = "that takes too long"
GIVEN_UP = "the call was given up"
GOES_ON = (
    "The work was interrupted, and goes on on another machine, with the workspace as it was saved last. Files that "
    "were changed after that may be missing or old: look before you rely on them."
)


class TurnWorkspace:
    """Implements `agent.workspace_changes.WorkspaceChanges`. Changes are saved in a task of its own, so that neither
    the model nor people wait for that; `aclose` ends it."""

    def __init__(self, sync: WorkspaceSync, key: str, record: Turn) -> None:
        self._sync = sync
        self._key = key
        self._record = record
        self._notes: list[str] = []
        self._unsaved = False
        self._changing = False
        self._marked = False
        self._saving: asyncio.Task[None] | None = None
        self._lost: TurnLost | None = None
        self._told: str = ""

    async def open(self) -> None:
        """Brings the folder to its newest version. A failure is told, and the turn begins with what is there."""
        entries = self._record.entries
        try:
            mark = await asyncio.to_thread(self._sync.states.mark, self._key)
            brought = await until_reached(lambda: self._sync.bring(self._key), f"the workspace {self._key}")
        except ERRORS as error:
            log.warning("the workspace %s cannot be brought to its newest version: %s", self._key, error)
            self._notes.append(NOT_BROUGHT.format(reason=reason_of(error)))
            return
        self._notes += brought.notes
        was_interrupted = isinstance(entries[-1], Resumed) and any(isinstance(entry, CallStarted) for entry in entries)
        if was_interrupted and mark.turn != self._record.id:
            self._notes.append(GOES_ON)
        self._unsaved = brought.unsaved or mark.unsaved

    async def begin(self) -> None:
        self._changing = True
        if not self._marked:
            self._marked = True
            await self._mark(unsaved=True)

    def changed(self) -> None:
        self._unsaved, self._changing = True, False
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save())

    async def settled(self, seconds: float) -> None:
        if self._unsaved:
            self.changed()
        if self._saving is not None:
            await asyncio.wait((self._saving,), timeout=seconds)
            if not self._saving.done():
                await cancel_and_wait(self._saving)
                self._tell_not_saved(TOO_SLOW)
        if self._lost is not None:
            raise self._lost

    def notes(self) -> tuple[str, ...]:
        notes, self._notes = tuple(self._notes), []
        return notes

    async def aclose(self) -> None:
        if self._saving is not None:
            await cancel_and_wait(self._saving)

    async def _save(self) -> None:
        while self._unsaved and self._lost is None:
            self._unsaved = False
            try:
                self._notes += await until_reached(
                    lambda: self._sync.save(self._key, self._commit), f"the workspace {self._key}"
                )
            except TurnLost as error:
                self._lost = error
            except (*ERRORS, NotSaved) as error:
                self._unsaved = True
                log.warning("the workspace %s cannot be saved: %s", self._key, error)
                self._tell_not_saved(reason_of(error))
                return
            except Exception:
                # A fault here affects neither the turn nor its answer.
                self._unsaved = True
                log.exception("the workspace %s cannot be saved", self._key)
                self._tell_not_saved("internal error in the gateway; details are in its log")
                return
            else:
                self._told = ""
                if not (self._unsaved or self._changing):
                    self._marked = False
                    await self._mark(unsaved=False)

    async def _commit(self, change: WorkspaceChange) -> SavedWorkspace | None:
        return await self._sync.store.save_of_turn(self._record.id, self._record.epoch, change)

    async def _mark(self, *, unsaved: bool) -> None:
        try:
            await asyncio.to_thread(self._sync.states.set_mark, self._key, Mark(self._record.id, unsaved))
        except OSError as error:
            log.warning("the workspace %s: that it has changed cannot be noted: %s", self._key, error)

    def _tell_not_saved(self, reason: str) -> None:
        """The same reason once in a row."""
        if reason != self._told:
            self._told = reason
            self._notes.append(NOT_SAVED.format(reason=reason, host=self._sync.host))


async def save_after_call(sync: WorkspaceSync, key: str, session: str, row: int) -> tuple[str, ...]:
    """Saves what a call in the background has changed, before its end is stored; what is to be told."""
    commit = partial(sync.store.save_of_call, session, row)
    try:
        async with asyncio.timeout(SAVED_WITHIN):
            return await until_reached(lambda: sync.save(key, commit), f"the workspace {key}")
    except TimeoutError:
        reason = TOO_SLOW
    except TurnLost:
        reason = GIVEN_UP
    except (*ERRORS, NotSaved) as error:
        reason = reason_of(error)
    log.warning("the workspace %s cannot be saved: %s", key, reason)
    return (NOT_SAVED.format(reason=reason, host=sync.host),)
