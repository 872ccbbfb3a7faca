"""Workspaces from settings: where they are, and whose."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from gateway.private_files import private_folder
from gateway.turns.workspaces import Workspaces


def workspaces_of(settings: Settings) -> Workspaces:
    of_agents = workspace_roots(settings)
    return Workspaces(of_agents.pop(""), settings.agent.workspaces, of_agents=of_agents)


def workspace_roots(settings: Settings) -> dict[str, Path]:
    """The folders in which the workspaces are, by the name of the agent that has one of its own, "" for all others."""
    own = {name: agent.workspace for name, agent in settings.agents.items() if agent.workspace is not None}
    return {"": settings.agent.workspace, **own}


def make_workspace_roots(settings: Settings) -> None:
    """Creates them, private to the operator's account. Raises `OSError`."""
    for root in workspace_roots(settings).values():
        if settings.agent.workspaces == "shared":
            # It may be a folder of the operator's, with permissions of its own.
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            private_folder(root)
