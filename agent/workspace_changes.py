"""What is done about changes of the workspace during a turn, where the folder is not the only place of its files."""

from __future__ import annotations

from typing import Protocol


class WorkspaceChanges(Protocol):
    async def begin(self) -> None:
        """Calls that may change files are about to run."""

    def changed(self) -> None:
        """They have ended. Never waits."""

    async def settled(self, seconds: float) -> None:
        """Returns when all changes are saved that were told of, after so many seconds at the latest; `notes` say it if
        they are not. Raises `TurnLost`."""

    def notes(self) -> tuple[str, ...]:
        """What people and the model are to know about the files, each once."""

    async def aclose(self) -> None:
        """Nothing is saved any more."""


class PlainWorkspace:
    """The folder is the place of the files, and nothing need be done."""

    async def begin(self) -> None:
        return None

    def changed(self) -> None:
        return None

    async def settled(self, seconds: float) -> None:
        return None

    def notes(self) -> tuple[str, ...]:
        return ()

    async def aclose(self) -> None:
        return None
