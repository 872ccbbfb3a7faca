"""Workspaces from settings: where they are, and whose."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname

from config.load import Configuration
from config.settings import Settings
from gateway.media import Media
from gateway.private_files import private_folder
from gateway.store import Store
from gateway.turns.workspaces import Workspaces
from gateway.workspaces.sync import WorkspaceSync


def workspaces_of(configuration: Configuration, store: Store, sync: WorkspaceSync) -> Workspaces:
    """`sync` is used if the configuration has a place for what it saves."""
    settings = configuration.settings
    of_agents = workspace_roots(settings)
    return Workspaces(
        of_agents.pop(""),
        settings.agent.workspaces,
        store,
        of_agents=of_agents,
        sync=sync if has_shared_media(configuration) else None,
    )


def workspace_sync(configuration: Configuration, store: Store, media: Media) -> WorkspaceSync:
    return WorkspaceSync(store, media, configuration.home, gethostname())


def has_shared_media(configuration: Configuration) -> bool:
    """Whether several machines use the database, and have their media in one place."""
    store, folder = configuration.settings.store, configuration.settings.media.folder
    return store.file is None and (folder is None or not folder.is_relative_to(configuration.home))


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
