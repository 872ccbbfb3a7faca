"""Workspaces: the folders in which the agent works, one for each conversation, person or agent, or one for all."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Literal, assert_never
from urllib.parse import unquote

from channels.address import Address, Sender
from gateway.sessions import parent_key, session_key
from gateway.store import records

log = logging.getLogger(__name__)

Sharing = Literal["conversation", "person", "agent", "shared"]

KEPT: dict[Sharing, str] = {
    "conversation": "",
    "person": "the files of this workspace belong to all of your conversations here",
    "agent": "the files of this workspace belong to all conversations of this channel",
    "shared": "the files of this workspace belong to all conversations",
}
"""Why a conversation cannot start with an empty workspace."""

DELETED = ".deleted-"
"""How the names of folders begin that are being deleted."""


class Workspaces:
    """Folders are created on their first use, by the turn that uses them."""

    def __init__(self, root: Path, sharing: Sharing, *, of_agents: Mapping[str, Path] | None = None) -> None:
        """`of_agents` are the roots of agents that have one of their own, by the agent's name."""
        self.sharing = sharing
        self._roots = {"": root, **(of_agents or {})}

    def use(self, other: Workspaces) -> None:
        """From now on the folders that the other has; running turns stay where they are."""
        self.sharing, self._roots = other.sharing, other._roots

    def of(self, record: records.Turn, agent: str = "") -> Path:
        """The folder of a turn; delegated and background work has that of its conversation."""
        return self.folder(record.session, record.principal, agent=agent)

    def folder(self, session: str, person: Sender | None = None, *, agent: str = "") -> Path:
        """The folder of a conversation, or of one of its delegated tasks, on behalf of a person."""
        root = self._roots.get(agent, self._roots[""])
        session = conversation_of(session)
        channel, _, chat, *thread = (unquote(part) for part in session.split("/"))
        match self.sharing:
            case "conversation":
                return root / folder_name(channel, "-".join((chat, *thread)), session)
            case "person":
                return _folder_of_person(root, channel, "" if person is None else person.id)
            case "agent":
                return root / folder_name(channel, "agent", f"{channel}/agent")
            case "shared":
                return root
            case _:
                assert_never(self.sharing)

    def folders(self, session: str) -> Iterator[Path]:
        """The folders of a conversation, with each agent that has some of its own."""
        for agent in self._roots:
            yield self.folder(session, agent=agent)

    def has_files(self, session: str) -> bool:
        """Whether the conversation has files of its own, or a part in those of others."""
        if self.sharing == "person":
            return False
        return any(folder.is_dir() and any(folder.iterdir()) for folder in self.folders(session))

    async def remove(self, owner: records.FolderOwner) -> bool:
        """Deletes the folder of the conversation or person, if it has one of its own; whether it had. Raises
        `OSError`."""
        match self.sharing, owner:
            case "conversation", Address():
                return await asyncio.to_thread(_delete_all, tuple(self.folders(session_key(owner))))
            case "person", str():
                channel, _, id = owner.partition(":")
                folders = [_folder_of_person(root, channel, id) for root in self._roots.values()]
                return await asyncio.to_thread(_delete_all, folders)
            case _:
                return False

    async def clear(self, session: str) -> str:
        """Deletes the conversation's folder; why not, if it is not the conversation's own. Raises `OSError`."""
        if not KEPT[self.sharing]:
            await asyncio.to_thread(_delete_all, tuple(self.folders(session)))
        return KEPT[self.sharing]

    async def remove_leftovers(self) -> None:
        """Deletes what an earlier process was deleting. A folder of the operator's is left alone."""
        if self.sharing == "shared":
            return
        for folder in [folder for root in self._roots.values() for folder in root.glob(f"{DELETED}*")]:
            try:
                await asyncio.to_thread(_remove, folder)
            except OSError as error:
                log.warning("a deleted workspace cannot be removed yet: %s", error)


def conversation_of(session: str) -> str:
    """The session with people in it that a delegated task belongs to; any other session is its own."""
    while (parent := parent_key(session)) is not None:
        session = parent
    return session


def folder_name(channel: str, name: str, key: str) -> str:
    """Readable for an operator, safe as a file name, and different for every key."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{channel}-{name}")[:60].strip("-.")
    return f"{readable}-{sha256(key.encode()).hexdigest()[:10]}"


def _folder_of_person(root: Path, channel: str, id: str) -> Path:
    return root / folder_name(channel, id, f"{channel}/person/{id}")


def _delete_all(folders: Sequence[Path]) -> bool:
    """Whether there was anything in one of them. Raises `OSError`."""
    found = [_delete(folder) for folder in folders]
    return any(found)


def _delete(folder: Path) -> bool:
    """Deletes the folder, and what an earlier attempt left of it; whether there was anything. Raises `OSError`."""
    moving = f"{DELETED}{folder.name}-"
    if os.path.lexists(folder):
        folder.rename(folder.with_name(f"{moving}{token_hex(4)}"))
    found = [each for each in folder.parent.glob(f"{DELETED}*") if each.name.startswith(moving)]
    for each in found:
        _remove(each)
    return bool(found)


def _remove(folder: Path) -> None:
    """Links are deleted, not followed. The system's programs delete any depth of folders, and go on after an error.
    Raises `OSError`."""
    if not folder.is_symlink():
        _run("chmod", "-R", "u+rwX", "--", str(folder))
    _run("rm", "-rf", "--", str(folder))
    if os.path.lexists(folder):
        raise OSError(f"{folder} cannot be deleted completely: delete it by hand")


def _run(*command: str) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    quiet = subprocess.DEVNULL
    subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, check=False)
