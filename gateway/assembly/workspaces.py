"""Workspaces from settings: where they are, and whose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from gateway.private_files import private_folder
from gateway.turns.workspaces import Workspaces


def workspaces_of(settings: Settings) -> Workspaces:
    roots = {name: agent.workspace for name, agent in settings.agents.items() if agent.workspace is not None}
    return Workspaces(settings.agent.workspace, settings.agent.workspaces, of_agents=roots)


def workspace_roots(settings: Settings) -> Iterator[Path]:
    """The folders in which the workspaces of all agents are."""
    yield settings.agent.workspace
    yield from (agent.workspace for agent in settings.agents.values() if agent.workspace is not None)


def make_workspace_roots(settings: Settings) -> None:
    """Creates them, private to the operator's account. Raises `OSError`."""
    for root in workspace_roots(settings):
        if settings.agent.workspaces == "shared":
            # It may be a folder of the operator's, with permissions of its own.
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            private_folder(root)
