"""Deletion of data by a process that runs no gateway."""

from __future__ import annotations

from config.settings import Settings
from gateway.media import DiskMedia
from gateway.store import Store
from gateway.turns.deletion import DataDeletion
from gateway.turns.workspaces import Workspaces


def deletion_without_gateway(settings: Settings, store: Store) -> DataDeletion:
    """Deletes where the settings say that data is."""
    workspaces = Workspaces(settings.agent.workspace, settings.agent.workspaces)
    return DataDeletion(store, DiskMedia(settings.media.path, store).remove, workspaces.remove)
