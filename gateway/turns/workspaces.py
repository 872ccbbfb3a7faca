"""Workspaces: the folders in which the agent works, one for each conversation, person or agent, or one for all."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, assert_never
from urllib.parse import unquote

from agent.workspace_changes import PlainWorkspace, WorkspaceChanges
from channels.address import Address, Sender
from gateway.sessions import conversation_of, session_key
from gateway.store import records
from gateway.store.workspace_names import folder_key, hash_of
from gateway.workspaces.removal import DELETED, delete_folder, remove_for_good
from gateway.workspaces.sync import WorkspaceSync
from gateway.workspaces.turn_workspace import TurnWorkspace, save_after_call

log = logging.getLogger(__name__)

Sharing = Literal["conversation", "person", "agent", "shared"]

KEPT: dict[Sharing, str] = {
    "conversation": "",
    "person": "the files of this workspace belong to all of your conversations here",
    "agent": "the files of this workspace belong to all conversations of this channel",
    "shared": "the files of this workspace belong to all conversations",
}
"""Why a conversation cannot start with an empty workspace."""

SHORT = 10
"""Digits of the hash in a name that nobody else has."""


class NameStore(Protocol):
    async def workspace_name(self, key: str) -> str | None: ...
    async def name_workspace(self, key: str, names: Sequence[str]) -> str: ...


class Workspaces:
    """Folders are created on their first use, by the turn that uses them."""

    def __init__(
        self,
        root: Path,
        sharing: Sharing,
        names: NameStore,
        *,
        of_agents: Mapping[str, Path] | None = None,
        sync: WorkspaceSync | None = None,
    ) -> None:
        """`names` knows whose folder has which name. `of_agents` are the roots of agents that have one of their own, by
        the agent's name. `sync` keeps the folders in step with those of other machines; None: they are the only place
        of their files, or shared."""
        self.sharing = sharing
        self.sync = sync
        self._names = names
        self._roots = {"": root, **(of_agents or {})}

    def use(self, other: Workspaces) -> None:
        """From now on the folders that the other has; running turns stay where they are."""
        self.sharing, self.sync, self._names, self._roots = other.sharing, other.sync, other._names, other._roots

    async def of(self, record: records.Turn, agent: str = "") -> Path:
        """The folder of a turn; delegated and background work has that of its conversation. Raises `StoreError`."""
        return await self.folder(record.session, record.principal, agent=agent)

    async def open(self, record: records.Turn, folder: Path) -> WorkspaceChanges:
        """Brings the folder of the turn to its newest version, if it is kept in step with those of other machines. It
        is to be closed."""
        if (found := self._kept_in_step(folder)) is None:
            return PlainWorkspace()
        workspace = TurnWorkspace(*found, record)
        await workspace.open()
        return workspace

    async def save_after_call(self, record: records.Turn, folder: Path, row: int) -> tuple[str, ...]:
        """Saves what a call in the background has changed there; what is to be told."""
        if (found := self._kept_in_step(folder)) is None:
            return ()
        return await save_after_call(*found, record.session, row)

    def _kept_in_step(self, folder: Path) -> tuple[WorkspaceSync, str] | None:
        """By what, and its key there; None: this machine's folder is the only one."""
        key = None if self.sync is None else self.sync.key(folder)
        return None if self.sync is None or key is None else (self.sync, key)

    async def folder(self, session: str, person: Sender | None = None, *, agent: str = "") -> Path:
        """The folder of a conversation or one of its delegated tasks, on behalf of a person. Raises `StoreError`."""
        root = self._roots.get(agent, self._roots[""])
        session = conversation_of(session)
        channel, _, chat, *thread = (unquote(part) for part in session.split("/"))
        match self.sharing:
            case "conversation":
                return root / await self._name_of(session, channel, "-".join((chat, *thread)))
            case "person":
                return root / await self._name_of_person(channel, "" if person is None else person.id)
            case "agent":
                return root / await self._name_of(f"{channel}/agent", channel, "agent")
            case "shared":
                return root
            case _:
                assert_never(self.sharing)

    async def _name_of_person(self, channel: str, id: str) -> str:
        return await self._name_of(folder_key(f"{channel}:{id}"), channel, id)

    async def _name_of(self, key: str, channel: str, name: str) -> str:
        """Readable for an operator, safe as a file name, and different for every key: of two keys with the same short
        name, the second has the long one."""
        found = await self._names.workspace_name(key)
        if found is not None:
            return found
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{channel}-{name}")[:60].strip("-.")
        hash = hash_of(key)
        return await self._names.name_workspace(key, (f"{readable}-{hash[:SHORT]}", f"{readable}-{hash}"))

    async def folders(self, session: str) -> tuple[Path, ...]:
        """The folders of a conversation, with each agent that has some of its own. Raises `StoreError`."""
        return tuple([await self.folder(session, agent=agent) for agent in self._roots])

    async def has_files(self, session: str) -> bool:
        """Whether the conversation has files of its own, or a part in those of others. Raises `StoreError`."""
        if self.sharing == "person":
            return False
        folders = await self.folders(session)
        if any(folder.is_dir() and any(folder.iterdir()) for folder in folders):
            return True
        return self.sync is not None and any([await self.sync.is_saved(folder) for folder in folders])

    async def remove(self, owner: records.FolderOwner) -> bool:
        """Deletes the folder of the conversation or person, if it has one of its own, on all machines that keep it in
        step; whether it had. Raises `OSError` and `StoreError`."""
        match self.sharing, owner:
            case "conversation", Address():
                return await self._delete_all(await self.folders(session_key(owner)))
            case "person", str():
                channel, _, id = owner.partition(":")
                name = await self._name_of_person(channel, id)
                return await self._delete_all(root / name for root in self._roots.values())
            case _:
                return False

    async def clear(self, session: str) -> str:
        """Deletes the conversation's folder; why not, if it is not the conversation's own. Raises as `remove`."""
        if not KEPT[self.sharing]:
            await self._delete_all(await self.folders(session))
        return KEPT[self.sharing]

    async def _delete_all(self, folders: Iterable[Path]) -> bool:
        """Whether there was anything in one of them."""
        found = [
            await (asyncio.to_thread(delete_folder, folder) if self.sync is None else self.sync.delete(folder))
            for folder in folders
        ]
        return any(found)

    async def remove_leftovers(self) -> None:
        """Deletes what an earlier process was deleting. A folder of the operator's is left alone."""
        if self.sharing == "shared":
            return
        for folder in [folder for root in self._roots.values() for folder in root.glob(f"{DELETED}*")]:
            try:
                await asyncio.to_thread(remove_for_good, folder)
            except OSError as error:
                log.warning("a deleted workspace cannot be removed yet: %s", error)
