"""Deletion of data by a process that runs no gateway."""

from __future__ import annotations

from config.settings import Settings
from gateway.assembly.workspaces import workspaces_of
from gateway.media import DiskMedia
from gateway.store import Store
from gateway.turns.deletion import DataDeletion


def deletion_without_gateway(settings: Settings, store: Store) -> DataDeletion:
    """Deletes where the settings say that data is."""
    return DataDeletion(store, DiskMedia(settings.media.path, store).remove, workspaces_of(settings).remove)
